//! Every class of limit that ASFF has is enforced, in the service's words.

use serde_json::{Value, json};

use super::rig::{Rig, finding_json};

const NOW: &str = "2026-11-23T10:00:00Z";

/// Imports a finding that differs from a valid one in one place; the failure's message, if any.
async fn message_for(rig: &Rig, pointer: &str, value: Value) -> Option<String> {
    let mut finding = finding_json("finding", NOW);
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    match finding.pointer_mut(parent).unwrap() {
        Value::Object(members) if value.is_null() => drop(members.remove(member)),
        Value::Object(members) => drop(members.insert(member.to_string(), value)),
        Value::Array(items) => items[member.parse::<usize>().unwrap()] = value,
        _ => unreachable!("{pointer} is in no container"),
    }
    let (status, answer) = rig.import_json(&[finding]).await;
    assert_eq!(status, 200, "{answer}");
    let failed = answer["FailedFindings"].as_array().unwrap();
    assert_eq!(answer["FailedCount"], failed.len());
    failed.first().map(|failed| {
        assert_eq!(failed["ErrorCode"], "InvalidInput");
        assert_eq!(failed["Id"].as_str().unwrap().chars().take(7).collect::<String>(), "finding");
        failed["ErrorMessage"].as_str().unwrap().to_string()
    })
}

fn pairs(count: usize, key: &str, value_chars: usize) -> Value {
    let pair = |number| (format!("{key}{number}"), json!("v".repeat(value_chars)));
    Value::Object((0..count).map(pair).collect())
}

#[tokio::test]
async fn what_breaks_a_rule_fails_with_the_services_words() {
    let rig = Rig::with_nodes(0).await;
    let long = |chars: usize| json!("x".repeat(chars));
    let texts = |count: usize| json!(vec!["Effects"; count]);
    let other = "/Resources/0/Details/Other";
    let provider = "/FindingProviderFields";
    let cases = [
        ("/Title", Value::Null, "data should have required property 'Title'"),
        ("/Description", Value::Null, "should have required property 'Description'"),
        ("/SchemaVersion", Value::Null, "should have required property 'SchemaVersion'"),
        ("/GeneratorId", Value::Null, "should have required property 'GeneratorId'"),
        ("/Resources", Value::Null, "should have required property 'Resources'"),
        ("/CreatedAt", Value::Null, "should have required property 'CreatedAt'"),
        ("/UpdatedAt", Value::Null, "should have required property 'UpdatedAt'"),
        (provider, Value::Null, "should match some schema in anyOf"),
        ("/FindingProviderFields/Types", Value::Null, "should match some schema in anyOf"),
        ("/SchemaVersion", json!("2019-01-01"), "equal to one of the allowed values"),
        ("/Title", long(257), "data.Title should NOT be longer than 256 characters"),
        ("/Description", long(1_025), "should NOT be longer than 1024 characters"),
        ("/GeneratorId", long(513), "should NOT be longer than 512 characters"),
        ("/ProductName", long(129), "should NOT be longer than 128 characters"),
        ("/CompanyName", long(129), "should NOT be longer than 128 characters"),
        ("/Remediation/Recommendation/Text", long(513), "data.Remediation.Recommendation.Text"),
        ("/Title", json!(""), "should NOT be shorter than 1 characters"),
        ("/Title", json!(" \t"), "should match pattern"),
        ("/UpdatedAt", json!("2026-11-23"), "should match format \"date-time\""),
        ("/FirstObservedAt", json!("yesterday"), "should match format \"date-time\""),
        ("/SourceUrl", json!("example.com"), "should match format \"uri\""),
        ("/RecordState", json!("OPEN"), "equal to one of the allowed values"),
        ("/Compliance/Status", json!("BAD"), "equal to one of the allowed values"),
        ("/Compliance/StatusReasons/0", json!({}), "required property 'ReasonCode'"),
        ("/FindingProviderFields/Severity/Label", json!("SEVERE"), "one of the allowed values"),
        ("/FindingProviderFields/Severity/Original", long(65), "longer than 64 characters"),
        ("/FindingProviderFields/Types", texts(51), "should NOT have more than 50 items"),
        ("/FindingProviderFields/Types/0", json!("Software & Co"), "namespace/category"),
        ("/FindingProviderFields/Types/0", json!("Effects/a/b/c"), "namespace/category"),
        ("/FindingProviderFields/Confidence", json!(101), "should be <= 100"),
        ("/ProductFields", pairs(51, "k", 1), "should NOT have more than 50 properties"),
        ("/ProductFields", pairs(1, "k", 2_049), "should NOT be longer than 2048 characters"),
        ("/ProductFields", pairs(1, &"k".repeat(128), 1), "longer than 128 characters"),
        ("/ProductFields", pairs(1, "k", 0), "should NOT be shorter than 1 characters"),
        ("/ProductFields", json!({"aws/x": "y"}), "start with aws/"),
        ("/PatchSummary/MissingCount", json!(100_001), "should be <= 100000"),
        ("/PatchSummary/MissingCount", json!(-1), "should be >= 0"),
        ("/PatchSummary/Id", Value::Null, "should have required property 'Id'"),
        ("/PatchSummary/Operation", long(257), "should NOT be longer than 256 characters"),
        ("/PatchSummary/OperationEndTime", json!("1795428000"), "match format \"date-time\""),
        ("/Resources", json!([]), "should NOT have fewer than 1 items"),
        ("/Resources", json!(vec![json!({"Type": "Other", "Id": "x"}); 33]), "more than 32 items"),
        ("/Resources/0/Id", Value::Null, "data.Resources[0] should have required property 'Id'"),
        ("/Resources/0/Region", long(17), "should NOT be longer than 16 characters"),
        ("/Resources/0/Partition", json!("aws-mars"), "equal to one of the allowed values"),
        (other, pairs(51, "k", 1), "should NOT have more than 50 properties"),
        (other, pairs(1, &"k".repeat(127), 1), "should NOT be longer than 127 characters"),
        (other, pairs(1, "k", 1_024), "should NOT be longer than 1023 characters"),
        ("/RelatedFindings", json!(vec![json!({"ProductArn": "a", "Id": "b"}); 11]), "10 items"),
        ("/Note", json!({"Text": "t"}), "should have required property 'UpdatedBy'"),
        ("/Vulnerabilities", json!([{"FixAvailable": "YES"}]), "required property 'Id'"),
        ("/Vulnerabilities", json!([{"Id": "C", "FixAvailable": "?"}]), "allowed values"),
        ("/Confidence", json!("high"), "misshapen"),
    ];
    for (pointer, value, expected) in cases {
        let message = message_for(&rig, pointer, value).await;
        let message = message.unwrap_or_else(|| panic!("{pointer} was let through"));
        assert!(message.starts_with("Finding does not adhere to Amazon Finding Format. data"));
        assert!(message.contains(expected), "{pointer}: {message}");
    }
    assert!(rig.control.hub(&rig.lane).is_empty());
}

