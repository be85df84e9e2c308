//! The hub takes batches by its limits, orders versions by `UpdatedAt`, and keeps its quotas.

use aws_sdk_securityhub::{
    error::{ProvideErrorMetadata, SdkError},
    types::{AwsSecurityFindingFilters, StringFilter, StringFilterComparison},
};
use patchferry::simulator::{Quota, Quotas};
use serde_json::json;

use super::rig::{
    ACCOUNT, NODE, OTHER_ACCOUNT, REGION, Rig, Says, config, finding_json, long_term,
};

const NOW: &str = "2026-11-23T10:00:00Z";

fn error_type(answer: &serde_json::Value) -> &str {
    answer["Code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_imported_finding_is_stored_and_read_back_with_what_the_service_fills_in() {
    let rig = Rig::with_nodes(0).await;
    let answer = rig.import(vec![Says::open("f-1", NODE).build()]).await;
    assert_eq!((answer.success_count, answer.failed_count), (Some(1), Some(0)));
    let stored = &rig.control.hub(&rig.lane)[0];
    assert_eq!((stored.severity_label.as_str(), stored.imports), ("HIGH", 1));
    let read = rig.hub().get_findings().send().await.unwrap().findings.unwrap();
    assert_eq!(read[0].workflow.as_ref().unwrap().status.as_ref().unwrap().as_str(), "NEW");
    assert_eq!(read[0].severity.as_ref().unwrap().normalized, Some(70));
    assert!(read[0].processed_at.is_some());
    assert!(rig.control.stats_total().violations().is_empty());
}

#[tokio::test]
async fn a_batch_has_1_to_100_findings() {
    let rig = Rig::with_nodes(0).await;
    let batch = |count: usize| -> Vec<_> {
        (0..count).map(|number| finding_json(&format!("f-{number}"), NOW)).collect()
    };
    for count in [0, 101] {
        let (status, answer) = rig.import_json(&batch(count)).await;
        assert_eq!((status, error_type(&answer)), (400, "InvalidInputException"));
    }
    let (_, answer) = rig.import_json(&batch(100)).await;
    assert_eq!(answer["SuccessCount"], 100);
    assert_eq!(rig.control.stats(&rig.lane).batch_sizes.get(&100), Some(&1));
}

#[tokio::test]
async fn a_batch_beyond_6_mb_is_refused_with_413() {
    let rig = Rig::with_nodes(0).await;
    let body = format!("{{\"Findings\":[{}]}}", " ".repeat(6_000_000));
    let (status, _) = rig.raw("POST", "/findings/import", "", &body).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_wrong_product_arn_or_account_refuses_the_whole_call() {
    let rig = Rig::with_nodes(0).await;
    let arn = |region: &str, account: &str| {
        format!("arn:aws:securityhub:{region}:{account}:product/{account}/default")
    };
    for (field, value, expected) in [
        ("ProductArn", "arn:nonsense".to_string(), (400, "InvalidInputException")),
        ("ProductArn", arn("us-west-2", ACCOUNT), (400, "InvalidInputException")),
        ("ProductArn", arn(REGION, OTHER_ACCOUNT), (403, "AccessDeniedException")),
        ("AwsAccountId", OTHER_ACCOUNT.to_string(), (403, "AccessDeniedException")),
        ("AwsAccountId", "1".to_string(), (400, "InvalidInputException")),
        ("Id", String::new(), (400, "InvalidInputException")),
    ] {
        let mut bad = finding_json("bad", NOW);
        bad[field] = json!(value);
        let (status, answer) = rig.import_json(&[finding_json("good", NOW), bad]).await;
        assert_eq!((status, error_type(&answer)), expected, "{field} {value}");
    }
    assert!(rig.control.hub(&rig.lane).is_empty());
    assert_eq!(rig.control.stats(&rig.lane).invalid_calls.values().sum::<u64>(), 6);
}

#[tokio::test]
async fn of_two_findings_with_one_id_only_the_first_is_processed() {
    let rig = Rig::with_nodes(0).await;
    let twice = [finding_json("f-1", NOW), finding_json("f-1", "2026-11-23T11:00:00Z")];
    let (_, answer) = rig.import_json(&twice).await;
    assert_eq!((&answer["SuccessCount"], &answer["FailedCount"]), (&json!(1), &json!(0)));
    assert_eq!(rig.control.hub(&rig.lane)[0].updated_at, NOW);
    assert_eq!(rig.control.stats(&rig.lane).duplicate_ids, 1);
}

#[tokio::test]
async fn only_a_later_updated_at_changes_a_finding() {
    let rig = Rig::with_nodes(0).await;
    let open = Says::open("f-1", NODE).at("2026-11-23T10:00:00.001Z");
    rig.import(vec![open.clone().build()]).await;
    rig.import(vec![open.clone().build()]).await;
    let older = open.clone().resolved().at("2026-11-23T10:00:00.000Z");
    let answer = rig.import(vec![older.build()]).await;
    assert_eq!(answer.success_count, Some(1), "an ignored version counts as success");
    let stats = rig.control.stats(&rig.lane);
    assert_eq!((stats.accepted, stats.ignored_updates, stats.rewritten_history), (1, 2, 0));
    assert_eq!(rig.control.hub(&rig.lane)[0].record_state, "ACTIVE");

    rig.import(vec![open.clone().resolved().build()]).await;
    assert_eq!(rig.control.stats(&rig.lane).rewritten_history, 1);
    rig.import(vec![open.resolved().at("2026-11-23T10:00:00.002Z").build()]).await;
    let stored = &rig.control.hub(&rig.lane)[0];
    assert_eq!((stored.record_state.as_str(), stored.imports), ("ARCHIVED", 2));
    assert_eq!(stored.history.len(), 2);
}

#[tokio::test]
async fn a_finding_that_comes_back_is_new_again_unless_suppressed() {
    let rig = Rig::with_nodes(0).await;
    let says = |id: &str| Says::open(id, NODE);
    for (id, status) in [("seen", "NOTIFIED"), ("done", "RESOLVED"), ("muted", "SUPPRESSED")] {
        rig.import(vec![says(id).build()]).await;
        assert!(rig.control.set_workflow(&rig.lane, id, status));
        rig.import(vec![says(id).at("2026-11-23T10:00:01Z").build()]).await;
        let found = |rig: &Rig| {
            let hub = rig.control.hub(&rig.lane);
            hub.into_iter().find(|finding| finding.id == id).unwrap().workflow_status
        };
        assert_eq!(found(&rig), status, "an update while it is open changes nothing");
        rig.import(vec![says(id).resolved().at("2026-11-23T10:00:02Z").build()]).await;
        rig.import(vec![says(id).at("2026-11-23T10:00:03Z").build()]).await;
        assert_eq!(found(&rig), if id == "muted" { "SUPPRESSED" } else { "NEW" });
    }
}

#[tokio::test]
async fn requests_over_quota_are_refused_and_counted() {
    let mut config = config(0);
    let import = Some(Quota { per_second: 0.000_1, burst: 2.0 });
    config.quotas = Quotas { import, ..Quotas::default() };
    let rig = Rig::start(config).await;
    let says = Says::open("f-1", NODE);
    rig.import(vec![says.clone().build()]).await;
    rig.import(vec![says.clone().build()]).await;
    let hub = rig.hub();
    let refused =
        hub.batch_import_findings().findings(says.clone().build()).send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 429);
    assert_eq!(refused.code(), Some("TooManyRequestsException"));
    assert_eq!(rig.control.stats(&rig.lane).over_quota, 1);

    rig.control.set_quotas(&rig.lane, &Quotas::UNLIMITED);
    rig.import(vec![says.build()]).await;
    assert_eq!(rig.control.stats(&rig.lane).import_requests, 4);
}

#[tokio::test]
async fn findings_are_read_by_filter_a_page_at_a_time() {
    let rig = Rig::with_nodes(0).await;
    let batch = |prefix: &str, count: usize| -> Vec<_> {
        (0..count).map(|n| Says::open(&format!("{prefix}/{n:03}"), NODE).build()).collect()
    };
    rig.import(batch("ours", 100)).await;
    rig.import(batch("ours-too", 50)).await;
    rig.import(batch("theirs", 30)).await;
    let prefix =
        StringFilter::builder().comparison(StringFilterComparison::Prefix).value("ours").build();
    let filters = AwsSecurityFindingFilters::builder().id(prefix).build();
    let read = rig.hub().get_findings().filters(filters);
    let mut pages = read.into_paginator().page_size(100).send();
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await {
        sizes.push(page.unwrap().findings.unwrap_or_default().len());
    }
    assert_eq!(sizes, [100, 50]);
}

#[tokio::test]
async fn an_unknown_filter_is_refused_and_counted() {
    let rig = Rig::with_nodes(0).await;
    let filter =
        StringFilter::builder().comparison(StringFilterComparison::Equals).value("x").build();
    let filters = AwsSecurityFindingFilters::builder().title(filter).build();
    let refused = rig.hub().get_findings().filters(filters).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("InvalidInputException"));
    assert_eq!(rig.control.stats_total().unknown_operations.len(), 1);
}

