//! Timestamps as Security Hub takes and gives them.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

const OFFSET_SECONDS_MAX: i32 = 18 * 3600;

/// Reads `YYYY-MM-DDTHH:MM:SS[.1-9 digits](Z|±HH:MM|±HHMM)` as milliseconds since the epoch, the
/// nanoseconds rounded (Security Hub API Reference, "Timestamps"). `None` if it is anything else.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return None;
    }
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes[*at] != *separator) {
        return None;
    }
    let (nanos, zone) = fraction_nanos(&text[19..])?;
    let local = DateTime::new(
        i16::try_from(number(&text[..4])?).ok()?,
        i8::try_from(number(&text[5..7])?).ok()?,
        i8::try_from(number(&text[8..10])?).ok()?,
        i8::try_from(number(&text[11..13])?).ok()?,
        i8::try_from(number(&text[14..16])?).ok()?,
        i8::try_from(number(&text[17..19])?).ok()?,
        0,
    )
    .ok()?;
    let seconds = TimeZone::UTC.to_timestamp(local).ok()?.as_second();
    let utc_seconds = seconds - i64::from(offset_seconds(zone)?);
    Some(utc_seconds * 1_000 + i64::from((nanos + 500_000) / 1_000_000))
}

/// Milliseconds since the epoch as the hub writes them.
pub(super) fn format_timestamp(millis: i64) -> String {
    let timestamp = Timestamp::from_millisecond(millis).unwrap_or_default();
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Milliseconds since the epoch as HTTP headers write them (RFC 9110, `IMF-fixdate`).
pub(super) fn format_http_date(millis: i64) -> String {
    let timestamp = Timestamp::from_millisecond(millis).unwrap_or_default();
    timestamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn number(digits: &str) -> Option<i32> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Splits `.123Z` into nanoseconds and the zone.
fn fraction_nanos(rest: &str) -> Option<(i32, &str)> {
    let Some(fraction) = rest.strip_prefix('.') else { return Some((0, rest)) };
    let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let scale = 10_i32.pow(u32::try_from(9 - length).ok()?);
    Some((number(&fraction[..length])? * scale, &fraction[length..]))
}

fn offset_seconds(zone: &str) -> Option<i32> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        4 => (&digits[..2], &digits[2..]),
        5 if digits.as_bytes()[2] == b':' => (&digits[..2], &digits[3..]),
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= OFFSET_SECONDS_MAX).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_of_a_timestamp_is_read() {
        for text in [
            "2018-10-31T23:00:00Z",
            "2018-10-31T23:00:00.123456789Z",
            "2018-11-01T00:30:00+01:30",
            "2018-10-31T21:30:00-0130",
        ] {
            assert_eq!(
                parse_timestamp(text).map(|millis| millis / 1_000),
                Some(1_541_026_800),
                "{text}"
            );
        }
        assert_eq!(parse_timestamp("1970-01-01T00:00:00.0015Z"), Some(2), "rounded, not cut");
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "2018-10-31",
            "2018-10-31 23:00:00Z",
            "2018-10-31T23:00:00",
            "2018-02-30T23:00:00Z",
            "2018-10-31T24:00:00Z",
            "2018-10-31T23:00:00.Z",
            "2018-10-31T23:00:00.1234567890Z",
            "2018-10-31T23:00:00+19:00",
            "2018-10-31T23:00:00z",
            "1541026800000000000000",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_timestamp_is_read_back_to_the_millisecond() {
        let millis = 1_541_026_800_007;
        assert_eq!(format_timestamp(millis), "2018-10-31T23:00:00.007Z");
        assert_eq!(parse_timestamp(&format_timestamp(millis)), Some(millis));
    }
}
