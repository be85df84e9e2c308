//! SSM shows one fleet: its pages are whole, its answers agree, and it changes only when told to.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ssm::{
    error::ProvideErrorMetadata,
    types::{
        AssociationFilter, AssociationFilterKey, ComplianceQueryOperatorType,
        ComplianceStringFilter, InstancePatchState, PatchOrchestratorFilter,
        ResourceComplianceSummaryItem,
    },
};
use patchferry::simulator::{Nonsense, Quota, Quotas, SeverityCounts};

use super::rig::{Rig, Says, config};

fn of_type(compliance_type: &str) -> ComplianceStringFilter {
    ComplianceStringFilter::builder()
        .key("ComplianceType")
        .values(compliance_type)
        .r#type(ComplianceQueryOperatorType::Equal)
        .build()
}

async fn summaries(rig: &Rig) -> Vec<ResourceComplianceSummaryItem> {
    let mut pages = rig
        .ssm()
        .list_resource_compliance_summaries()
        .filters(of_type("Patch"))
        .max_results(50)
        .into_paginator()
        .send();
    let mut items = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap().resource_compliance_summary_items.unwrap_or_default();
        assert!(page.len() <= 50);
        items.extend(page);
    }
    items
}

async fn patch_states(rig: &Rig, ids: &[String]) -> BTreeMap<String, InstancePatchState> {
    let mut states = BTreeMap::new();
    for ids in ids.chunks(50) {
        let asked = rig.ssm().describe_instance_patch_states().set_instance_ids(Some(ids.to_vec()));
        let page = asked.max_results(50).send().await.unwrap();
        let page = page.instance_patch_states.unwrap_or_default();
        states.extend(page.into_iter().map(|state| (state.instance_id.clone(), state)));
    }
    states
}

async fn node_ids(rig: &Rig) -> BTreeSet<String> {
    let mut pages =
        rig.ssm().describe_instance_information().max_results(50).into_paginator().send();
    let mut ids = BTreeSet::new();
    while let Some(page) = pages.next().await {
        for node in page.unwrap().instance_information_list.unwrap_or_default() {
            assert!(ids.insert(node.instance_id.unwrap()), "no node is listed twice");
        }
    }
    ids
}

fn counts_of(state: &InstancePatchState) -> [i64; 4] {
    [
        i64::from(state.missing_count),
        i64::from(state.failed_count),
        i64::from(state.installed_rejected_count.unwrap_or_default()),
        i64::from(state.installed_pending_reboot_count.unwrap_or_default()),
    ]
}

#[tokio::test]
async fn summary_state_and_patch_list_of_a_node_agree() {
    let rig = Rig::with_nodes(180).await;
    let truth = rig.control.fleet(&rig.lane);
    let ids: Vec<String> = truth.iter().map(|node| node.id.clone()).collect();
    let (summaries, states) = (summaries(&rig).await, patch_states(&rig, &ids).await);
    let scanned = truth.iter().filter(|node| node.is_scanned).count();
    assert_eq!((summaries.len(), states.len()), (scanned, scanned));
    assert!(scanned < truth.len() && truth.iter().any(|node| node.is_hybrid));
    assert_eq!(node_ids(&rig).await.len(), truth.len(), "never scanned nodes are known too");
    for summary in summaries {
        let id = summary.resource_id.as_deref().unwrap();
        let state = &states[id];
        let non_compliant: i64 = counts_of(state).iter().sum();
        let is_non_compliant = summary.status.as_ref().unwrap().as_str() == "NON_COMPLIANT";
        assert_eq!(is_non_compliant, non_compliant > 0);
        let counted = summary.non_compliant_summary.unwrap().non_compliant_count;
        assert_eq!(i64::from(counted), non_compliant);
        let executed = summary.execution_summary.unwrap();
        assert_eq!(executed.execution_time, state.operation_end_time);
        assert_eq!(executed.execution_type.as_deref(), Some("Command"));
    }
}

#[tokio::test]
async fn a_patch_list_is_filtered_by_state_in_pages_of_at_most_50() {
    let rig = Rig::with_nodes(40).await;
    let ssm = rig.ssm();
    let nodes = rig.control.fleet(&rig.lane);
    let node = nodes.iter().find(|node| node.counts.missing > 0).unwrap();
    let missing = PatchOrchestratorFilter::builder().key("State").values("Missing").build();
    let mut pages = ssm
        .describe_instance_patches()
        .instance_id(&node.id)
        .filters(missing)
        .max_results(10)
        .into_paginator()
        .items()
        .send();
    let mut found = 0;
    while let Some(patch) = pages.next().await {
        assert_eq!(patch.unwrap().state.as_str(), "Missing");
        found += 1;
    }
    assert_eq!(found, node.counts.missing);

    let too_many = ssm.describe_instance_patches().instance_id(&node.id).max_results(100);
    let refused = too_many.send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"));
    assert!(refused.message().unwrap().contains("Member must have value less than or equal to 50"));
}

