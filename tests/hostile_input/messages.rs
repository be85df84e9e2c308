//! Messages from a queue: whatever they hold, they are an event, nothing to us, or refused in one
//! short line.

use patchferry::pipeline::ingest::event::parse::parse;
use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};

use super::mutation::{byte_changes, changed_bytes, changed_json, check, node_changes, odd_value};

/// It is kept in a dead letter and told in the log.
const MESSAGE_CHARS_MAX: usize = 512;

fn samples() -> Vec<Value> {
    let event = |kind: &str, detail: Value| {
        json!({
            "version": "0", "id": "01234567-0123-0123-0123-012345678901", "detail-type": kind,
            "source": "aws.ssm", "account": "123456789012", "time": "2024-07-17T19:02:31Z",
            "region": "us-east-2",
            "resources": ["arn:aws:ssm:us-east-2:123456789012:managed-instance/mi-0123456789abcdef0"],
            "detail": detail,
        })
    };
    let compliance = event(
        "Configuration Compliance State Change",
        json!({"resource-type": "managed-instance", "resource-id": "i-01234567890abcdef",
               "compliance-status": "non_compliant", "compliance-type": "Patch",
               "patch-baseline-id": "PB789", "severity": "critical"}),
    );
    let wrapped = json!({"Type": "Notification", "Message": compliance.to_string()});
    let run = json!({"command-id": "c", "document-name": "AWS-RunPatchBaseline",
                     "instance-id": "i-01234567890abcdef", "status": "Success"});
    vec![
        compliance,
        wrapped,
        event(
            "SSM Managed Instance Deregistration",
            json!({"instance-id": "mi-0123456789abcdef0"}),
        ),
        event(
            "EC2 Instance State-change Notification",
            json!({"instance-id": "i-01234567890abcdef", "state": "terminated"}),
        ),
        event("EC2 Command Invocation Status-change Notification", run.clone()),
        event("EC2 State Manager Instance Association State Change", run),
    ]
}

fn is_told_apart(body: &str) -> TestCaseResult {
    if let Err(malformed) = parse(body) {
        let said = malformed.to_string();
        prop_assert!(!said.is_empty() && said.chars().count() <= MESSAGE_CHARS_MAX, "{}", said);
    }
    Ok(())
}

#[test]
fn an_event_with_changed_fields_is_told_apart() {
    let strategy = (prop::sample::select(samples()), node_changes());
    check("events, fields changed", 20_000, &strategy, |(sample, changes)| {
        is_told_apart(&changed_json(&sample, &changes).to_string())
    });
}

#[test]
fn an_event_with_changed_bytes_is_told_apart() {
    let strategy = (prop::sample::select(samples()), byte_changes());
    check("events, bytes changed", 20_000, &strategy, |(sample, changes)| {
        let bytes = changed_bytes(sample.to_string().as_bytes(), &changes);
        is_told_apart(&String::from_utf8_lossy(&bytes))
    });
}

#[test]
fn a_message_of_anything_is_told_apart() {
    let strategy = prop_oneof![
        any::<String>(),
        "[\\[\\]{}:,\"0-9a-z\\\\.eE+-]{0,60}",
        odd_value().prop_map(|value| value.to_string()),
        odd_value().prop_map(|value| json!({"detail-type": value}).to_string()),
        (0..3_000_usize).prop_map(|depth| "[".repeat(depth)),
    ];
    check("messages of anything", 20_000, &strategy, |body| is_told_apart(&body));
}
