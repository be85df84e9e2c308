//! A value against its shape: what is there, of which kind, and how much of it.

use super::{
    json::Json,
    report::{Path, Remarks, shown},
    schema::{NAMESPACES, PARTITIONS, PARTITIONS_UNLISTED},
    shape::{Kind, Member},
    time,
};

/// Longer texts are told of where AWS states no limit.
const UNSTATED_CHARS_MAX: usize = 2_048;
/// Members of one object that are looked at; no object of ASFF has as many.
const MEMBERS_MAX: usize = 256;
/// Unknown members of one object for which a known one is looked for.
const SUGGESTIONS_MAX: usize = 16;
/// How alike two names must be to be suggested, 0 to 1: a slip of a few letters, not a guess.
const LIKENESS_MIN: f64 = 0.6;
/// A longer name is no slip, and comparing it costs its length squared.
const COMPARED_CHARS_MAX: usize = 64;

/// An object's members: known ones by their shapes, unknown and missing ones by name.
pub(super) fn object(at: &Path<'_>, value: &Json, shape: &[Member], remarks: &mut Remarks) {
    let Json::Object(members) = value else {
        remarks.error(at, format!("is {}; an object is expected", value.kind()));
        return;
    };
    if members.len() > MEMBERS_MAX {
        let text = format!("has {} members; {MEMBERS_MAX} were looked at", members.len());
        remarks.error(at, text);
    }
    let mut suggestions_left = SUGGESTIONS_MAX;
    for (index, (name, value)) in members.iter().take(MEMBERS_MAX).enumerate() {
        let at = at.member(name);
        if members[..index].iter().any(|(earlier, _)| earlier == name) {
            remarks.error(at, "is there twice");
        }
        let Some(member) = shape.iter().find(|member| member.name == name) else {
            let known = if suggestions_left > 0 { shape } else { &[] };
            suggestions_left = suggestions_left.saturating_sub(1);
            remarks.warning(at, unknown(name, known));
            continue;
        };
        if *value == Json::Null {
            remarks.warning(at, "is null: leave it out");
            continue;
        }
        if let Some(advice) = member.advice {
            remarks.warning(at, advice);
        }
        check(&at, value, &member.kind, remarks);
    }
    for member in shape.iter().filter(|member| member.required) {
        if value.get(member.name).is_none() {
            remarks.error(at.member(member.name), "is missing: it is required");
        }
    }
}

fn unknown(name: &str, shape: &[Member]) -> String {
    let known = shape.iter().map(|member| member.name);
    let mean = nearest(name, known).map(|name| format!("; did you mean {name}?"));
    format!("isn't a member that ASFF has{}", mean.unwrap_or_default())
}

fn check(at: &Path<'_>, value: &Json, kind: &Kind, remarks: &mut Remarks) {
    match kind {
        Kind::Object(shape) => object(at, value, shape, remarks),
        Kind::List { items_min, items_max, of } => {
            list(at, value, (*items_min, *items_max), of, remarks);
        }
        Kind::AnyList(of) => list(at, value, (0, usize::MAX), of, remarks),
        Kind::Pairs { pairs_max, key_chars_max, value_chars_max } => {
            pairs(at, value, *pairs_max, (*key_chars_max, *value_chars_max), remarks);
        }
        Kind::Count { max } => count(at, value, *max, remarks),
        Kind::Number => match value {
            Json::Integer(_) | Json::Number => {}
            _ => expected(at, value, "a number", remarks),
        },
        Kind::Bool if !matches!(value, Json::Bool(_)) => {
            expected(at, value, "true or false", remarks);
        }
        Kind::Bool | Kind::Unchecked => {}
        _ => match value {
            Json::Text(text) => check_text(at, text, kind, remarks),
            _ => expected(at, value, "a text", remarks),
        },
    }
}

fn check_text(at: &Path<'_>, text: &str, kind: &Kind, remarks: &mut Remarks) {
    match kind {
        Kind::Text { chars_min, chars_max } => {
            limited(at, text, (*chars_min, *chars_max), remarks);
        }
        Kind::Url => {
            any_text(at, text, remarks);
            let is_url = ["https://", "http://"].iter().any(|start| text.starts_with(start));
            if !is_url && !is_blank(text) {
                let text = format!("is {}; it must begin with https:// or http://", shown(text));
                remarks.error(at, text);
            }
        }
        Kind::Time => {
            if time::parse(text).is_none() {
                let text = format!(
                    "is {}; a time is YYYY-MM-DDTHH:MM:SS, up to 9 decimals, then Z or an offset \
                     up to 18:00, such as 2026-01-31T23:59:59.123Z",
                    shown(text)
                );
                remarks.error(at, text);
            }
        }
        Kind::Account => {
            if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                remarks.error(at, format!("is {}; an account id has 12 digits", shown(text)));
            }
        }
        Kind::OneOf(allowed) => one_of(at, text, allowed, remarks),
        Kind::Partition => {
            if PARTITIONS_UNLISTED.contains(&text) {
                let text = format!("{text} isn't in the model, which has {}", listed(PARTITIONS));
                remarks.warning(at, text);
            } else {
                one_of(at, text, PARTITIONS, remarks);
            }
        }
        Kind::FindingType => finding_type(at, text, remarks),
        _ => any_text(at, text, remarks),
    }
}

