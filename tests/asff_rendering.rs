//! What goes over the wire: the real SDK's JSON of rendered findings, caught by an HTTP connector.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod by_association;
mod limits;
mod linted;
mod patches;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use patchferry::{
    aws::{Aws, Rendered, SecurityHub, render},
    record::{
        Change, Facts, Finding, FindingId, HybridAs, Lane, PatchCounts, PatchDetail, ReadNumber,
        RecordState, RenderPolicy, Severity, Source, Template, Text, UnixMillis,
        assessment::Compliance,
        observation::{GoneReason, NodeInfo, PatchList, PatchState},
    },
};
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("fixtures/aws-example-finding.json");

/// Takes every request and answers that nothing was imported.
#[derive(Clone, Debug, Default)]
struct Catcher {
    body: Arc<Mutex<Vec<u8>>>,
}

impl HttpConnector for Catcher {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        *self.body.lock().unwrap() = request.body().bytes().unwrap().to_vec();
        let status = StatusCode::try_from(200).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from("{}"))))
    }
}

/// A runtime and a hub whose requests are caught.
struct Wire {
    runtime: tokio::runtime::Runtime,
    hub: SecurityHub,
    catcher: Catcher,
}

impl Wire {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let catcher = Catcher::default();
        let connector = SharedHttpConnector::new(catcher.clone());
        let hub = runtime.block_on(async {
            let config = aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new("us-east-2"))
                .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
                .http_client(http_client_fn(move |_, _| connector.clone()))
                .load()
                .await;
            Aws::from_config(config).lane(&lane(), None).await.hub
        });
        Self { runtime, hub, catcher }
    }

    /// The bytes of the one finding, as sent.
    fn bytes(&self, rendered: Rendered) -> Vec<u8> {
        let _reply = self.runtime.block_on(self.hub.import(vec![rendered]));
        let body = self.catcher.body.lock().unwrap();
        let finding = body.strip_prefix(br#"{"Findings":["#).and_then(|b| b.strip_suffix(b"]}"));
        finding.expect("a call with one finding").to_vec()
    }

    fn json(&self, rendered: Rendered) -> Value {
        serde_json::from_slice(&self.bytes(rendered)).unwrap()
    }
}

fn lane() -> Lane {
    "111122223333/us-east-2".parse().unwrap()
}

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).unwrap()
}

/// The facts behind AWS's example.
fn example() -> Finding {
    let command = "d710f5bd-04e3-47b4-82f6-df4e0EXAMPLE";
    let end = at("2021-11-11T22:05:25Z");
    Finding {
        node: "i-02573cafcfEXAMPLE".parse().unwrap(),
        id: FindingId::Operation {
            document: "AWS-RunPatchBaseline".into(),
            command: command.into(),
        },
        change: Change::Opened,
        state: RecordState::Open,
        severity: Severity::Informational,
        created_at: end,
        updated_at: end,
        first_observed_at: end,
        last_observed_at: end,
        facts: Facts {
            baseline: Some("pb-0c10e65780EXAMPLE".into()),
            patch_group: Some("web".into()),
            operation: Some("Scan".into()),
            operation_start: Some(at("2021-11-11T22:05:06Z")),
            operation_end: Some(end),
            reboot_option: Some("NoReboot".into()),
            counts: PatchCounts {
                installed: 45,
                installed_other: 396,
                missing: 2,
                ..PatchCounts::default()
            },
            compliance: Some(Compliance {
                non_compliant: true,
                overall_severity: Some("UNSPECIFIED".into()),
                execution_id: Some(command.into()),
                execution_type: Some("Command".into()),
                execution_time: Some(end),
                compliant_counts: [0, 0, 0, 0, 0, 441],
                non_compliant_counts: [0, 0, 0, 0, 0, 2],
            }),
            node_info: Some(NodeInfo {
                resource_type: "EC2Instance".into(),
                computer_name: Some("web-1.example.com".into()),
                ip_address: Some("10.0.0.7".into()),
                ..NodeInfo::default()
            }),
            patches: Some(PatchList {
                read: ReadNumber(1),
                digest: 1,
                kept: 2,
                total: 2,
                chunks: 1,
            }),
            document: Some("AWS-RunPatchBaseline".into()),
            ..Facts::default()
        },
        policy: RenderPolicy { template: Template::AwsParity, ..RenderPolicy::default() },
        source: Source::Sweep,
        accepted_at: end,
    }
}

