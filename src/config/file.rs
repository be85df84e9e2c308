//! The configuration file as settings with their lines: which keys are there, nothing about what
//! their values mean.
//!
//! Guarantees: any bytes give settings or problems, never a panic; a key that no rule knows is a
//! problem that names its nearest neighbour.

use std::{collections::BTreeMap, ops::Range, path::Path};

use toml::de::{DeArray, DeTable, DeValue};

use super::{
    error::{Fault, Origin, Problem, hint},
    keys,
    rules::{Raw, wrong_type},
};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub raw: Raw,
    pub origin: Origin,
}

/// Settings by key: those of the file's sections, or those of one entry of a list.
pub(super) type Settings = BTreeMap<String, Setting>;

/// One `[[lanes]]` or `[[sqs]]` entry.
#[derive(Debug)]
pub(super) struct ListEntry {
    pub origin: Origin,
    /// By full path: `lanes.account`.
    pub settings: Settings,
}

#[derive(Debug, Default)]
pub(super) struct FileContent {
    pub settings: Settings,
    /// `None` if the file has no `lanes` at all.
    pub lanes: Option<Vec<ListEntry>>,
    pub queues: Vec<ListEntry>,
    pub problems: Vec<Problem>,
}

pub(super) const LANE_KEYS: [&str; 7] = [
    "lanes.account",
    "lanes.accounts",
    "lanes.regions",
    "lanes.role_arn",
    "lanes.role_name",
    "lanes.external_id",
    "lanes.hub",
];

pub(super) const QUEUE_KEYS: [&str; 4] =
    ["sqs.url", "sqs.region", "sqs.role_arn", "sqs.external_id"];

/// Lists of entries.
const LISTS: [&str; 2] = ["lanes", "sqs"];

/// Reads `bytes` as the file at `path`, which serves for messages only.
pub(super) fn read(path: &Path, bytes: &[u8]) -> FileContent {
    let mut reader = Reader { path, text: "", content: FileContent::default() };
    match std::str::from_utf8(bytes) {
        Err(invalid) => {
            let line = line_of(&bytes[..invalid.valid_up_to()]);
            reader.problem(line, Fault::NotUtf8);
        }
        // A byte order mark is no part of the text.
        Ok(text) => {
            reader.text = text.strip_prefix('\u{feff}').unwrap_or(text);
            match DeTable::parse(reader.text) {
                Ok(document) => reader.document(document.get_ref()),
                Err(error) => {
                    let line = reader.line(error.span().unwrap_or_default());
                    reader.problem(line, Fault::Syntax(error.message().replace('\n', "; ")));
                }
            }
        }
    }
    reader.content.problems.sort_by_key(|problem| match &problem.origin {
        Origin::File { line, .. } => *line,
        _ => 0,
    });
    reader.content
}

/// The line, counted from 1, that follows `before`.
fn line_of(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    content: FileContent,
}

