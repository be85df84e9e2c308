//! What `ingest` says of each line, and at the end.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    admin::commands::ingest::RefusedLine,
    cli::{Failed, print},
};

/// How much to say, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Refusals as text, to standard error.
    Refusals,
    /// Acceptances too, to standard output.
    Each,
    /// A JSON object for every line, to standard output.
    Json,
}

#[derive(Serialize)]
struct Told<'a> {
    line: u64,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// What has been answered so far.
#[derive(Debug)]
pub struct Report {
    form: Form,
    pub accepted: u64,
    pub refused: u64,
    blank: u64,
    /// All lines before this one have been answered.
    next_line: u64,
    last_accepted: Option<u64>,
}

impl Report {
    pub fn new(form: Form, from_line: u64) -> Self {
        Self { form, accepted: 0, refused: 0, blank: 0, next_line: from_line, last_accepted: None }
    }

    /// A chunk has been answered.
    pub fn chunk(
        &mut self,
        first_line: u64,
        lines: &[String],
        refused: &[RefusedLine],
    ) -> Result<(), Failed> {
        let mut refusals = refused.iter().peekable();
        let mut text = String::new();
        for (number, line) in (first_line..).zip(lines) {
            self.next_line = number + 1;
            if let Some(refusal) = refusals.next_if(|refusal| refusal.line == number) {
                self.refusal(&mut text, refusal);
            } else if line.trim().is_empty() {
                self.blank += 1;
            } else {
                self.accepted += 1;
                self.last_accepted = Some(number);
                self.acceptance(&mut text, number);
            }
        }
        if text.is_empty() { Ok(()) } else { print(&text) }
    }

    /// A line was refused before it was sent.
    pub fn unfit(&mut self, refusal: &RefusedLine) -> Result<(), Failed> {
        self.next_line = refusal.line + 1;
        let mut text = String::new();
        self.refusal(&mut text, refusal);
        if text.is_empty() { Ok(()) } else { print(&text) }
    }

    fn acceptance(&self, text: &mut String, line: u64) {
        match self.form {
            Form::Refusals => {}
            Form::Each => {
                let _ = writeln!(text, "line {line}: accepted");
            }
            Form::Json => json(text, &Told { line, accepted: true, reason: None }),
        }
    }

    fn refusal(&mut self, text: &mut String, refused: &RefusedLine) {
        self.refused += 1;
        let RefusedLine { line, reason } = refused;
        match self.form {
            Form::Refusals | Form::Each => eprintln!("line {line}: refused: {reason}"),
            Form::Json => {
                json(text, &Told { line: *line, accepted: false, reason: Some(reason) });
            }
        }
    }

    /// All of the input has been answered.
    pub fn summary(&self) -> Result<(), Failed> {
        if self.form == Form::Json {
            return Ok(());
        }
        let Self { accepted, refused, blank, .. } = self;
        let blank = if *blank > 0 { format!(", {blank} blank") } else { String::new() };
        print(&format!("{accepted} accepted (on disk), {refused} refused{blank}"))
    }

    /// How far it came, and how to go on.
    pub fn so_far(&self) -> String {
        let last = self.last_accepted.map_or_else(
            || "no line was accepted".to_string(),
            |line| format!("the last line accepted is {line}"),
        );
        format!(
            "{last} ({} accepted, {} refused); go on with --from-line {}",
            self.accepted, self.refused, self.next_line
        )
    }
}

fn json(text: &mut String, told: &Told<'_>) {
    text.push_str(&serde_json::to_string(told).expect("numbers and texts are JSON"));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_counted_once_and_the_way_on_is_the_first_that_was_not_answered() {
        let mut report = Report::new(Form::Refusals, 7);
        assert!(report.so_far().contains("--from-line 7"));
        let lines = ["{}", "", "x", "{}"].map(String::from);
        let refused = [RefusedLine { line: 9, reason: "no".into() }];
        report.chunk(7, &lines, &refused).unwrap();
        assert_eq!((report.accepted, report.refused, report.blank), (2, 1, 1));
        report.unfit(&RefusedLine { line: 11, reason: "no".into() }).unwrap();
        assert_eq!(
            report.so_far(),
            "the last line accepted is 10 (2 accepted, 2 refused); go on with --from-line 12"
        );
    }

    #[test]
    fn a_line_in_json_has_a_reason_only_if_it_was_refused() {
        let mut text = String::new();
        json(&mut text, &Told { line: 3, accepted: true, reason: None });
        json(&mut text, &Told { line: 4, accepted: false, reason: Some("no") });
        assert_eq!(
            text,
            "{\"line\":3,\"accepted\":true}\n{\"line\":4,\"accepted\":false,\"reason\":\"no\"}\n"
        );
    }
}