fn ours() -> Finding {
    let policy = RenderPolicy::default();
    Finding { id: FindingId::Node, severity: Severity::High, policy, ..example() }
}

fn details() -> Vec<PatchDetail> {
    ["kernel.x86_64", "openssl.x86_64"]
        .map(|name| PatchDetail {
            state: PatchState::Missing,
            kb: name.into(),
            title: Text::truncated(&format!("{name}:0:1.2.3")),
            classification: "Security".into(),
            severity: "Critical".into(),
            cves: vec!["CVE-2026-0001".into()],
        })
        .to_vec()
}

/// Every path to a leaf, e.g. `Severity.Label`.
fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    let join = |key: &str| {
        if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
    };
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                paths(member, &join(key), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                paths(item, &join(&index.to_string()), found);
            }
        }
        _ => {
            found.insert(prefix.to_owned());
        }
    }
}

#[test]
fn the_parity_template_is_awss_example_field_by_field_and_nothing_else() {
    // What the service fills in or owns. ProductArn is sent, but AWS's own belongs to AWS.
    const SERVICE_FILLED: [&str; 6] = [
        "ProductFields.aws/securityhub/FindingId",
        "ProductFields.aws/securityhub/ProductName",
        "ProductFields.aws/securityhub/CompanyName",
        "Severity.Normalized",
        "Workflow.Status",
        "WorkflowState",
    ];
    let example_json: Value = serde_json::from_str(EXAMPLE).unwrap();
    let sent = Wire::new().json(render(&lane(), &example(), &details()));

    let (mut expected, mut actual) = (BTreeSet::new(), BTreeSet::new());
    paths(&example_json, "", &mut expected);
    paths(&sent, "", &mut actual);
    for filled in SERVICE_FILLED {
        assert!(expected.remove(filled), "{filled} is in the example");
    }
    assert_eq!(actual, expected);

    let pointer = |path: &str| format!("/{}", path.split('.').collect::<Vec<_>>().join("/"));
    for path in expected.iter().filter(|path| *path != "ProductArn") {
        assert_eq!(sent.pointer(&pointer(path)), example_json.pointer(&pointer(path)), "{path}");
    }
    assert_eq!(
        sent["ProductArn"],
        "arn:aws:securityhub:us-east-2:111122223333:product/111122223333/default"
    );
}

#[test]
fn a_hybrid_node_is_an_ec2_instance_under_parity_and_what_it_is_under_ours() {
    let wire = Wire::new();
    let hybrid = "mi-0123456789abcdef0";
    let parity = Finding { node: hybrid.parse().unwrap(), ..example() };
    let resource = &wire.json(render(&lane(), &parity, &[]))["Resources"][0];
    assert_eq!((&resource["Type"], &resource["Id"]), (&json!("AwsEc2Instance"), &json!(hybrid)));

    let own = Finding { node: hybrid.parse().unwrap(), ..ours() };
    let resource = &wire.json(render(&lane(), &own, &[]))["Resources"][0];
    let arn = json!(format!("arn:aws:ssm:us-east-2:111122223333:managed-instance/{hybrid}"));
    assert_eq!((&resource["Type"], &resource["Id"]), (&json!("Other"), &arn));
    assert_eq!(resource["Details"]["Other"]["ComputerName"], "web-1.example.com");

    let policy = RenderPolicy { hybrid_as: HybridAs::AwsEc2Instance, ..RenderPolicy::default() };
    let as_ec2 = Finding { policy, ..own };
    let resource = &wire.json(render(&lane(), &as_ec2, &[]))["Resources"][0];
    assert_eq!(resource["Type"], "AwsEc2Instance");
}