impl Reader<'_> {
    fn line(&self, span: Range<usize>) -> usize {
        let start = span.start.min(self.text.len());
        line_of(&self.text.as_bytes()[..start])
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File { path: self.path.to_path_buf(), line }
    }

    fn problem(&mut self, line: usize, fault: Fault) {
        let origin = self.origin(line);
        self.content.problems.push(Problem { origin, fault });
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let line = self.line(name.span());
            let (name, value) = (name.get_ref().as_ref(), value.get_ref());
            if keys::SECTIONS.contains(&name) {
                self.section(name, line, value);
            } else if name == "lanes" {
                self.lanes(line, value);
            } else if name == "sqs" {
                self.queues(line, value);
            } else if keys::section_of(name).is_empty() && keys::paths().any(|path| path == name) {
                let setting = Setting { raw: raw(value), origin: self.origin(line) };
                self.content.settings.insert(name.to_string(), setting);
            } else {
                self.unknown_at_top(name, line, value);
            }
        }
    }

    fn unknown_at_top(&mut self, name: &str, line: usize, value: &DeValue<'_>) {
        let is_section = match value {
            DeValue::Table(_) => true,
            DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
            _ => false,
        };
        let fault = if is_section {
            let valid = keys::SECTIONS.into_iter().chain(LISTS);
            Fault::UnknownSection { section: shown(name), hint: hint(name, valid) }
        } else {
            Fault::UnknownKey { key: shown(name), hint: hint(name, keys::paths()) }
        };
        self.problem(line, fault);
    }

    fn section(&mut self, section: &str, line: usize, value: &DeValue<'_>) {
        let DeValue::Table(table) = value else {
            let advice = "is a section: write `[…]` with its name, and its keys below";
            return self.problem(line, Fault::Shape { key: section.into(), advice });
        };
        for (name, value) in table {
            let line = self.line(name.span());
            let path = format!("{section}.{}", name.get_ref());
            if keys::paths().any(|known| known == path) {
                let setting = Setting { raw: raw(value.get_ref()), origin: self.origin(line) };
                self.content.settings.insert(path, setting);
            } else {
                let hint = hint_within(&path, section);
                self.problem(line, Fault::UnknownKey { key: shown(&path), hint });
            }
        }
    }

    fn lanes(&mut self, line: usize, value: &DeValue<'_>) {
        let advice = "is a list: write `[[lanes]]`, once for each account, and its keys below";
        let DeValue::Array(entries) = value else {
            return self.problem(line, Fault::Shape { key: "lanes".into(), advice });
        };
        if entries.is_empty() {
            let advice = "is empty: leave it out to serve the caller's own account and Region";
            self.problem(line, Fault::Shape { key: "lanes".into(), advice });
        }
        let lanes = self.entries("lanes", &LANE_KEYS, entries, advice);
        self.content.lanes = Some(lanes);
    }

    fn queues(&mut self, line: usize, value: &DeValue<'_>) {
        let advice = "is a list: write `[[sqs]]`, once for each queue, and its keys below";
        match value {
            DeValue::Array(entries) => {
                self.content.queues = self.entries("sqs", &QUEUE_KEYS, entries, advice);
            }
            _ => self.problem(line, Fault::Shape { key: "sqs".into(), advice }),
        }
    }

    fn entries(
        &mut self,
        list: &str,
        keys: &[&'static str],
        entries: &DeArray<'_>,
        advice: &'static str,
    ) -> Vec<ListEntry> {
        let mut read = Vec::new();
        for entry in entries {
            let line = self.line(entry.span());
            match entry.get_ref() {
                DeValue::Table(table) => read.push(self.entry(list, keys, line, table)),
                _ => self.problem(line, Fault::Shape { key: list.into(), advice }),
            }
        }
        read
    }

    fn entry(
        &mut self,
        list: &str,
        keys: &[&'static str],
        line: usize,
        table: &DeTable<'_>,
    ) -> ListEntry {
        let mut settings = Settings::new();
        for (name, value) in table {
            let line = self.line(name.span());
            let path = format!("{list}.{}", name.get_ref());
            if keys.contains(&path.as_str()) {
                let setting = Setting { raw: raw(value.get_ref()), origin: self.origin(line) };
                settings.insert(path, setting);
            } else {
                let hint = hint(&path, keys.iter().copied());
                self.problem(line, Fault::UnknownKey { key: shown(&path), hint });
            }
        }
        ListEntry { origin: self.origin(line), settings }
    }
}

/// The nearest key of all, or else the list of the section's own.
fn hint_within(path: &str, section: &str) -> String {
    match super::error::nearest(path, keys::paths()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => hint("", keys::paths().filter(|known| keys::section_of(known) == section)),
    }
}

fn shown(name: &str) -> String {
    super::rules::shortened(name)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(
                // Beyond i64: a float is near enough to be told that it is out of range.
                |_| number.as_str().parse().map_or(Raw::Other("number"), Raw::Float),
                Raw::Integer,
            )
        }
        DeValue::Float(number) => number.as_str().parse().map_or(Raw::Other("number"), Raw::Float),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("table"),
    }
}

/// For keys of lists, whose modules read them themselves.
pub(super) fn expect_text<'a>(key: &str, setting: &'a Setting) -> Result<&'a str, Fault> {
    match &setting.raw {
        Raw::String(text) => Ok(text),
        other => Err(wrong_type(key, "a string in quotes", other)),
    }
}
