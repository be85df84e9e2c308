//! Two readings of AWS's documentation against each other: what the simulated hub refuses, over
//! the wire, is an error to `patchferry lint` as well. They share no code and no types.
//!
//! Where the simulator is strict on purpose (what is legal but of no use is refused, so that
//! sending it is noticed), lint must at least remark on it.

use patchferry::lint::{Level, Remark, lint_finding};
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

use super::rig::{Rig, finding_json};
use crate::hostile_input::mutation::{changed_json, check, node_changes};

const NOW: &str = "2026-11-23T10:00:00Z";
const NOW_MS: i64 = 1_795_428_000_000;

/// What the simulator refuses although the service takes it, or isn't known to refuse it.
const STRICT: [&str; 3] = [
    "should NOT have additional properties",
    // Where no limit is documented.
    "should NOT be longer than 2048 characters",
    // The service checks the form alone, not the namespaces.
    "should match pattern \"namespace/category/classifier\"",
];

/// A finding with everything that both know.
fn full() -> Value {
    let mut finding = finding_json("finding", NOW);
    let more = json!({
        "ProductName": "Product", "CompanyName": "Company", "SourceUrl": "https://example.com/x",
        "FirstObservedAt": NOW, "LastObservedAt": "2026-11-23T12:00:00.123+02:00",
        "VerificationState": "UNKNOWN", "Confidence": 10, "Criticality": 20,
        "Severity": {"Label": "LOW", "Original": "low"}, "Types": ["Effects/Data Exposure"],
        "RelatedFindings": [{"ProductArn": "arn:aws:x", "Id": "other"}],
        "Note": {"Text": "text", "UpdatedBy": "somebody", "UpdatedAt": NOW},
        "Vulnerabilities": [{
            "Id": "CVE-2026-1", "FixAvailable": "YES", "ExploitAvailable": "NO",
            "ReferenceUrls": ["https://example.com"], "RelatedVulnerabilities": ["CVE-2026-2"],
            "VulnerablePackages": [{"Name": "n", "Version": "1", "FixedInVersion": "2"}],
            "Vendor": {"Name": "v", "Url": "https://example.com", "VendorCreatedAt": NOW},
        }],
    });
    finding.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    finding["Compliance"] = json!({
        "Status": "FAILED", "RelatedRequirements": ["r"],
        "StatusReasons": [{"ReasonCode": "R", "Description": "d"}],
    });
    finding["FindingProviderFields"] = json!({
        "Confidence": 1, "Criticality": 2, "Types": ["TTPs/a/b"],
        "Severity": {"Label": "HIGH", "Original": "high"},
        "RelatedFindings": [{"ProductArn": "arn:aws:x", "Id": "other"}],
    });
    let resource = &mut finding["Resources"][0];
    resource["Tags"] = json!({"key": "value"});
    resource["ApplicationName"] = json!("application");
    resource["Details"]["AwsEc2Instance"] =
        json!({"Type": "t3", "IpV4Addresses": ["10.0.0.1"], "LaunchedAt": NOW});
    resource["Details"]["AwsSsmPatchCompliance"] = json!({"Patch": {"ComplianceSummary": {
        "Status": "NON_COMPLIANT", "PatchBaselineId": "pb-1", "NonCompliantHighCount": 2,
    }}});
    let summary = finding["PatchSummary"].as_object_mut().unwrap();
    summary.insert("InstalledPendingReboot".into(), json!(1));
    summary.insert("OperationStartTime".into(), json!(NOW));
    summary.insert("RebootOption".into(), json!("NoReboot"));
    finding
}

fn pairs(count: usize, key: &str, value: &str) -> Value {
    let pair = |n| (format!("{key}{n}"), json!(value));
    Value::Object((0..count).map(pair).collect())
}