#[test]
fn our_template_carries_everything_the_design_names() {
    let sent = Wire::new().json(render(&lane(), &ours(), &details()));
    for (pointer, expected) in [
        ("/SchemaVersion", "2018-10-08"),
        ("/Id", "patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance"),
        ("/GeneratorId", "patchferry/patch-compliance"),
        ("/ProductName", "Systems Manager Patch Manager"),
        ("/CompanyName", "patchferry"),
        ("/FindingProviderFields/Severity/Label", "HIGH"),
        (
            "/FindingProviderFields/Types/0",
            "Software and Configuration Checks/Patch Management/Compliance",
        ),
        (
            "/Title",
            "Systems Manager Patch Summary - Managed Instance Non-Compliant: i-02573cafcfEXAMPLE",
        ),
        (
            "/SourceUrl",
            "https://us-east-2.console.aws.amazon.com/systems-manager/fleet-manager/i-02573cafcfEXAMPLE/patch?region=us-east-2",
        ),
        ("/Resources/0/Id", "arn:aws:ec2:us-east-2:111122223333:instance/i-02573cafcfEXAMPLE"),
        ("/Resources/0/Details/AwsEc2Instance/IpV4Addresses/0", "10.0.0.7"),
        (
            "/Resources/0/Details/AwsSsmPatchCompliance/Patch/ComplianceSummary/Status",
            "NON_COMPLIANT",
        ),
        ("/Compliance/Status", "FAILED"),
        ("/RecordState", "ACTIVE"),
        ("/PatchSummary/Operation", "SCAN"),
        ("/ProductFields/patchferry~1change", "opened"),
        ("/ProductFields/patchferry~1missing-patches", "kernel.x86_64, openssl.x86_64"),
        ("/Vulnerabilities/0/Id", "CVE-2026-0001"),
        ("/Vulnerabilities/0/VulnerablePackages/1/FixedInVersion", "0:1.2.3"),
    ] {
        assert_eq!(sent.pointer(pointer), Some(&json!(expected)), "{pointer}");
    }
    for absent in ["Severity", "Types", "Workflow", "WorkflowState", "Region", "ProcessedAt"] {
        assert_eq!(sent.get(absent), None, "{absent}");
    }
}

#[test]
fn a_finding_ends_archived_and_says_why() {
    let wire = Wire::new();
    let resolved = Finding { state: RecordState::Resolved, change: Change::Resolved, ..ours() };
    let sent = wire.json(render(&lane(), &resolved, &[]));
    assert_eq!(
        (&sent["RecordState"], &sent["Compliance"]["Status"]),
        (&json!("ARCHIVED"), &json!("PASSED"))
    );

    let gone = Finding { state: RecordState::Gone(GoneReason::Terminated), ..resolved };
    let sent = wire.json(render(&lane(), &gone, &[]));
    assert_eq!(sent["RecordState"], "ARCHIVED");
    assert_eq!(sent["Compliance"]["Status"], "NOT_AVAILABLE");
    assert_eq!(sent["Compliance"]["StatusReasons"][0]["ReasonCode"], "NODE_GONE");
}

#[test]
fn rendering_again_gives_the_same_finding() {
    let again = || render(&lane(), &ours(), &details());
    assert_eq!(again(), again());
}

#[test]
fn the_partition_shows_in_every_arn_and_link() {
    let china: Lane = "111122223333/cn-north-1".parse().unwrap();
    let sent = Wire::new().json(render(&china, &ours(), &[]));
    assert_eq!(sent["Resources"][0]["Partition"], "aws-cn");
    for field in [&sent["ProductArn"], &sent["Resources"][0]["Id"]] {
        assert!(field.as_str().unwrap().starts_with("arn:aws-cn:"), "{field}");
    }
    assert!(sent["SourceUrl"].as_str().unwrap().starts_with("https://console.amazonaws.cn/"));
    for (region, partition, console) in [
        ("us-gov-east-1", "aws-us-gov", Some("us-gov-east-1.console.amazonaws-us-gov.com")),
        ("eusc-de-east-1", "aws-eusc", Some("eusc-de-east-1.console.amazonaws-eusc.eu")),
        // Their consoles aren't documented in public: no link beats a wrong one.
        ("us-iso-east-1", "aws-iso", None),
        ("us-isob-east-1", "aws-iso-b", None),
        ("eu-isoe-west-1", "aws-iso-e", None),
        ("us-isof-east-1", "aws-iso-f", None),
    ] {
        let lane: Lane = format!("111122223333/{region}").parse().unwrap();
        let sent = Wire::new().json(render(&lane, &ours(), &[]));
        assert!(sent["ProductArn"].as_str().unwrap().starts_with(&format!("arn:{partition}:")));
        let link = sent["SourceUrl"].as_str();
        assert_eq!(link.map(|link| link.split('/').nth(2).unwrap()), console);
    }
}