#[tokio::test]
async fn fields_that_a_provider_must_not_send_are_refused() {
    let rig = Rig::with_nodes(0).await;
    for (pointer, value) in [
        ("/ProcessedAt", json!(NOW)),
        ("/WorkflowState", json!("NEW")),
        ("/Workflow", json!({"Status": "NEW"})),
        ("/Region", json!("us-east-1")),
        ("/AwsAccountName", json!("mine")),
        ("/UserDefinedFields", json!({"a": "b"})),
        ("/FindingProviderFields/Severity/Normalized", json!(70)),
        ("/Severity", json!({"Label": "HIGH", "Normalized": 70})),
        ("/Severity", json!({"Label": "HIGH", "Product": 7.0})),
        ("/Resources/0/Banana", json!(1)),
    ] {
        let message = message_for(&rig, pointer, value).await.unwrap_or_default();
        assert!(message.contains("should NOT have additional properties"), "{pointer}: {message}");
    }
}

#[tokio::test]
async fn what_just_keeps_the_limits_is_accepted() {
    let rig = Rig::with_nodes(0).await;
    for (pointer, value) in [
        ("/Title", json!("\u{e9}".repeat(256))),
        ("/Description", json!("x".repeat(1_024))),
        ("/ProductFields", pairs(50, "k", 2_048)),
        ("/Resources/0/Details/Other", pairs(50, "k", 1_023)),
        ("/PatchSummary/MissingCount", json!(100_000)),
        ("/UpdatedAt", json!("2026-11-23T12:00:00.123456789+02:00")),
        ("/Title", json!("with \"escapes\" \\ and \n lines")),
    ] {
        assert_eq!(message_for(&rig, pointer, value).await, None, "{pointer}");
    }
}

#[tokio::test]
async fn a_finding_beyond_240_kb_fails_alone() {
    let rig = Rig::with_nodes(0).await;
    let mut large = finding_json("large", NOW);
    let address = "a".repeat(2_000);
    large["Resources"][0]["Details"] =
        json!({"AwsEc2Instance": {"IpV4Addresses": vec![address; 125]}});
    let (status, answer) = rig.import_json(&[large, finding_json("small", NOW)]).await;
    assert_eq!((status, &answer["SuccessCount"]), (200, &json!(1)));
    assert_eq!(answer["FailedFindings"][0]["Id"], "large");
}
