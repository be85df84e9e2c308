//! SSM's answers.

use super::http::{Answer, Canned};
use crate::{
    aws::{Fault, Unavailability},
    record::{UnixMillis, observation::PatchState},
};

#[tokio::test]
async fn ssm_rows_survive_what_aws_leaves_out() {
    let canned = Canned::new(|name, _| match name {
        "AmazonSSM.ListResourceComplianceSummaries" => Answer::json(
            200,
            r#"{"NextToken":"","ResourceComplianceSummaryItems":[{"ResourceId":"i-12345678","Status":"NON_COMPLIANT","ExecutionSummary":{"ExecutionTime":0,"ExecutionId":""},"NonCompliantSummary":{"NonCompliantCount":2,"SeveritySummary":{"HighCount":2}}},{"Status":"COMPLIANT"}]}"#,
        ),
        "AmazonSSM.DescribeInstanceInformation" => Answer::json(
            200,
            r#"{"NextToken":"n","InstanceInformationList":[{"InstanceId":"mi-0123456789abcdef0","ResourceType":"ManagedInstance","SourceType":"Microsoft.Compute/virtualMachines","Name":" "}]}"#,
        ),
        _ => panic!("{name}"),
    });
    let ssm = canned.lane().await.ssm;
    let rows = ssm.compliance_summaries(None).await.unwrap();
    assert_eq!((rows.items.len(), rows.next), (1, None));
    let compliance = &rows.items[0].compliance;
    assert_eq!((&compliance.execution_time, &compliance.execution_id), (&None, &None));
    assert_eq!(compliance.non_compliant.high, 2);
    let nodes = ssm.node_information(None).await.unwrap();
    assert_eq!(nodes.next.as_deref(), Some("n"));
    assert_eq!(nodes.items[0].info.name, None);
    let kind = nodes.items[0].info.source_type.as_ref().unwrap();
    assert_eq!(kind.as_str(), "Microsoft.Compute/virtualMachines");
}

#[tokio::test]
async fn a_refused_filter_is_given_up_for_good_and_the_rest_dropped_here() {
    let canned = Canned::new(|_, body| {
        if body.contains("Filters") {
            return Answer::error(400, "InvalidFilter", r#"{"message":"no"}"#);
        }
        Answer::json(
            200,
            r#"{"NextToken":"n","Patches":[{"Title":"t","KBId":"KB1","Classification":"","Severity":"","State":"Installed","InstalledTime":-62135596800},{"Title":"t","KBId":"KB2","Classification":"","Severity":"","State":"InstalledRejected","InstalledTime":0,"CVEIds":"CVE-1, CVE-2"}]}"#,
        )
    });
    let ssm = canned.lane().await.ssm;
    let node = "i-12345678".parse().unwrap();
    let page = ssm.patches(&node, None).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].state, PatchState::InstalledRejected);
    assert_eq!(page.items[0].cves.len(), 2);
    ssm.patches(&node, page.next).await.unwrap();
    assert_eq!(canned.requests().len(), 3);
}

#[tokio::test]
async fn one_node_without_an_operation_costs_no_other_node_its_row() {
    let canned = Canned::new(|_, body| {
        if body.contains("i-bad00000") {
            return Answer::json(
                200,
                r#"{"InstancePatchStates":[{"InstanceId":"i-bad00000","PatchGroup":"g"}]}"#,
            );
        }
        Answer::json(
            200,
            r#"{"InstancePatchStates":[{"InstanceId":"i-good0000","PatchGroup":"g","BaselineId":"b","Operation":"Scan","MissingCount":3,"OperationEndTime":1636668325.5}]}"#,
        )
    });
    let ssm = canned.lane().await.ssm;
    let nodes = ["i-bad00000".parse().unwrap(), "i-good0000".parse().unwrap()];
    let page = ssm.patch_states(&nodes, None).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let good = page.items.iter().find(|row| row.node.as_str() == "i-good0000").unwrap();
    assert_eq!(good.state.missing, 3);
    assert_eq!(good.state.operation_end, Some(UnixMillis(1_636_668_325_500)));
    let bad = page.items.iter().find(|row| row.node.as_str() == "i-bad00000").unwrap();
    assert!(bad.state.operation.is_blank());
}

#[tokio::test]
async fn a_read_that_fails_is_left_to_whoever_has_the_limiter() {
    let canned = Canned::always(Answer::error(500, "InternalServerError", "{}"));
    let error = canned.lane().await.ssm.node_information(None).await.unwrap_err();
    assert!(
        matches!(
            error.fault,
            Fault::Unavailable { kind: Unavailability::Server { status: 500 }, .. }
        ),
        "{error}"
    );
    assert_eq!(canned.requests().len(), 1, "the SDK's retries would go past the limiter");
}

#[tokio::test]
async fn of_a_node_s_items_only_what_is_non_compliant_is_asked_for_or_else_kept() {
    let canned = Canned::new(|_, body| {
        if body.contains("\"Status\"") {
            return Answer::error(400, "InvalidFilter", r#"{"message":"no"}"#);
        }
        Answer::json(
            200,
            r#"{"NextToken":"n","ComplianceItems":[{"ComplianceType":"Patch","Status":"COMPLIANT","Severity":"HIGH"},{"ComplianceType":"Patch","Status":""},{"ComplianceType":"Association","Status":"NON_COMPLIANT"},{"ComplianceType":"Patch","Status":"NON_COMPLIANT","Severity":"CRITICAL","ExecutionSummary":{"ExecutionTime":1636668325,"ExecutionId":"c","ExecutionType":"Command"}}]}"#,
        )
    });
    let ssm = canned.lane().await.ssm;
    let node = "i-12345678".parse().unwrap();
    let page = ssm.non_compliant_items(&node, None).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].severity.as_str(), "CRITICAL");
    assert_eq!(page.items[0].execution_time, Some(UnixMillis(1_636_668_325_000)));
    ssm.non_compliant_items(&node, page.next).await.unwrap();
    assert_eq!(canned.requests().len(), 3, "the filter is given up for good");
}