fn limited(at: &Path<'_>, text: &str, (min, max): (usize, usize), remarks: &mut Remarks) {
    let chars = text.chars().count();
    if is_blank(text) {
        remarks.error(at, blank(text));
    } else if !(min..=max).contains(&chars) {
        remarks.error(at, format!("has {chars} characters; allowed: {min} to {max}"));
    }
}

fn any_text(at: &Path<'_>, text: &str, remarks: &mut Remarks) {
    if is_blank(text) {
        remarks.error(at, blank(text));
        return;
    }
    let chars = text.chars().count();
    if chars > UNSTATED_CHARS_MAX {
        let text = format!("has {chars} characters: AWS states no limit, but hardly means so many");
        remarks.warning(at, text);
    }
}

fn blank(text: &str) -> &'static str {
    if text.is_empty() { "is empty; leave it out" } else { "is nothing but white space" }
}

/// By ECMAScript's `\s`, by which the service judges: it has U+FEFF as well.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}

fn one_of(at: &Path<'_>, text: &str, allowed: &[&'static str], remarks: &mut Remarks) {
    if !allowed.contains(&text) {
        remarks.error(at, format!("is {}; allowed: {}", shown(text), listed(allowed)));
    }
}

/// The service checks `^([^/]+)(/[^/]+){0,2}$` (prowler-cloud/prowler#2519); which namespaces
/// there are is documentation.
fn finding_type(at: &Path<'_>, text: &str, remarks: &mut Remarks) {
    any_text(at, text, remarks);
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 3 || parts.iter().any(|part| is_blank(part)) {
        let text = format!("is {}; a type is namespace/category/classifier", shown(text));
        remarks.error(at, text);
    } else if !NAMESPACES.contains(&parts[0]) {
        let text =
            format!("{} isn't a namespace; there are {}", shown(parts[0]), listed(NAMESPACES));
        remarks.warning(at, text);
    }
}

fn list(at: &Path<'_>, value: &Json, (min, max): (usize, usize), of: &Kind, remarks: &mut Remarks) {
    let Json::List(items) = value else { return expected(at, value, "a list", remarks) };
    if !(min..=max).contains(&items.len()) {
        remarks.error(at, format!("has {} items; allowed: {min} to {max}", items.len()));
    }
    for (index, item) in items.iter().enumerate() {
        check(&at.index(index), item, of, remarks);
    }
}

fn pairs(
    at: &Path<'_>,
    value: &Json,
    pairs_max: usize,
    (key_max, value_max): (usize, usize),
    remarks: &mut Remarks,
) {
    let Json::Object(pairs) = value else { return expected(at, value, "a map of texts", remarks) };
    if pairs.len() > pairs_max {
        remarks.error(at, format!("has {} pairs; allowed: up to {pairs_max}", pairs.len()));
    }
    let mut keys = std::collections::HashSet::new();
    for (key, value) in pairs {
        let at = at.member(key);
        if !keys.insert(key) {
            remarks.error(at, "is there twice");
        }
        let chars = key.chars().count();
        if is_blank(key) {
            remarks.error(at, "its key is blank");
        } else if chars > key_max {
            remarks.error(at, format!("its key has {chars} characters; allowed: up to {key_max}"));
        }
        match value {
            Json::Text(text) => limited(&at, text, (1, value_max), remarks),
            _ => expected(&at, value, "a text", remarks),
        }
    }
}

fn count(at: &Path<'_>, value: &Json, max: i64, remarks: &mut Remarks) {
    match value {
        Json::Integer(count) if (0..=max).contains(count) => {}
        Json::Integer(count) => {
            remarks.error(at, format!("is {count}; allowed: 0 to {max}"));
        }
        _ => expected(at, value, &format!("a whole number, 0 to {max},"), remarks),
    }
}

fn expected(at: &Path<'_>, value: &Json, what: &str, remarks: &mut Remarks) {
    remarks.error(at, format!("is {}; {what} is expected", value.kind()));
}

fn listed(names: &[&str]) -> String {
    names.join(", ")
}

fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given: String = given.chars().take(COMPARED_CHARS_MAX).collect::<String>().to_lowercase();
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&given, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
