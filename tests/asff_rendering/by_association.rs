//! What an association has found, and where hybrid nodes run.

use patchferry::{
    aws::render,
    record::{
        Facts, Finding, HybridAs, PatchCounts, RenderPolicy,
        observation::{ASSOCIATION_DOCUMENT, ASSOCIATION_EXECUTION, NodeInfo},
    },
};
use serde_json::{Value, json};

use super::{Wire, lane, ours};

/// A finding of a node that only an association has scanned.
fn by_association() -> Finding {
    let mut finding = ours();
    let compliance = finding.facts.compliance.take().map(|mut compliance| {
        compliance.execution_type = Some(ASSOCIATION_EXECUTION.into());
        compliance.execution_id = None;
        compliance.compliant_counts = [0; 6];
        compliance.non_compliant_counts = [0, 1, 0, 0, 0, 0];
        compliance
    });
    finding.facts = Facts {
        document: Some(ASSOCIATION_DOCUMENT.into()),
        baseline: finding.facts.baseline,
        counts: PatchCounts::default(),
        compliance,
        ..Facts::default()
    };
    finding
}

#[test]
fn a_finding_by_an_association_says_so_and_counts_no_patches() {
    let sent = Wire::new().json(render(&lane(), &by_association(), &[]));
    let summary = "/Resources/0/Details/AwsSsmPatchCompliance/Patch/ComplianceSummary";
    for (pointer, expected) in [
        (
            "/ProductFields/patchferry~1document".to_owned(),
            json!("AWS-RunPatchBaselineAssociation"),
        ),
        ("/ProductFields/patchferry~1baseline".to_owned(), json!("pb-0c10e65780EXAMPLE")),
        (format!("{summary}/ComplianceType"), json!("Association")),
        (format!("{summary}/ExecutionType"), json!("Association")),
        (format!("{summary}/Status"), json!("NON_COMPLIANT")),
        (format!("{summary}/NonCompliantHighCount"), json!(1)),
        ("/Compliance/Status".to_owned(), json!("FAILED")),
    ] {
        assert_eq!(sent.pointer(&pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(sent.get("PatchSummary"), None, "zeros would be a lie");
    let description = sent["Description"].as_str().unwrap();
    assert!(description.contains("scanned by AWS-RunPatchBaselineAssociation"), "{description}");
    assert!(!description.contains("0 missing"), "{description}");
}

#[test]
fn a_finding_by_patches_names_their_document_and_type() {
    let sent = Wire::new().json(render(&lane(), &ours(), &[]));
    let summary = &sent["Resources"][0]["Details"]["AwsSsmPatchCompliance"]["Patch"];
    assert_eq!(summary["ComplianceSummary"]["ComplianceType"], "Patch");
    assert_eq!(sent["ProductFields"]["patchferry/document"], "AWS-RunPatchBaseline");
    assert!(sent.get("PatchSummary").is_some());
}

fn hybrid(source_type: Option<&str>, policy: RenderPolicy) -> Value {
    let mut finding = Finding { node: "mi-0123456789abcdef0".parse().unwrap(), policy, ..ours() };
    finding.facts.node_info = Some(NodeInfo {
        resource_type: "ManagedInstance".into(),
        ping_status: "Online".into(),
        name: Some("till-17".into()),
        computer_name: Some("till-17.shop.example.com".into()),
        platform_name: Some("Ubuntu".into()),
        ip_address: Some("192.168.7.17".into()),
        source_type: source_type.map(Into::into),
        source_id: Some("i-of-their-own".into()),
        ..NodeInfo::default()
    });
    Wire::new().json(render(&lane(), &finding, &[]))["Resources"][0].clone()
}

#[test]
fn a_hybrid_node_tells_where_it_runs_as_far_as_ssm_knows() {
    for (source_type, expected) in [
        (Some("Microsoft.Compute/virtualMachines"), json!("Azure")),
        (Some("compute.googleapis.com/Instance"), json!("Google Cloud")),
        (Some("AWS::IoT::Thing"), json!("AWS IoT Greengrass")),
        (Some("AWS::SSM::ManagedInstance"), json!("on-premises, or elsewhere outside EC2")),
        (Some("Something.New/yet"), Value::Null),
        (None, Value::Null),
    ] {
        let resource = hybrid(source_type, RenderPolicy::default());
        assert_eq!(resource["Type"], "Other");
        let other = &resource["Details"]["Other"];
        assert_eq!(other["Source"], expected, "{source_type:?}");
        assert_eq!(other["SourceType"], json!(source_type));
        assert_eq!(other["SourceId"], "i-of-their-own");
        for (name, value) in [
            ("ResourceType", "ManagedInstance"),
            ("Name", "till-17"),
            ("ComputerName", "till-17.shop.example.com"),
            ("PlatformName", "Ubuntu"),
            ("IpAddress", "192.168.7.17"),
        ] {
            assert_eq!(other[name], value, "{name}");
        }
        assert_eq!(resource["Details"].get("AwsEc2Instance"), None, "it is none");
    }
}

#[test]
fn a_hybrid_node_shown_as_aws_shows_it_keeps_its_own_arn_and_facts() {
    let policy = RenderPolicy { hybrid_as: HybridAs::AwsEc2Instance, ..RenderPolicy::default() };
    let resource = hybrid(Some("Microsoft.Compute/virtualMachines"), policy);
    assert_eq!(resource["Type"], "AwsEc2Instance");
    assert_eq!(
        resource["Id"],
        "arn:aws:ssm:us-east-2:111122223333:managed-instance/mi-0123456789abcdef0"
    );
    assert_eq!(resource["Details"]["AwsEc2Instance"]["IpV4Addresses"][0], "192.168.7.17");
    assert_eq!(resource["Details"]["Other"]["Source"], "Azure");
}
