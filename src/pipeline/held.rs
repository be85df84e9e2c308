//! What a lane's hub holds, as findings of ours: how they are asked for, and what of the hub's copy
//! can be taken over.
//!
//! Deliberately doesn't know: what is done with them.

use crate::{
    aws::security_hub::HubRecord,
    record::{
        Change, Facts, Finding, FindingId, Lane, NodeId, RenderPolicy, Severity, Source, Text,
        UnixMillis,
    },
};

/// How the Ids of a lane's findings begin that are one per node.
pub fn node_id_prefix(lane: &Lane) -> String {
    format!("patchferry/{}/{}/{}/", lane.partition(), lane.region, lane.account)
}

/// How the Ids of a lane's findings begin that are one per run.
pub fn operation_id_prefix(lane: &Lane) -> String {
    let (partition, region, account) = (lane.partition(), &lane.region, &lane.account);
    format!("arn:{partition}:patchmanager:{region}:{account}:instance/")
}

/// The finding as far as the hub's copy tells; `None` if its Id isn't one that we would give.
pub fn finding(lane: &Lane, record: HubRecord) -> Option<Finding> {
    let node: NodeId = record.node?;
    let id = finding_id(lane, &node, &record.id)?;
    let updated_at = record.updated_at?;
    let created_at = record.created_at.unwrap_or(updated_at);
    let is_default = record.product_arn == lane.default_product_arn();
    let policy = RenderPolicy {
        product_arn: (!is_default).then(|| Text::truncated(&record.product_arn)),
        ..RenderPolicy::default()
    };
    Some(Finding {
        node,
        id,
        change: Change::Opened,
        state: record.state,
        severity: record.severity.unwrap_or(Severity::Informational),
        created_at,
        updated_at,
        first_observed_at: record.first_observed_at.unwrap_or(created_at),
        last_observed_at: updated_at,
        facts: Facts::default(),
        policy,
        source: Source::Derived,
        accepted_at: UnixMillis(0),
    })
}

/// The form of Id that renders as `text`.
fn finding_id(lane: &Lane, node: &NodeId, text: &str) -> Option<FindingId> {
    let by_run = || {
        let (_, rest) = text.split_once("/document/")?;
        let (document, command) = rest.split_once("/run-command/")?;
        Some(FindingId::Operation {
            document: Text::non_blank(document)?,
            command: Text::non_blank(command)?,
        })
    };
    let id = if text.starts_with("patchferry/") { FindingId::Node } else { by_run()? };
    (id.render(lane, node) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aws::security_hub::HubWorkflow, record::RecordState};

    fn record(id: &str) -> HubRecord {
        HubRecord {
            id: id.into(),
            product_arn: "arn:aws:securityhub:us-east-2:111122223333:product/111122223333/default"
                .into(),
            node: "i-02573cafcfEXAMPLE".parse().ok(),
            created_at: None,
            updated_at: Some(UnixMillis(5)),
            first_observed_at: None,
            state: RecordState::Open,
            severity: None,
            workflow: HubWorkflow::New,
        }
    }

    #[test]
    fn both_forms_of_id_are_taken_over_and_no_other() {
        let lane: Lane = "111122223333/us-east-2".parse().unwrap();
        for (id, is_ours) in [
            ("patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance", true),
            ("patchferry/aws/us-east-1/111122223333/i-02573cafcfEXAMPLE/patch-compliance", false),
            (
                "arn:aws:patchmanager:us-east-2:111122223333:instance/i-02573cafcfEXAMPLE/document/D/run-command/C",
                true,
            ),
            (
                "arn:aws:patchmanager:us-east-2:111122223333:instance/i-02573cafcfEXAMPLE/document/D",
                false,
            ),
            ("somebody/else", false),
        ] {
            let taken = finding(&lane, record(id));
            assert_eq!(taken.is_some(), is_ours, "{id}");
            if let Some(taken) = taken {
                assert_eq!(taken.id.render(&lane, &taken.node), id);
                assert_eq!(taken.policy.product_arn, None, "the default product has no name");
            }
        }
    }
}
