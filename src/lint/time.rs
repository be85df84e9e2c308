//! Timestamps as Security Hub takes them (API Reference, "Timestamps"):
//! `YYYY-MM-DDTHH:MM:SS[.1-9 digits](Z|±HH:MM|±HHMM)`, the offset within ±18:00.

use jiff::{civil::DateTime, tz::TimeZone};

const OFFSET_MINUTES_MAX: i64 = 18 * 60;

/// Milliseconds since the epoch; `None` if it isn't of the form, or no time there is.
pub(super) fn parse(text: &str) -> Option<i64> {
    // Fixed places up to the seconds; everything is ASCII.
    let (local, rest) = text.is_ascii().then(|| text.split_at_checked(19))??;
    let shape: String = local.chars().map(|c| if c.is_ascii_digit() { 'D' } else { c }).collect();
    if shape != "DDDD-DD-DDTDD:DD:DD" {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=9).contains(&digits) {
                return None;
            }
            rest.split_at(digits)
        }
        None => ("", rest),
    };
    let field = |from: usize, to: usize| local[from..to].parse::<i8>().ok();
    let local = DateTime::new(
        local[..4].parse().ok()?,
        field(5, 7)?,
        field(8, 10)?,
        field(11, 13)?,
        field(14, 16)?,
        field(17, 19)?,
        0,
    )
    .ok()?;
    let seconds = TimeZone::UTC.to_timestamp(local).ok()?.as_second();
    let seconds = seconds - offset_minutes(zone)? * 60;
    Some(seconds * 1_000 + millis(fraction))
}

/// Of up to nine decimals; cut, since nothing here is judged by a millisecond.
fn millis(fraction: &str) -> i64 {
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
}

fn offset_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let shape: String = zone.chars().map(|c| if c.is_ascii_digit() { 'D' } else { c }).collect();
    if !matches!(&shape[1..], "DDDD" | "DD:DD") {
        return None;
    }
    let (hours, minutes): (i64, i64) =
        (zone[1..3].parse().ok()?, zone[zone.len() - 2..].parse().ok()?);
    let offset = hours * 60 + minutes;
    (minutes < 60 && offset <= OFFSET_MINUTES_MAX).then_some(sign * offset)
}
