//! How a raw value becomes a trusted one: one rule per kind of value, each with its limits.
//!
//! Guarantees: a value that a rule has let through needs no further check anywhere; `write` gives
//! TOML that `read` accepts and that means the same value.
//!
//! Deliberately doesn't know: which keys exist, and where values come from.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    error::{Fault, nearest},
    units::{format_bytes, format_duration, parse_bytes, quote},
};
use crate::record::Text;

/// A value before it is understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// From a place without types (a variable, a flag, a built-in default).
    Words(String),
    String(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Raw>),
    /// Something that no key takes; the name of its type.
    Other(&'static str),
}

impl Raw {
    /// For messages: the type, and the value where that helps.
    fn describe(&self) -> String {
        match self {
            Self::Words(text) => quote(&shortened(text)),
            Self::String(text) => format!("the string {}", quote(&shortened(text))),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Flag(flag) => format!("{flag}"),
            Self::List(_) => "a list".into(),
            Self::Other(name) => format!("a {name}"),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Words(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Values are repeated in messages up to this length.
const SHOWN_CHARS_MAX: usize = 80;

pub(super) fn shortened(text: &str) -> String {
    Text::<SHOWN_CHARS_MAX>::truncated(text).to_string()
}

pub(super) fn wrong_type(key: &str, expected: &str, found: &Raw) -> Fault {
    Fault::WrongType { key: key.into(), expected: expected.into(), found: found.describe() }
}

fn invalid(key: &str, reason: impl Into<String>) -> Fault {
    Fault::Invalid { key: key.into(), reason: reason.into() }
}

fn in_range<T: PartialOrd>(
    key: &str,
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, Fault> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Fault::OutOfRange {
        key: key.into(),
        value: show(&value),
        allowed: format!("{} to {}", show(range.start()), show(range.end())),
    })
}

/// A kind of value with its limits.
pub(super) trait Rule {
    type Value;
    fn read(&self, key: &str, raw: &Raw) -> Result<Self::Value, Fault>;
    /// As TOML; `None` if there is nothing to write (an unset optional value).
    fn write(&self, value: &Self::Value) -> Option<String>;
    /// Whether a value is never shown.
    fn is_hidden(&self) -> bool {
        false
    }
}

pub(super) struct DurationRule(pub RangeInclusive<Duration>);

impl Rule for DurationRule {
    type Value = Duration;
    fn read(&self, key: &str, raw: &Raw) -> Result<Duration, Fault> {
        let expected = "a duration such as \"90s\", \"5m\" or \"7d\"";
        let duration = raw
            .text()
            .and_then(|text| humantime::parse_duration(text).ok())
            .ok_or_else(|| wrong_type(key, expected, raw))?;
        in_range(key, duration, &self.0, |d| format_duration(*d))
    }
    fn write(&self, value: &Duration) -> Option<String> {
        Some(quote(&format_duration(*value)))
    }
}

pub(super) struct BytesRule(pub RangeInclusive<u64>);

impl Rule for BytesRule {
    type Value = u64;
    fn read(&self, key: &str, raw: &Raw) -> Result<u64, Fault> {
        let bytes = match raw {
            Raw::Integer(number) => u64::try_from(*number).ok(),
            other => other.text().and_then(parse_bytes),
        };
        let bytes = bytes.ok_or_else(|| wrong_type(key, "a size such as \"256MiB\"", raw))?;
        in_range(key, bytes, &self.0, |b| format_bytes(*b))
    }
    fn write(&self, value: &u64) -> Option<String> {
        Some(quote(&format_bytes(*value)))
    }
}

pub(super) struct CountRule(pub RangeInclusive<u32>);

impl Rule for CountRule {
    type Value = u32;
    fn read(&self, key: &str, raw: &Raw) -> Result<u32, Fault> {
        let number = match raw {
            Raw::Integer(number) => Some(*number),
            Raw::Words(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| wrong_type(key, "a whole number", raw))?;
        let range = i64::from(*self.0.start())..=i64::from(*self.0.end());
        let number = in_range(key, number, &range, i64::to_string)?;
        Ok(u32::try_from(number).expect("a number in a range of u32 is a u32"))
    }
    fn write(&self, value: &u32) -> Option<String> {
        Some(value.to_string())
    }
}

/// A number of something per second; fractions allowed.
pub(super) struct RateRule(pub RangeInclusive<f64>);

impl Rule for RateRule {
    type Value = f64;
    fn read(&self, key: &str, raw: &Raw) -> Result<f64, Fault> {
        #[allow(clippy::cast_precision_loss)] // beyond 2^53 it is out of range anyway
        let number = match raw {
            Raw::Integer(number) => Some(*number as f64),
            Raw::Float(number) => Some(*number),
            Raw::Words(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| wrong_type(key, "a number", raw))?;
        in_range(key, number, &self.0, f64::to_string)
    }
    fn write(&self, value: &f64) -> Option<String> {
        Some(value.to_string())
    }
}

pub(super) struct FlagRule;

impl Rule for FlagRule {
    type Value = bool;
    fn read(&self, key: &str, raw: &Raw) -> Result<bool, Fault> {
        match raw {
            Raw::Flag(flag) => Ok(*flag),
            Raw::Words(text) if text == "true" => Ok(true),
            Raw::Words(text) if text == "false" => Ok(false),
            _ => Err(wrong_type(key, "true or false", raw)),
        }
    }
    fn write(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// One of a few words, each with its meaning.
pub(super) struct ChoiceRule<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Rule for ChoiceRule<T> {
    type Value = T;
    fn read(&self, key: &str, raw: &Raw) -> Result<T, Fault> {
        let words = || self.0.iter().map(|(word, _)| *word);
        let expected = || words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let text =
            raw.text().ok_or_else(|| wrong_type(key, &format!("one of {}", expected()), raw))?;
        if let Some((_, value)) = self.0.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let hint = nearest(text, words()).map(|word| format!("; did you mean \"{word}\"?"));
        Err(Fault::OutOfRange {
            key: key.into(),
            value: quote(&shortened(text)),
            allowed: expected() + &hint.unwrap_or_default(),
        })
    }
    fn write(&self, value: &T) -> Option<String> {
        self.0.iter().find(|(_, known)| known == value).map(|(word, _)| quote(word))
    }
}

/// An optional text of 1 to `MAX_CHARS` characters, not blank; unset is the empty default.
pub(super) struct TextRule<const MAX_CHARS: usize>;

impl<const MAX_CHARS: usize> Rule for TextRule<MAX_CHARS> {
    type Value = Option<Text<MAX_CHARS>>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Self::Value, Fault> {
        let text = raw.text().ok_or_else(|| wrong_type(key, "a string", raw))?;
        let chars = text.chars().count();
        if text.trim().is_empty() || chars > MAX_CHARS {
            return Err(Fault::OutOfRange {
                key: key.into(),
                value: format!("a text of {chars} characters"),
                allowed: format!("1 to {MAX_CHARS} characters, not all of them blanks"),
            });
        }
        Ok(Some(Text::truncated(text)))
    }
    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().map(|text| quote(text.as_str()))
    }
}

/// `IP:port`; names are refused, so that what is listened on never depends on DNS.
pub(super) struct ListenRule;

impl Rule for ListenRule {
    type Value = SocketAddr;
    fn read(&self, key: &str, raw: &Raw) -> Result<SocketAddr, Fault> {
        raw.text().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            wrong_type(key, "an IP address and a port such as \"127.0.0.1:9464\"", raw)
        })
    }
    fn write(&self, value: &SocketAddr) -> Option<String> {
        Some(quote(&value.to_string()))
    }
}

/// Host names without port; a list, or words parted by commas.
pub(super) struct HostsRule;

/// Names that a status page is plausibly reached by; the bound keeps the check cheap.
const HOSTS_MAX: usize = 32;

impl Rule for HostsRule {
    type Value = Vec<String>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Vec<String>, Fault> {
        let hosts: Option<Vec<String>> = match raw {
            Raw::List(items) => items.iter().map(|item| item.text().map(String::from)).collect(),
            Raw::Words(text) => Some(
                text.split(',')
                    .map(|host| host.trim().to_string())
                    .filter(|h| !h.is_empty())
                    .collect(),
            ),
            _ => None,
        };
        let hosts = hosts.ok_or_else(|| wrong_type(key, "a list of host names", raw))?;
        if hosts.len() > HOSTS_MAX {
            return Err(invalid(key, format!("at most {HOSTS_MAX} host names")));
        }
        match hosts.iter().find(|host| !is_host_name(host)) {
            Some(host) => Err(invalid(
                key,
                format!("{} is not a host name without port", quote(&shortened(host))),
            )),
            None => Ok(hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()),
        }
    }
    fn write(&self, value: &Vec<String>) -> Option<String> {
        let hosts: Vec<String> = value.iter().map(|host| quote(host)).collect();
        Some(format!("[{}]", hosts.join(", ")))
    }
}

fn is_host_name(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Log directives: a level, or `target=level` parted by commas.
pub(super) struct LevelRule;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Rule for LevelRule {
    type Value = String;
    fn read(&self, key: &str, raw: &Raw) -> Result<String, Fault> {
        let text = raw.text().ok_or_else(|| wrong_type(key, "a level such as \"info\"", raw))?;
        if text.len() > 512 {
            return Err(invalid(key, "at most 512 characters"));
        }
        for directive in text.split(',').map(str::trim) {
            let level = match directive.split_once('=') {
                Some((target, level)) if is_log_target(target) => level,
                Some((target, _)) => {
                    return Err(invalid(
                        key,
                        format!("{} is no log target", quote(&shortened(target))),
                    ));
                }
                None => directive,
            };
            if !LEVELS.contains(&level) {
                return Err(Fault::OutOfRange {
                    key: key.into(),
                    value: quote(&shortened(level)),
                    allowed: format!("{}, or such as \"info,aws_config=debug\"", LEVELS.join(", ")),
                });
            }
        }
        Ok(text.to_string())
    }
    fn write(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

fn is_log_target(target: &str) -> bool {
    !target.is_empty()
        && target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'))
}

/// A directory; unset by default. `~` is the shell's, not ours, so it is refused.
pub(super) struct PathRule;

impl Rule for PathRule {
    type Value = Option<PathBuf>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Option<PathBuf>, Fault> {
        let text = raw.text().ok_or_else(|| wrong_type(key, "a path in quotes", raw))?;
        let path = PathBuf::from(text);
        if !path.is_absolute() || text.contains('\0') {
            return Err(invalid(
                key,
                format!(
                    "{} is not an absolute path: it must begin with /",
                    quote(&shortened(text))
                ),
            ));
        }
        Ok(Some(path))
    }
    fn write(&self, value: &Option<PathBuf>) -> Option<String> {
        value.as_ref().map(|path| quote(&path.to_string_lossy()))
    }
}

/// The ARN of a product in Security Hub; which lanes it fits is checked with the lanes.
pub(super) struct ProductArnRule;

impl Rule for ProductArnRule {
    type Value = Option<Text<2048>>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Self::Value, Fault> {
        let text = raw.text().ok_or_else(|| wrong_type(key, "an ARN in quotes", raw))?;
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let well_formed = matches!(parts[..], ["arn", partition, "securityhub", region, _, resource]
            if partition.starts_with("aws") && !region.is_empty()
                && resource.strip_prefix("product/").is_some_and(|rest| rest.contains('/')))
            && text.len() <= 2048
            && text.bytes().all(|b| b.is_ascii_graphic());
        if !well_formed {
            return Err(invalid(
                key,
                format!(
                    "{} is not a product ARN: expected arn:<partition>:securityhub:<region>:<account>:product/<company>/<product>",
                    quote(&shortened(text))
                ),
            ));
        }
        Ok(Some(Text::truncated(text)))
    }
    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().map(|arn| quote(arn.as_str()))
    }
}
