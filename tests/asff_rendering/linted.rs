//! The checker, which knows nothing of the renderer, has nothing to say of what the renderer makes.

use patchferry::{
    aws::render,
    lint::{Level, lint_finding},
    record::{
        Change, Finding, HybridAs, Lane, RecordState, RenderPolicy, Severity, Template,
        observation::GoneReason,
    },
};

use super::{EXAMPLE, Wire, details, example, lane, ours};

/// A while after the example.
const NOW: i64 = 1_700_000_000_000;

const ENDS: [(Change, RecordState, Severity); 8] = [
    (Change::Opened, RecordState::Open, Severity::Critical),
    (Change::Updated, RecordState::Open, Severity::Medium),
    (Change::Reopened, RecordState::Open, Severity::Low),
    (Change::Refreshed, RecordState::Open, Severity::High),
    (Change::Resolved, RecordState::Resolved, Severity::Informational),
    (Change::Resolved, RecordState::Gone(GoneReason::Terminated), Severity::High),
    (Change::Resolved, RecordState::Gone(GoneReason::Deregistered), Severity::Low),
    (Change::Resolved, RecordState::Gone(GoneReason::AbsentTooLong), Severity::High),
];

fn remarks(wire: &Wire, lane: &Lane, finding: &Finding) -> Vec<(Level, String)> {
    let bytes = wire.bytes(render(lane, finding, &details()));
    lint_finding(&bytes, NOW).into_iter().map(|it| (it.level, it.path)).collect()
}

/// `finding` in every state, for both kinds of node, in Regions of every form.
fn all_of(finding: &Finding) -> Vec<(Lane, Finding)> {
    let mut all = Vec::new();
    for region in ["us-east-2", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-iso-east-1"] {
        for node in ["i-02573cafcfEXAMPLE", "mi-0123456789abcdef0"] {
            for (change, state, severity) in ENDS {
                let node = node.parse().unwrap();
                let finding = Finding { node, change, state, severity, ..finding.clone() };
                all.push((format!("111122223333/{region}").parse().unwrap(), finding));
            }
        }
    }
    all
}

#[test]
fn of_our_own_form_there_is_nothing_to_say_whatever_the_change() {
    let wire = Wire::new();
    for hybrid_as in [HybridAs::Other, HybridAs::AwsEc2Instance] {
        let policy = RenderPolicy { hybrid_as, ..RenderPolicy::default() };
        for (lane, finding) in all_of(&Finding { policy, ..ours() }) {
            let told = remarks(&wire, &lane, &finding);
            assert_eq!(told, [], "{lane}: {finding:?}");
        }
    }
}

#[test]
fn of_awss_form_it_says_what_aws_itself_advises_against_and_nothing_is_refused() {
    let wire = Wire::new();
    let policy = RenderPolicy { template: Template::AwsParity, ..RenderPolicy::default() };
    for (lane, finding) in all_of(&Finding { policy, ..example() }) {
        let mut told = remarks(&wire, &lane, &finding);
        told.sort_by(|a, b| a.1.cmp(&b.1));
        let expected =
            ["Resources[0].Id", "Severity", "Title", "Types", "Types[0]"].map(String::from);
        assert_eq!(told, expected.map(|path| (Level::Warning, path)), "{lane}: {finding:?}");
    }
}

#[test]
fn awss_own_example_can_be_sent_by_aws_alone_and_has_what_the_service_fills_in() {
    let told: Vec<String> = lint_finding(EXAMPLE.as_bytes(), NOW)
        .into_iter()
        .map(|it| format!("{} {}", it.level, it.path))
        .collect();
    assert_eq!(
        told,
        [
            "warning Types",
            "warning Types[0]",
            "warning Severity",
            "warning Severity.Normalized",
            "warning WorkflowState",
            "warning Workflow",
            "error ProductArn",
            "error ProductFields[\"aws/securityhub/FindingId\"]",
            "error ProductFields[\"aws/securityhub/ProductName\"]",
            "error ProductFields[\"aws/securityhub/CompanyName\"]",
            "warning Resources[0].Region",
            "warning Resources[0].Id",
            "warning Title",
        ]
    );
    assert_eq!(lane().region.as_str(), "us-east-2");
}
