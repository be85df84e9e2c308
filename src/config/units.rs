//! Durations and sizes as people write them, both ways and without loss.
//!
//! Deliberately doesn't know: keys and their ranges.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// `4GiB`, `256 MiB`, `1000`; `None` if `text` is no size or more than `u64` holds.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let count: u64 = digits.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Some(count);
    }
    let (_, unit_bytes) = BYTE_UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    count.checked_mul(*unit_bytes)
}

/// The largest binary unit that says it exactly.
pub(super) fn format_bytes(bytes: u64) -> String {
    BYTE_UNITS
        .iter()
        .take(4)
        .find(|(_, unit_bytes)| bytes >= *unit_bytes && bytes.is_multiple_of(*unit_bytes))
        .map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// The largest unit that says it exactly, down to milliseconds.
pub(super) fn format_duration(duration: Duration) -> String {
    const UNITS_MS: [(&str, u128); 4] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let duration_ms = duration.as_millis();
    UNITS_MS
        .iter()
        .find(|(_, unit_ms)| duration_ms >= *unit_ms && duration_ms.is_multiple_of(*unit_ms))
        .map_or_else(
            || format!("{duration_ms}ms"),
            |(name, unit)| format!("{}{name}", duration_ms / unit),
        )
}

/// `text` as a TOML string, quoted and escaped.
pub(super) fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        for (text, bytes) in [
            ("4GiB", Some(4 << 30)),
            ("256 MiB", Some(256 << 20)),
            ("1kb", Some(1000)),
            ("17", Some(17)),
            ("17B", Some(17)),
            ("1.5GiB", None),
            ("-1", None),
            ("99999999TiB", None),
            ("GiB", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_exact_unit() {
        for (seconds, text) in [(300, "5m"), (34_560_000, "400d"), (90, "90s"), (0, "0ms")] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_duration(Duration::from_millis(1_500)), "1500ms");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_the_same(bytes: u64, duration_ms in 0..u64::from(u32::MAX)) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
            let duration = Duration::from_millis(duration_ms);
            prop_assert_eq!(
                humantime::parse_duration(&format_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = parse_bytes(&text);
        }
    }
}
