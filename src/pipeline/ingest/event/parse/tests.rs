//! AWS's own examples, and what is near them.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "a table of cases reads better so"
)]

use serde_json::json;

use super::*;

/// "`EventBridge` event examples for Systems Manager", verbatim.
const NON_COMPLIANT: &str = r#"{"version":"0","id":"01234567-0123-0123-0123-012345678901","detail-type":"Configuration Compliance State Change","source":"aws.ssm","account":"123456789012","time":"2024-07-17T19:02:31Z","region":"us-east-2","resources":["arn:aws:ssm:us-east-2:123456789012:managed-instance/i-01234567890abcdef"],"detail":{"resource-type":"managed-instance","resource-id":"i-01234567890abcdef","compliance-status":"non_compliant","compliance-type":"Patch","patch-baseline-id":"PB789","severity":"critical"}}"#;
/// Likewise, its wrong source included.
const COMPLIANT: &str = r#"{"version":"0","id":"01234567-0123-0123-0123-012345678901","detail-type":"Configuration Compliance State Change","source":"aws.123456789012","account":"123456789012","time":"2024-07-17T19:02:31Z","region":"us-east-2","resources":["arn:aws:ssm:us-east-2:123456789012:managed-instance/i-01234567890abcdef"],"detail":{"resource-type":"managed-instance","resource-id":"i-01234567890abcdef","compliance-status":"compliant","compliance-type":"Patch","patch-baseline-id":"PB789","severity":"critical"}}"#;

fn told(what: What) -> Option<Told> {
    Some(Told {
        lane: "123456789012/us-east-2".parse().unwrap(),
        node: "i-01234567890abcdef".parse().unwrap(),
        what,
        at: Some(UnixMillis(1_721_242_951_000)),
    })
}

fn event(detail_type: &str, detail: Value) -> String {
    json!({
        "detail-type": detail_type,
        "account": "123456789012",
        "region": "us-east-2",
        "time": "2024-07-17T19:02:31Z",
        "detail": detail,
    })
    .to_string()
}

#[test]
fn aws_s_own_examples_are_read_whatever_their_source() {
    let scanned = |non_compliant| What::Scanned { non_compliant: Some(non_compliant) };
    assert_eq!(parse(NON_COMPLIANT), Ok(told(scanned(true))));
    assert_eq!(parse(COMPLIANT), Ok(told(scanned(false))));
}

#[test]
fn what_sns_has_wrapped_is_the_same_event() {
    let wrapped = json!({"Type": "Notification", "MessageId": "m", "Message": NON_COMPLIANT});
    assert_eq!(parse(&wrapped.to_string()), parse(NON_COMPLIANT));
}

#[test]
fn a_run_of_a_patch_baseline_document_counts_once_it_has_ended() {
    for kind in [
        "EC2 Command Invocation Status-change Notification",
        "EC2 State Manager Instance Association State Change",
    ] {
        let run = |document: &str, status: &str| {
            let detail = json!({"instance-id": "i-01234567890abcdef", "document-name": document,
                                "status": status});
            parse(&event(kind, detail)).unwrap()
        };
        let scanned = told(What::Scanned { non_compliant: None });
        assert_eq!(run("AWS-RunPatchBaseline", "Success"), scanned);
        assert_eq!(run("AWS-RunPatchBaselineWithHooks", "Failed"), scanned);
        let arn = "arn:aws:ssm:us-east-2::document/AWS-RunPatchBaselineAssociation";
        assert_eq!(run(arn, "Success"), scanned);
        assert_eq!(run("AWS-RunPatchBaseline", "InProgress"), None);
        assert_eq!(run("AWS-RunShellScript", "Success"), None);
    }
}

#[test]
fn only_termination_is_an_end() {
    let state = |state: &str| {
        let detail = json!({"instance-id": "i-01234567890abcdef", "state": state});
        parse(&event("EC2 Instance State-change Notification", detail)).unwrap()
    };
    assert_eq!(state("terminated"), told(What::Terminated));
    for other in ["pending", "running", "stopping", "stopped", "shutting-down"] {
        assert_eq!(state(other), None, "{other}");
    }
}

#[test]
fn a_deregistered_node_is_found_wherever_the_event_names_it() {
    let kind = "SSM Managed Instance Deregistration";
    for detail in [
        json!({"instance-id": "mi-0123456789abcdef0"}),
        json!({"whatever": "arn:aws:ssm:us-east-2:123456789012:managed-instance/mi-0123456789abcdef0"}),
    ] {
        let told = parse(&event(kind, detail)).unwrap().unwrap();
        assert_eq!((told.node.as_str(), told.what), ("mi-0123456789abcdef0", What::Deregistered));
    }
    assert_eq!(parse(&event(kind, json!({"instance-id": "i-01234567890abcdef"}))), Ok(None));
    assert!(parse(&event(kind, json!({}))).is_err());
}

#[test]
fn what_concerns_no_patches_is_nothing_to_us() {
    for (kind, detail) in [
        ("Parameter Store Change", json!({"name": "x"})),
        ("Configuration Compliance State Change", json!({"compliance-type": "Custom:X"})),
        ("EC2 Command Status-change Notification", json!({"status": "Success"})),
    ] {
        assert_eq!(parse(&event(kind, detail)), Ok(None), "{kind}");
    }
    assert_eq!(parse(r#"{"Type":"SubscriptionConfirmation","Token":"t"}"#), Ok(None));
}

#[test]
fn what_is_wrong_is_said_and_where_it_came_from_if_that_makes_sense() {
    let kind = "Configuration Compliance State Change";
    let node = json!({"compliance-type": "Patch", "resource-id": 7});
    let lane: Lane = "123456789012/us-east-2".parse().unwrap();
    let cases: Vec<(String, &str, Option<&Lane>)> = vec![
        ("hello".into(), "no JSON", None),
        ("[1]".into(), "is a list", None),
        ("{}".into(), "detail-type", None),
        (r#"{"detail-type":3}"#.into(), "`detail-type` is a number, no text", None),
        (r#"{"Type":"Notification","Message":{}}"#.into(), "Message, but an object", None),
        (r#"{"Type":"Notification","Message":"hello"}"#.into(), "SNS has wrapped is no JSON", None),
        (event(kind, json!("x")), "`detail` is a text, no object", None),
        (event(kind, json!({})), "detail: `compliance-type` is missing", Some(&lane)),
        (event(kind, node), "detail: `resource-id` is a number", Some(&lane)),
        (
            event(kind, json!({"compliance-type": "Patch", "resource-id": "banana"})),
            "`resource-id`: `banana` is not a managed node id",
            Some(&lane),
        ),
        (
            event(kind, json!({})).replace("123456789012", "12"),
            "`account`: `12` is not an AWS account id",
            None,
        ),
        (event(kind, json!({})).replace("us-east-2", "mars"), "`region`: `mars`", None),
        ("x".repeat(1 << 20), "1048576 bytes", None),
    ];
    for (body, said, from) in cases {
        let malformed = parse(&body).unwrap_err();
        assert!(malformed.message.as_str().contains(said), "{malformed:?} doesn't say {said}");
        assert_eq!(malformed.lane.as_ref(), from, "{malformed:?}");
    }
}
