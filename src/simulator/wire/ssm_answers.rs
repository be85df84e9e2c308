//! How SSM shows a node: its summary, its information, its patch state, its patches.
//!
//! Spellings are those of the live service (`Missing`, not `MISSING`); times are epoch seconds as
//! numbers. A node's [`Nonsense`] is applied here, and nowhere else.

use serde_json::{Value, json};

use crate::simulator::{
    fleet::{Node, Nonsense, Presence, Scan, SeverityCounts},
    patches::{Level, Patch, Platform},
};

const JANUARY_1970_MS: i64 = 86_400_000;
const YEAR_2999_MS: i64 = 32_472_144_000_000;

/// An item of `ListResourceComplianceSummaries`.
pub(super) fn compliance_summary(node: &Node) -> Value {
    let Some(scan) = node.told_scan() else { return Value::Null };
    let severities = scan.severities();
    let status = match node.nonsense {
        Some(Nonsense::UnknownStatus) => "BANANA",
        Some(Nonsense::CountsDisagree) => "NON_COMPLIANT",
        _ if scan.is_non_compliant() => "NON_COMPLIANT",
        _ => "COMPLIANT",
    };
    let compliant = u32::from(scan.installed) + u32::from(scan.installed_other);
    let unspecified = SeverityCounts { unspecified: compliant, ..SeverityCounts::default() };
    json!({
        "ComplianceType": "Patch",
        "ResourceType": "ManagedInstance",
        "ResourceId": shown_id(node),
        "Status": status,
        "OverallSeverity": overall_severity(&scan.problems).as_str(),
        "ExecutionSummary": execution(node, scan),
        "CompliantSummary": {
            "CompliantCount": compliant,
            "SeveritySummary": severity_summary(&unspecified),
        },
        "NonCompliantSummary": {
            "NonCompliantCount": scan.problems.len(),
            "SeveritySummary": severity_summary(&severities),
        },
    })
}

/// An item of `DescribeInstanceInformation`.
pub(super) fn information(node: &Node, now_ms: i64) -> Value {
    let (platform_type, name, version) = match node.platform {
        Platform::Windows => ("Windows", "Microsoft Windows Server 2022 Datacenter", "10.0.20348"),
        Platform::Linux => ("Linux", "Amazon Linux", "2023"),
    };
    let tail = &node.id[node.id.len() - 4..];
    let mut information = json!({
        "InstanceId": shown_id(node),
        "PingStatus": if node.presence == Presence::Online { "Online" } else { "ConnectionLost" },
        "LastPingDateTime": seconds(now_ms),
        "AgentVersion": "3.3.1611.0",
        "IsLatestVersion": true,
        "PlatformType": platform_type,
        "PlatformName": name,
        "PlatformVersion": version,
        "ResourceType": resource_type(node),
        "IPAddress": "10.0.0.7",
        "ComputerName": format!("host-{tail}.example.internal"),
        "SourceId": node.id,
        "SourceType": node.source_type,
    });
    if node.is_hybrid() {
        information["Name"] = json!(format!("server-{tail}"));
        information["ActivationId"] = json!("0f1e2d3c-0000-4000-8000-000000000001");
        information["IamRole"] = json!("service-role/AmazonEC2RunCommandRoleForManagedInstances");
        information["RegistrationDate"] = json!(1_700_000_000.123);
    }
    information
}

pub(super) fn resource_type(node: &Node) -> &'static str {
    if node.is_hybrid() { "ManagedInstance" } else { "EC2Instance" }
}

