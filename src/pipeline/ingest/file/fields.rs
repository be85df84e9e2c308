//! The fields of one JSON object, taken out by name and checked on the way.
//!
//! Guarantees: a field that is there twice, or that nobody takes, is refused; `null` is the same
//! as absent, as AWS leaves out what it doesn't know; what is repeated of a value in a message is
//! cut to [`SHOWN_CHARS_MAX`] and can't steer a terminal.
//!
//! Deliberately doesn't know: which fields there are, and what they are for.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

use super::door::Refusal;
use crate::record::{Text, UnixMillis};

/// Of a value that is named in a message.
const SHOWN_CHARS_MAX: usize = 100;
/// Names that are this similar may have been meant (Jaro-Winkler, 0 to 1).
const SIMILAR_MIN: f64 = 0.85;

/// See the module.
pub(super) struct Fields {
    /// What to write before a name: where the object is, seen from the line's.
    place: String,
    fields: BTreeMap<String, Value>,
}

impl Fields {
    /// The object that `line` holds, and nothing else.
    pub fn of_line(line: &str) -> Result<Self, Refusal> {
        let fields: Unique = serde_json::from_str(line)
            .map_err(|error| Refusal::NotAnObject(cut(&error.to_string())))?;
        Ok(Self { place: String::new(), fields: fields.0 })
    }

    pub fn of_value(place: String, value: Value) -> Result<Self, Refusal> {
        match value {
            Value::Object(fields) => Ok(Self { place, fields: fields.into_iter().collect() }),
            other => Err(Refusal::WrongType {
                field: place.trim_end_matches('.').to_string(),
                expected: "an object",
                found: shown(&other),
            }),
        }
    }

    /// The value of a field, unless it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    pub fn string(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(name, "a text", &other)),
        }
    }

    pub fn required(&mut self, name: &str) -> Result<String, Refusal> {
        self.string(name)?.ok_or_else(|| Refusal::Missing { field: self.path(name) })
    }

    /// Bounded as its type says; blank is the same as absent.
    pub fn text<const MAX_CHARS: usize>(
        &mut self,
        name: &str,
    ) -> Result<Option<Text<MAX_CHARS>>, Refusal> {
        Ok(self.string(name)?.and_then(|text| Text::non_blank(&text)))
    }

    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong_type(name, "a list", &other)),
        }
    }

    /// A count of patches; absent is 0.
    pub fn count(&mut self, name: &str) -> Result<i32, Refusal> {
        let Some(value) = self.take(name) else { return Ok(0) };
        let Value::Number(number) = &value else {
            return Err(self.wrong_type(name, "a whole number", &value));
        };
        if number.is_f64() {
            return Err(self.wrong_type(name, "a whole number", &value));
        }
        let in_range = number.as_i64().and_then(|count| i32::try_from(count).ok());
        in_range.filter(|count| *count >= 0).ok_or_else(|| Refusal::OutOfRange {
            field: self.path(name),
            found: shown(&value),
            allowed: "a count from 0 to 2147483647",
        })
    }

    /// Seconds since 1970, or RFC 3339; what stands for "no time" is none.
    pub fn time(&mut self, name: &str) -> Result<Option<UnixMillis>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let at = match &value {
            Value::Number(number) => number.as_f64().and_then(UnixMillis::from_epoch_seconds),
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => UnixMillis::parse_rfc3339(text).ok(),
            _ => None,
        };
        let Some(at) = at else {
            let expected = "a time: seconds since 1970, or RFC 3339 (2026-11-24T02:00:00Z)";
            return Err(self.wrong_type(name, expected, &value));
        };
        Ok(at.given())
    }

    pub fn required_time(&mut self, name: &str) -> Result<Option<UnixMillis>, Refusal> {
        if self.fields.get(name).is_none_or(Value::is_null) {
            return Err(Refusal::Missing { field: self.path(name) });
        }
        self.time(name)
    }

    /// Refuses what nobody has taken. `known` are all names that could have been meant.
    pub fn nothing_else<'a>(self, known: impl IntoIterator<Item = &'a str>) -> Result<(), Refusal> {
        let Some(name) = self.fields.keys().next() else { return Ok(()) };
        let similar = known
            .into_iter()
            .map(|known| (strsim::jaro_winkler(known, name), known))
            .filter(|(similarity, _)| *similarity >= SIMILAR_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        Err(Refusal::Foreign {
            field: cut(&self.path(name)),
            meant: similar.map(|(_, known)| known.to_string()),
        })
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    fn wrong_type(&self, name: &str, expected: &'static str, found: &Value) -> Refusal {
        Refusal::WrongType { field: self.path(name), expected, found: shown(found) }
    }
}

/// A value in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        value => cut(&value.to_string()),
    }
}

/// A text that somebody else wrote, short and harmless on a terminal.
pub(super) fn cut(text: &str) -> String {
    let plain: String = text
        .chars()
        .take(SHOWN_CHARS_MAX + 1)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    Text::<SHOWN_CHARS_MAX>::truncated(&plain).as_str().to_string()
}

/// An object none of whose names is there twice.
struct Unique(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        let text = format!("the field `{}` is there twice", cut(&name));
                        return Err(de::Error::custom(text));
                    }
                    fields.insert(name, value);
                }
                Ok(Unique(fields))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