/// What every place of a finding is given in turn.
fn values() -> Vec<Value> {
    let text = |chars: usize| json!("x".repeat(chars));
    let many = |count: usize, item: Value| Value::Array(vec![item; count]);
    let mut values = vec![Value::Null, json!(true), json!([]), json!({}), json!([null])];
    values.extend([0, 1, -1, 101, 100_001, 2_147_483_648_i64, i64::MIN].map(|n| json!(n)));
    values.extend([json!(u64::MAX), json!(1.5), json!(1e300)]);
    values.extend([0, 1, 16, 17, 51, 64, 65, 128, 129, 256, 257, 512, 513, 1_024, 1_025].map(text));
    values.extend([2_048, 2_049].map(text));
    values.extend(
        [" \t", "\u{a0}", "Effects", "Effects/", "a/b/c/d", "aws-mars", "aws-iso"]
            .map(|t| json!(t)),
    );
    values.extend(
        ["ACTIVE", "NEW", "HIGH", "high", "YES", "12345678901é", "mailto:x"].map(|t| json!(t)),
    );
    values.extend(
        [
            "2026-02-29T10:00:00Z",
            "2026-11-23T10:00:00",
            "2026-11-23T10:00:00z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:00:60Z",
            "2026-11-23T10:00:00+18:30",
            "2026-11-23T10:00:00.1234567891Z",
            "-026-11-23T10:00:00Z",
            "2026-11-23T+1:00:00Z",
            "2026-11-23T10:00:00+0130",
            "0000-01-01T00:00:00+18:00",
            "9999-12-31T23:59:59-18:00",
        ]
        .map(|t| json!(t)),
    );
    values.extend([many(51, json!("Effects")), many(33, json!({"Type": "t", "Id": "i"}))]);
    values.extend([many(11, json!({"ProductArn": "a", "Id": "b"})), many(33, json!("r"))]);
    values.extend([
        pairs(50, "k", "v"),
        pairs(51, "k", "v"),
        pairs(1, " ", "v"),
        pairs(1, "k", ""),
    ]);
    values.extend([pairs(1, &"k".repeat(126), "v"), pairs(1, &"k".repeat(127), "v")]);
    values.extend([pairs(1, &"k".repeat(128), "v"), pairs(1, "k", &"v".repeat(1_024))]);
    values.extend([pairs(1, "k", &"v".repeat(2_049)), pairs(1, "aws/", "v"), json!({"a": 1})]);
    values
}

/// JSON pointers of everything in a value but itself.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, it)| (escaped(name), it)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(n, it)| (n.to_string(), it)).collect()
        }
        _ => Vec::new(),
    };
    for (name, child) in children {
        let at = format!("{at}/{name}");
        places(child, &at, found);
        found.push(at);
    }
}

/// What the simulated hub has against a finding, if it takes the call.
async fn refusal(rig: &Rig, finding: &Value) -> Option<String> {
    let (status, answer) = rig.import_json(std::slice::from_ref(finding)).await;
    // Whom a call comes from and whose product it names is another matter than what ASFF is.
    (status == 200).then_some(())?;
    let failed = answer["FailedFindings"].as_array().unwrap().first()?;
    Some(failed["ErrorMessage"].as_str().unwrap().to_string())
}

/// Whether lint says as much as `refusal` does; else what it says.
fn agrees(finding: &Value, refusal: &str) -> Result<(), Vec<Remark>> {
    let told = lint_finding(finding.to_string().as_bytes(), NOW_MS);
    let strict = STRICT.iter().any(|it| refusal.contains(it));
    let least = if strict { Level::Warning } else { Level::Error };
    if told.iter().any(|it| it.level >= least) { Ok(()) } else { Err(told) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_hub_refuses_in_any_one_place_lint_does_too() {
    let rig = Rig::with_nodes(0).await;
    let sample = full();
    assert_eq!(refusal(&rig, &sample).await, None, "the sample is right");
    let told = lint_finding(sample.to_string().as_bytes(), NOW_MS);
    assert!(told.iter().all(|it| it.level == Level::Warning), "{told:#?}");

    let mut found = Vec::new();
    places(&sample, "", &mut found);
    let (mut refused, mut taken) = (0, 0);
    for place in &found {
        let (parent, name) = place.rsplit_once('/').unwrap();
        let mut variants: Vec<Value> = values()
            .into_iter()
            .map(|value| {
                let mut finding = sample.clone();
                *finding.pointer_mut(place).unwrap() = value;
                finding
            })
            .collect();
        let mut without = sample.clone();
        match without.pointer_mut(parent).unwrap() {
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            Value::Object(members) => drop(remove(members, name)),
            _ => unreachable!("{parent} holds {name}"),
        }
        variants.push(without);
        for finding in variants {
            let Some(refusal) = refusal(&rig, &finding).await else {
                taken += 1;
                continue;
            };
            refused += 1;
            if let Err(told) = agrees(&finding, &refusal) {
                let value = finding.pointer(place);
                panic!("{place} = {value:?}\nthe hub: {refusal}\nlint: {told:#?}");
            }
        }
    }
    assert!(refused > 4_000 && taken > 200, "{refused} refused, {taken} taken");
}

fn remove(members: &mut Map<String, Value>, name: &str) -> Option<Value> {
    members.remove(&name.replace("~1", "/").replace("~0", "~"))
}

#[test]
fn whatever_the_hub_refuses_after_any_changes_lint_does_too() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rig = runtime.block_on(Rig::with_nodes(0));
    let sample = full();
    check("findings against the hub", 3_000, &node_changes(), |changes| {
        let finding = changed_json(&sample, &changes);
        if !finding.is_object() {
            return Ok(());
        }
        let Some(refusal) = runtime.block_on(refusal(&rig, &finding)) else { return Ok(()) };
        agrees(&finding, &refusal)
            .map_err(|told| TestCaseError::fail(format!("the hub: {refusal}; lint: {told:#?}")))
    });
}