/// An item of `DescribeInstancePatchStates`; `None` for a node that was never scanned.
pub(super) fn patch_state(node: &Node) -> Option<Value> {
    let scan = node.told_scan()?;
    let is_silent = node.nonsense == Some(Nonsense::CountsDisagree);
    let problems: &[Patch] = if is_silent { &[] } else { &scan.problems };
    let counted = |is_counted: &dyn Fn(&Patch) -> bool| {
        problems.iter().filter(|patch| is_counted(patch)).count()
    };
    let is_critical = |patch: &Patch| patch.level == Level::Critical;
    let counts = Scan { problems: problems.to_vec(), ..scan.clone() }.counts();
    let mut state = json!({
        "InstanceId": shown_id(node),
        "PatchGroup": node.patch_group(),
        "BaselineId": node.baseline_id(),
        "SnapshotId": scan.execution_id,
        "OwnerInformation": "",
        "Operation": if scan.is_install { "Install" } else { "Scan" },
        "OperationStartTime": seconds(shown_end_ms(node, scan) - 60_000),
        "OperationEndTime": seconds(shown_end_ms(node, scan)),
        "RebootOption": "NoReboot",
        "InstalledCount": counts.installed,
        "InstalledOtherCount": counts.installed_other,
        "InstalledPendingRebootCount": counts.installed_pending_reboot,
        "InstalledRejectedCount": counts.installed_rejected,
        "MissingCount": counts.missing,
        "FailedCount": counts.failed,
        "NotApplicableCount": scan.not_applicable,
        "UnreportedNotApplicableCount": 0,
        "CriticalNonCompliantCount": counted(&is_critical),
        "SecurityNonCompliantCount": counted(&|patch| patch.is_security()),
        "OtherNonCompliantCount":
            counted(&|patch| !is_critical(patch) && !patch.is_security()),
    });
    match node.nonsense {
        Some(Nonsense::NegativeCount) => state["MissingCount"] = json!(-3),
        Some(Nonsense::HugeCount) => state["MissingCount"] = json!(2_000_000),
        Some(Nonsense::NoOperation) => {
            state.as_object_mut().and_then(|state| state.remove("Operation"));
        }
        _ => {}
    }
    Some(state)
}

/// The items of `DescribeInstancePatches`.
pub(super) fn patches(node: &Node) -> impl Iterator<Item = Value> + '_ {
    let platform = node.platform;
    let is_odd = node.nonsense == Some(Nonsense::UnknownPatchState);
    node.told_scan().into_iter().flat_map(Scan::patches).map(move |patch| {
        let mut shown = json!({
            "Title": patch.title(platform),
            "KBId": patch.kb_id(platform),
            "Classification": patch.classification(platform),
            "Severity": patch.vendor_severity(platform),
            "State": if is_odd { "Banana" } else { patch.state.as_str() },
            "InstalledTime": patch.installed_at_seconds(platform),
        });
        if let Some(cve_ids) = patch.cve_ids(platform) {
            shown["CVEIds"] = json!(cve_ids);
        }
        shown
    })
}

/// The items of `ListComplianceItems`.
pub(super) fn compliance_items(node: &Node) -> impl Iterator<Item = Value> + '_ {
    let platform = node.platform;
    node.told_scan().into_iter().flat_map(move |scan| {
        scan.patches().map(move |patch| {
            let is_non_compliant = patch.state.is_non_compliant();
            json!({
                "ComplianceType": "Patch",
                "ResourceType": "ManagedInstance",
                "ResourceId": node.id,
                "Id": patch.kb_id(platform),
                "Title": patch.title(platform),
                "Status": if is_non_compliant { "NON_COMPLIANT" } else { "COMPLIANT" },
                "Severity": patch.level.as_str(),
                "ExecutionSummary": execution(node, scan),
                "Details": {
                    "DocumentName": "AWS-RunPatchBaseline",
                    "DocumentVersion": "1",
                    "Classification": patch.classification(platform),
                    "PatchBaselineId": node.baseline_id(),
                    "PatchSeverity": patch.vendor_severity(platform),
                    "PatchState": patch.state.as_str(),
                    "PatchGroup": node.patch_group(),
                },
            })
        })
    })
}

fn execution(node: &Node, scan: &Scan) -> Value {
    json!({
        "ExecutionTime": seconds(shown_end_ms(node, scan)),
        "ExecutionId": scan.execution_id,
        "ExecutionType": "Command",
    })
}

fn shown_id(node: &Node) -> String {
    match node.nonsense {
        Some(Nonsense::BadInstanceId) => format!("no-node {}", node.id),
        _ => node.id.clone(),
    }
}

fn shown_end_ms(node: &Node, scan: &Scan) -> i64 {
    match node.nonsense {
        Some(Nonsense::AncientTime) => JANUARY_1970_MS,
        Some(Nonsense::FutureTime) => YEAR_2999_MS,
        _ => scan.ended_at_ms,
    }
}

/// Epoch seconds with their fraction, as awsJson1.1 writes timestamps.
pub(super) fn seconds(millis: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit in 53 bits")]
    let seconds = millis as f64 / 1_000.0;
    json!(seconds)
}

fn overall_severity(problems: &[Patch]) -> Level {
    problems.iter().map(|patch| patch.level).max().unwrap_or(Level::Unspecified)
}

pub(super) fn severity_summary(counts: &SeverityCounts) -> Value {
    json!({
        "CriticalCount": counts.critical,
        "HighCount": counts.high,
        "MediumCount": counts.medium,
        "LowCount": counts.low,
        "InformationalCount": counts.informational,
        "UnspecifiedCount": counts.unspecified,
    })
}
