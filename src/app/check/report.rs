//! What a check has come to: a line per matter, by lane, with advice where somebody has to act.

use std::{fmt::Write as _, path::PathBuf};

use serde::Serialize;

use super::predict::Prediction;
use crate::record::Lane;

/// How a matter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// It works, but not as it could, or not for long.
    Warn,
    /// It doesn't work.
    Fail,
    /// It wasn't tried, because something before it failed.
    Skipped,
}

impl Outcome {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "-",
        }
    }
}

/// One matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What was checked: a word, or an action such as `ssm:DescribeInstancePatches`.
    pub check: String,
    pub outcome: Outcome,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// A permission that isn't granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub action: String,
    /// As AWS tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The statement of `patchferry iam-policy` that grants it.
    pub sid: String,
    /// The part of `patchferry iam-policy` in which it stands.
    pub part: &'static str,
    /// Whose policy that is.
    pub holder: String,
}

impl Item {
    pub fn ok(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Outcome::Ok, text, None)
    }

    pub fn warn(check: &str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Outcome::Warn, text, Some(advice.into()))
    }

    pub fn fail(check: &str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Outcome::Fail, text, Some(advice.into()))
    }

    pub fn skipped(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skipped, text, None)
    }

    fn new(check: &str, outcome: Outcome, text: impl Into<String>, advice: Option<String>) -> Self {
        Self { check: check.to_string(), outcome, text: text.into(), advice, missing: None }
    }
}

/// What a lane's check has come to.
#[derive(Clone, Debug, Serialize)]
pub struct LaneReport {
    pub lane: Lane,
    /// The role that is assumed; absent: the daemon's own credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    pub items: Vec<Item>,
    /// Absent if the nodes couldn't be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
    #[serde(skip)]
    pub is_aws_reached: bool,
}

impl LaneReport {
    /// Of a lane whose turn didn't come in time, or whose calls hang.
    pub fn not_checked(lane: Lane) -> Self {
        let advice = "give more time with --timeout, or check fewer lanes with --lane";
        let items = vec![Item::fail("time", "not checked to its end in the time given", advice)];
        Self { lane, role_arn: None, items, predicted: None, is_aws_reached: false }
    }

    /// Of a lane that was asked for and isn't there.
    pub fn not_served(lane: Lane) -> Self {
        let advice = "add it under [[lanes]], or ask where it is served";
        let items = vec![Item::fail("lane", "not served here", advice)];
        Self { lane, role_arn: None, items, predicted: None, is_aws_reached: false }
    }

    fn worst(&self) -> Outcome {
        let has = |outcome| self.items.iter().any(|item| item.outcome == outcome);
        if has(Outcome::Fail) {
            Outcome::Fail
        } else if has(Outcome::Warn) {
            Outcome::Warn
        } else {
            Outcome::Ok
        }
    }
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    /// `None`: no file is read.
    pub config: Option<PathBuf>,
    pub failures: usize,
    pub warnings: usize,
    pub machine: Vec<Item>,
    pub lanes: Vec<LaneReport>,
    #[serde(skip)]
    pub is_aws_reached: bool,
}

/// More lanes than this are told of in a line each, if all is well with them.
const LANES_IN_FULL_MAX: usize = 4;
const COLUMNS_MAX: usize = 100;
const INDENT: &str = "        ";

impl Report {
    pub fn new(
        config: Option<PathBuf>,
        machine: Vec<Item>,
        lanes: Vec<LaneReport>,
        is_aws_reached: bool,
    ) -> Self {
        let items = || machine.iter().chain(lanes.iter().flat_map(|lane| &lane.items));
        let count = |outcome| items().filter(|item| item.outcome == outcome).count();
        let (failures, warnings) = (count(Outcome::Fail), count(Outcome::Warn));
        let version = env!("CARGO_PKG_VERSION");
        Self { version, config, failures, warnings, machine, lanes, is_aws_reached }
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is JSON")
    }

    /// For a terminal; with `is_verbose`, lanes with which all is well in full, too.
    #[must_use]
    pub fn to_text(&self, is_verbose: bool) -> String {
        let mut text = String::from("this machine\n");
        write_items(&mut text, &self.machine);
        let in_full = is_verbose || self.lanes.len() <= LANES_IN_FULL_MAX;
        for lane in &self.lanes {
            let with = match &lane.role_arn {
                Some(role) => format!("by {role}"),
                None => "with the daemon's own credentials".into(),
            };
            if !in_full && lane.worst() == Outcome::Ok {
                let _ = writeln!(text, "{}  ok: {} checks", lane.lane, lane.items.len());
                continue;
            }
            let _ = writeln!(text, "\n{}  {with}", lane.lane);
            write_items(&mut text, &lane.items);
            for line in lane.predicted.iter().flat_map(Prediction::lines) {
                let _ = writeln!(text, "  {line}");
            }
        }
        let _ = writeln!(text, "\n{}", self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let lanes = self.lanes.len();
        let failing = self.lanes.iter().filter(|lane| lane.worst() == Outcome::Fail).count();
        if self.failures == 0 {
            let warnings = plural(self.warnings, "warning");
            return format!("OK: {}, {warnings}", plural(lanes, "lane"));
        }
        format!(
            "NOT READY: {}, {}; {failing} of {} can't work",
            plural(self.failures, "failure"),
            plural(self.warnings, "warning"),
            plural(lanes, "lane"),
        )
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn write_items(text: &mut String, items: &[Item]) {
    let width = items.iter().map(|item| item.check.len()).max().unwrap_or(0);
    for item in items {
        let head = format!("  {:<4}  {:<width$}  ", item.outcome.mark(), item.check);
        write_wrapped(text, &head, &item.text);
        if let Some(advice) = &item.advice {
            write_wrapped(text, &format!("{INDENT}-> "), advice);
        }
    }
}

/// Breaks between words; what has no break stays whole, so that an ARN can be copied.
fn write_wrapped(text: &mut String, head: &str, words: &str) {
    let indent = " ".repeat(head.len().min(INDENT.len() + 3));
    let mut line = head.to_string();
    let mut is_fresh = true;
    for word in words.split_whitespace() {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            let _ = writeln!(text, "{}", line.trim_end());
            line.clone_from(&indent);
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