#[tokio::test]
async fn unknown_nodes_are_absent_and_51_are_too_many() {
    let rig = Rig::with_nodes(0).await;
    let ask = |count: usize| {
        let ids = (0..count).map(|number| format!("i-{number:017x}")).collect();
        rig.ssm().describe_instance_patch_states().set_instance_ids(Some(ids)).send()
    };
    assert!(ask(50).await.unwrap().instance_patch_states().is_empty());
    assert_eq!(ask(51).await.unwrap_err().code(), Some("ValidationException"));
}

#[tokio::test]
async fn compliance_items_name_the_document_and_the_level() {
    let rig = Rig::with_nodes(40).await;
    let nodes = rig.control.fleet(&rig.lane);
    let node = nodes.iter().find(|node| node.is_non_compliant).unwrap();
    let ask = rig.ssm().list_compliance_items().resource_ids(&node.id).filters(of_type("Patch"));
    let items = ask.send().await.unwrap();
    let first = &items.compliance_items()[0];
    assert_eq!(first.status.as_ref().unwrap().as_str(), "NON_COMPLIANT");
    assert_eq!(first.details.as_ref().unwrap()["DocumentName"], "AWS-RunPatchBaseline");
}

#[tokio::test]
async fn all_associations_of_a_node_show_the_time_of_the_last_to_run_but_not_as_their_status() {
    let rig = Rig::with_nodes(10).await;
    let node = rig.control.fleet(&rig.lane)[0].id.clone();
    let document = "AWS-RunPatchBaselineAssociation";
    let first = rig.control.create_association(&rig.lane, document);
    let second = rig.control.create_association(&rig.lane, "AWS-GatherSoftwareInventory");
    rig.control.association_violated(&rig.lane, &node, &first, "HIGH").unwrap();
    rig.control.association_complies(&rig.lane, &node, &second).unwrap();

    let ask = rig.ssm().list_compliance_items().resource_ids(&node).filters(of_type("Association"));
    let items = ask.send().await.unwrap().compliance_items.unwrap();
    let shown = items.iter().map(|item| item.execution_summary.as_ref().unwrap().execution_time);
    assert_eq!((items.len(), shown.collect::<BTreeSet<_>>().len()), (2, 1), "{items:?}");
    let runs = rig.ssm().describe_instance_associations_status().instance_id(&node);
    let runs = runs.send().await.unwrap().instance_association_status_infos.unwrap();
    let at = |id: &str| {
        let run = runs.iter().find(|run| run.association_id.as_deref() == Some(id));
        run.unwrap().execution_date.unwrap()
    };
    assert!(at(&first) < at(&second));

    let ask = rig.ssm().list_resource_compliance_summaries().filters(of_type("Association"));
    let summaries = ask.send().await.unwrap().resource_compliance_summary_items.unwrap();
    assert_eq!(summaries.len(), 1, "no other node has any");
    assert_eq!(summaries[0].status.as_ref().unwrap().as_str(), "NON_COMPLIANT");
    assert_eq!(summaries[0].non_compliant_summary.as_ref().unwrap().non_compliant_count, 1);
    assert_eq!(summaries[0].compliant_summary.as_ref().unwrap().compliant_count, 1);

    let by_document = AssociationFilter::builder().key(AssociationFilterKey::Name).value(document);
    let ask = rig.ssm().list_associations().association_filter_list(by_document.build().unwrap());
    let listed = ask.send().await.unwrap().associations.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].association_id.as_deref(), Some(first.as_str()));
    assert_eq!(listed[0].last_execution_date, Some(at(&first)));
}

#[tokio::test]
async fn ssm_throttles_beyond_its_rate() {
    let mut config = config(0);
    config.quotas =
        Quotas { ssm: Some(Quota { per_second: 0.000_1, burst: 1.0 }), ..Quotas::default() };
    let rig = Rig::start(config).await;
    let ask = || rig.ssm().describe_instance_information().send();
    assert!(ask().await.is_ok());
    let refused = ask().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 400);
    assert_eq!(refused.code(), Some("ThrottlingException"));
    assert_eq!(rig.control.stats(&rig.lane).throttled, 1);
}

#[tokio::test]
async fn a_node_does_what_it_is_told() {
    let rig = Rig::with_nodes(30).await;
    let control = &rig.control;
    let nodes = control.fleet(&rig.lane);
    let scanned: Vec<&str> =
        nodes.iter().filter(|node| node.is_scanned).map(|node| node.id.as_str()).collect();
    let severities = SeverityCounts { critical: 1, ..SeverityCounts::default() };
    control.make_non_compliant(&rig.lane, scanned[0], 3, severities).unwrap();
    control.make_compliant(&rig.lane, scanned[1]).unwrap();
    control.stop_node(&rig.lane, scanned[2]).unwrap();
    control.remove_node(&rig.lane, scanned[3]).unwrap();
    assert!(control.remove_node(&rig.lane, scanned[3]).is_err());

    let ids: Vec<String> = scanned[..4].iter().map(ToString::to_string).collect();
    let states = patch_states(&rig, &ids).await;
    assert_eq!(counts_of(&states[scanned[0]]), [3, 0, 0, 0]);
    assert_eq!(states[scanned[0]].critical_non_compliant_count, Some(1));
    assert_eq!(counts_of(&states[scanned[1]]), [0; 4]);
    assert!(states.contains_key(scanned[2]), "a stopped node keeps its compliance data");
    assert!(!states.contains_key(scanned[3]));
    let online = node_ids(&rig).await;
    assert!(!online.contains(scanned[2]) && !online.contains(scanned[3]));
}

