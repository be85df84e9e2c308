//! Files that are given to `lint`: whatever they hold, it says something short, or nothing.

use std::io::Cursor;

use patchferry::lint::{Broken, lint};
use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};

use super::mutation::{byte_changes, changed_bytes, changed_json, check, node_changes, odd_value};

const EXAMPLE: &str = include_str!("../fixtures/aws-example-finding.json");
/// A remark is read by a person, on a terminal.
const REMARK_CHARS_MAX: usize = 800;

/// A finding as a line, a request, an array, and over several lines.
fn samples() -> Vec<String> {
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    vec![
        example.to_string(),
        json!({"Findings": [example, example]}).to_string(),
        json!([example]).to_string(),
        format!("{example:#}\n{example:#}"),
        format!("{example}\n{example}\n"),
    ]
}

fn is_told(input: &[u8]) -> TestCaseResult {
    let mut odd = None;
    let linted = lint(Cursor::new(input), 1_800_000_000_000, &mut |told| {
        let said = told.to_string();
        let is_odd = said.chars().count() > REMARK_CHARS_MAX || said.contains(char::is_control);
        if is_odd {
            odd = Some(said);
        }
        !is_odd
    });
    prop_assert!(odd.is_none(), "{odd:?}");
    prop_assert!(!matches!(linted, Err(Broken::Io(_) | Broken::TooLarge)), "{linted:?}");
    Ok(())
}

#[test]
fn findings_with_changed_members_are_judged() {
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    check("findings, members changed", 10_000, &node_changes(), |changes| {
        is_told(changed_json(&example, &changes).to_string().as_bytes())
    });
}

#[test]
fn findings_with_changed_bytes_are_judged() {
    let strategy = (prop::sample::select(samples()), byte_changes());
    check("findings, bytes changed", 10_000, &strategy, |(sample, changes)| {
        is_told(&changed_bytes(sample.as_bytes(), &changes))
    });
}

#[test]
fn files_of_anything_are_judged() {
    let strategy = prop_oneof![
        any::<Vec<u8>>(),
        "[\\[\\]{}:,\"0-9a-z\\\\.eE+ \n-]{0,60}".prop_map(String::into_bytes),
        "\\{\"Findings\": ?\\[[\\[\\]{}:,\"0-9a-z\\\\ \n-]{0,40}".prop_map(String::into_bytes),
        odd_value().prop_map(|value| value.to_string().into_bytes()),
        (0..3_000_usize).prop_map(|depth| "[".repeat(depth).into_bytes()),
        (0..3_000_usize).prop_map(|depth| "{\"Findings\":[".repeat(depth).into_bytes()),
        (0..3_000_usize).prop_map(|count| format!("{{{}}}", "\"a\":0,".repeat(count)).into_bytes()),
    ];
    check("files of anything", 10_000, &strategy, |input| is_told(&input));
}
