//! Lines that are handed in: whatever they hold, they are let in or refused in one short line.

use patchferry::{
    pipeline::{
        ingest::file::door::{Line, read},
        validate::{UnspecifiedSeverity, assess},
    },
    queue::Accepted,
    record::{Observation, ReadNumber, Source, UnixMillis},
};
use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};

use super::mutation::{byte_changes, changed_bytes, changed_json, check, node_changes, odd_value};

/// A refusal is read by a person, on a terminal.
const REASON_CHARS_MAX: usize = 500;

fn samples() -> Vec<Value> {
    let bare = json!({
        "Account": "111122223333", "Region": "us-east-1", "InstanceId": "i-02573cafcfEXAMPLE",
        "PatchGroup": "web", "BaselineId": "pb-0123456789abcdef0", "InstalledCount": 32,
        "MissingCount": 2, "FailedCount": 0, "NotApplicableCount": 2671,
        "OperationStartTime": 1_636_668_300.5,
        "OperationEndTime": "2021-11-11T22:05:25.123000+00:00", "Operation": "Scan",
        "CriticalNonCompliantCount": 1, "RebootOption": "NoReboot"
    });
    let mut full = bare.clone();
    for (name, value) in [
        ("InstanceId", json!("mi-0123456789abcdef0")),
        ("ResourceType", json!("ManagedInstance")),
        ("ComputerName", json!("web-1")),
        ("IPAddress", json!("10.0.0.1")),
        ("PlatformName", json!("Amazon Linux")),
        ("AssociationOverview", json!({"DetailedStatus": "Success"})),
        (
            "Patches",
            json!([
                {"Title": "t", "KBId": "KB1", "Classification": "Security", "State": "Missing",
                 "Severity": "Critical", "InstalledTime": 0, "CVEIds": "CVE-2024-1,CVE-2024-2"},
                {"Title": "u", "KBId": "KB2", "Classification": "", "State": "INSTALLED_REJECTED",
                 "Severity": "", "InstalledTime": "2021-11-11T22:05:25Z"}
            ]),
        ),
    ] {
        full[name] = value;
    }
    vec![bare, full]
}

/// What is let in can be judged further; what isn't is refused in one line.
fn is_judged(line: &str) -> TestCaseResult {
    match read(line) {
        Ok(None) => prop_assert!(line.trim().is_empty()),
        Ok(Some(line)) => goes_on(line),
        Err(refusal) => {
            let said = refusal.to_string();
            prop_assert!(said.chars().count() <= REASON_CHARS_MAX, "{}", said);
            prop_assert!(!said.contains(char::is_control), "{:?}", said);
        }
    }
    Ok(())
}

fn goes_on(line: Line) {
    let at = UnixMillis(1_800_000_000_000);
    let observation = Observation {
        node: line.node.as_str().into(),
        read: ReadNumber(1),
        read_at: at,
        source: Source::File,
        compliance: None,
        patch_state: Some(line.patch_state),
        node_info: line.node_info,
        patches: None,
        gone: None,
    };
    let _ = assess(&Accepted { at, observation }, UnspecifiedSeverity::Counts);
}

#[test]
fn a_line_with_changed_fields_is_let_in_or_refused() {
    let strategy = (prop::sample::select(samples()), node_changes());
    check("lines, fields changed", 20_000, &strategy, |(sample, changes)| {
        is_judged(&changed_json(&sample, &changes).to_string())
    });
}

#[test]
fn a_line_with_changed_bytes_is_let_in_or_refused() {
    let strategy = (prop::sample::select(samples()), byte_changes());
    check("lines, bytes changed", 20_000, &strategy, |(sample, changes)| {
        let bytes = changed_bytes(sample.to_string().as_bytes(), &changes);
        is_judged(&String::from_utf8_lossy(&bytes))
    });
}

#[test]
fn a_line_of_anything_is_let_in_or_refused() {
    let strategy = prop_oneof![
        any::<String>(),
        "[\\[\\]{}:,\"0-9a-z\\\\.eE+-]{0,60}",
        odd_value().prop_map(|value| value.to_string()),
        (0..3_000_usize).prop_map(|depth| "[".repeat(depth)),
    ];
    check("lines of anything", 20_000, &strategy, |line| is_judged(&line));
}