#[tokio::test]
async fn a_hybrid_node_is_listed_until_it_is_deregistered_whatever_is_forgotten_of_it() {
    let rig = Rig::with_nodes(30).await;
    let nodes = rig.control.fleet(&rig.lane);
    let hybrid = nodes.iter().filter(|node| node.is_scanned).find(|node| node.is_hybrid);
    let hybrid = hybrid.expect("a tenth of the fleet is hybrid").id.clone();
    let is_told = |rows: Vec<ResourceComplianceSummaryItem>| {
        rows.iter().any(|row| row.resource_id.as_deref() == Some(hybrid.as_str()))
    };
    rig.control.stop_node(&rig.lane, &hybrid).unwrap();
    assert!(node_ids(&rig).await.contains(&hybrid));
    rig.control.forget_compliance(&rig.lane, &hybrid).unwrap();
    assert!(!is_told(summaries(&rig).await) && node_ids(&rig).await.contains(&hybrid));
    rig.control.remember_compliance(&rig.lane, &hybrid).unwrap();
    rig.control.terminate_node(&rig.lane, &hybrid).unwrap();
    assert!(is_told(summaries(&rig).await) && !node_ids(&rig).await.contains(&hybrid));
}

#[tokio::test]
async fn a_corrupt_nodes_answers_make_no_sense() {
    let rig = Rig::with_nodes(30).await;
    let nodes = rig.control.fleet(&rig.lane);
    let node = nodes.iter().find(|node| node.is_non_compliant).unwrap().id.clone();
    let corrupt = |nonsense| rig.control.corrupt_node(&rig.lane, &node, nonsense).unwrap();
    let state = || async { patch_states(&rig, std::slice::from_ref(&node)).await };

    corrupt(Some(Nonsense::NegativeCount));
    assert_eq!(state().await[&node].missing_count, -3);
    corrupt(Some(Nonsense::AncientTime));
    assert_eq!(state().await[&node].operation_end_time.secs(), 86_400);
    corrupt(Some(Nonsense::UnknownStatus));
    let statuses: Vec<String> = summaries(&rig)
        .await
        .into_iter()
        .filter(|summary| summary.resource_id.as_deref() == Some(&node))
        .map(|summary| summary.status.unwrap().as_str().to_string())
        .collect();
    assert_eq!(statuses, ["BANANA"]);
    corrupt(Some(Nonsense::BadInstanceId));
    assert!(state().await.keys().all(|id| id.starts_with("no-node")));
    corrupt(None);
    assert!(state().await[&node].missing_count >= 0);
}

#[tokio::test]
async fn the_oracle_sees_what_the_hub_lacks_has_wrong_and_has_too_much() {
    let rig = Rig::with_nodes(60).await;
    let nodes = rig.control.fleet(&rig.lane);
    let bad = nodes.iter().filter(|node| node.is_non_compliant);
    let finding_of = |node: &patchferry::simulator::FleetNode| {
        let counts = node.counts;
        let mut says = Says::open(&format!("finding/{}", node.id), &node.id);
        says.counts = [
            counts.missing,
            counts.failed,
            counts.installed_rejected,
            counts.installed_pending_reboot,
        ]
        .map(|count| i32::try_from(count).unwrap());
        says
    };
    let says: Vec<Says> = bad.map(finding_of).collect();
    assert_eq!(rig.control.differences(&rig.lane).len(), says.len(), "all are missing");
    rig.import(says.iter().cloned().map(Says::build).collect()).await;
    assert_eq!(rig.control.differences(&rig.lane), Vec::<String>::new());

    let (healed, changed, gone) = (&says[0].node, &says[1].node, &says[2].node);
    rig.control.make_compliant(&rig.lane, healed).unwrap();
    let unspecified = SeverityCounts::default();
    rig.control.make_non_compliant(&rig.lane, changed, 39, unspecified).unwrap();
    rig.control.remove_node(&rig.lane, gone).unwrap();
    rig.import(vec![Says::open("another", &says[3].node).build()]).await;
    let differences = rig.control.differences(&rig.lane).join("\n");
    for (node, expected) in [
        (healed, "ARCHIVED"),
        (changed, "[39, 0, 0, 0]"),
        (gone, "no node"),
        (&says[3].node, "two"),
    ] {
        assert!(
            differences.lines().any(|line| line.starts_with(node) && line.contains(expected)),
            "{expected}: {differences}"
        );
    }
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_request_it_waits_for() {
    let rig = Rig::with_nodes(1).await;
    let control = rig.control.clone();
    let lane = rig.lane.clone();
    let waiter = tokio::spawn(async move {
        control.wait_until(|control| control.stats(&lane).accepted == 1).await;
    });
    rig.import(vec![Says::open("f-1", "i-0123456789abcdef0").build()]).await;
    waiter.await.unwrap();
}