#[tokio::test]
async fn an_unknown_operation_is_refused_and_counted() {
    let rig = Rig::with_nodes(0).await;
    let hub = rig.hub().get_insights().send().await.unwrap_err();
    assert_eq!(hub.code(), Some("UnknownOperationException"));
    let ssm = rig.ssm().list_documents().send().await.unwrap_err();
    assert_eq!(ssm.code(), Some("UnknownOperationException"));
    let sts = rig.sts().get_session_token().send().await.unwrap_err();
    assert_eq!(sts.code(), Some("UnknownOperationException"));
    assert_eq!(rig.control.stats_total().unknown_operations.len(), 3);
}

#[tokio::test]
async fn an_unknown_access_key_is_nobody() {
    let rig = Rig::with_nodes(0).await;
    let stranger = aws_sdk_securityhub::Client::new(&rig.sdk(long_term(OTHER_ACCOUNT), REGION));
    let refused = stranger.describe_hub().send().await.unwrap_err();
    assert!(matches!(&refused, SdkError::ServiceError(_)));
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(refused.code(), Some("UnrecognizedClientException"));
}

#[tokio::test]
async fn the_hub_describes_itself_and_its_products() {
    let rig = Rig::with_nodes(0).await;
    rig.control.set_aws_integration_enabled(true);
    let hub = rig.hub().describe_hub().send().await.unwrap();
    assert!(hub.hub_arn().unwrap().ends_with(":hub/default"));
    let products = rig.hub().list_enabled_products_for_import().send().await.unwrap();
    assert!(products.product_subscriptions()[1].ends_with("aws/ssm-patch-manager"));
}
