//! Reading the nodes of some hints, and accepting what is read.
//!
//! Guarantees: a hint whose node is accepted is done; one whose node can't be read yet is put back;
//! what is left in the group after an error has no fate yet.

use std::collections::{HashMap, HashSet};

use super::{
    LaneEvents,
    work::{Group, Heard},
};
use crate::{
    aws::{AwsError, Fault},
    metrics::{EventOutcome, SsmOperation},
    pipeline::ingest::{
        IngestError, change,
        event::{
            parse::What,
            reading::{NonCompliance, Reading, judge},
        },
        look::{Candidate, Look, Named},
        reads::Read,
    },
    queue::QueueError,
    record::{
        NodeId, Source,
        observation::{GoneReason, NodeInfo, RawPatchState},
    },
};

/// Pages of a node's compliance items.
const ITEM_PAGES_MAX: usize = 200;
/// After so many nodes in a row it isn't the nodes.
const FAILED_IN_A_ROW_MAX: usize = 3;

/// Nodes that something has happened to.
impl LaneEvents {
    /// Reads a group; what of it has no fate yet.
    pub(super) async fn read(&self, mut group: Group) -> (Group, Result<(), IngestError>) {
        let outcome = self.try_read(&mut group).await;
        (group, outcome)
    }

    async fn try_read(&self, group: &mut Group) -> Result<(), IngestError> {
        self.drop_terminated(group).await?;
        let ids: Vec<NodeId> = group.iter().map(|(node, _)| node.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let (_, mut infos) = self.information(&ids).await?;
        // What tells of patches is read from here on.
        let named = self.named_now().await?;
        let mut look = Look::new(&self.reads, Source::Event, self.patch_details);
        let mut states = look.patch_states(&ids).await?;
        let mut failed_in_a_row = 0;
        while let Some((node, heard)) = group.pop() {
            let (info, state) = (infos.remove(&node), states.remove(node.as_str()));
            let read = self.read_one(&mut look, &node, &heard, named, info, state).await;
            match read {
                Ok(Some(outcome)) => {
                    failed_in_a_row = 0;
                    heard.done(outcome, self.metrics(), self.now());
                }
                Ok(None) => heard.put_back_or_give_up(self.metrics()),
                Err(IngestError::Aws(error)) if is_the_node_s(&error) => {
                    tracing::debug!(lane = %self.lane(), %node, %error, "a node that an event tells of can't be read yet");
                    failed_in_a_row += 1;
                    heard.put_back_or_give_up(self.metrics());
                    if failed_in_a_row >= FAILED_IN_A_ROW_MAX {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    group.push((node, heard));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What became of it; `None` if it is to be read again.
    async fn read_one(
        &self,
        look: &mut Look<'_>,
        node: &NodeId,
        heard: &Heard,
        named: Named,
        info: Option<NodeInfo>,
        state: Option<RawPatchState>,
    ) -> Result<Option<EventOutcome>, IngestError> {
        let items = self.items(node).await?;
        let compliance = match judge(state.as_ref(), &items, heard.what, heard.at) {
            Reading::Settled(compliance) => Some(compliance),
            // Associations may know more.
            Reading::Unknown => None,
            Reading::Unsettled(why) => {
                tracing::debug!(lane = %self.lane(), %node, why, "a node that an event tells of is read again later");
                return Ok(None);
            }
        };
        let candidate = Candidate {
            node: node.as_str().into(),
            non_compliant: compliance.as_ref().is_some_and(change::is_non_compliant),
            compliance,
            info,
            // The summary that a sweep reads says more.
            seen: None,
            associations: true,
        };
        let states = state.map(|state| (node.to_string(), state)).into_iter().collect();
        let skipped_before = look.skipped_nodes();
        let accepted = look.accept_with(vec![candidate], states, named).await?;
        Ok(match heard.what {
            _ if accepted > 0 => Some(EventOutcome::Accepted),
            // No scan, so nothing that a sweep wouldn't tell as well.
            What::Associated if look.skipped_nodes() == skipped_before => {
                Some(EventOutcome::Ignored)
            }
            _ => None,
        })
    }

    /// What each of the nodes is, as far as SSM manages it and it is on.
    async fn information(
        &self,
        ids: &[NodeId],
    ) -> Result<(Named, HashMap<NodeId, NodeInfo>), IngestError> {
        match self.information_of(ids).await {
            // One id that SSM calls invalid must not hide the others.
            Err(error) if is_invalid_id(&error) => {
                let named = self.named_now().await?;
                let mut infos = HashMap::new();
                for id in ids {
                    match self.information_of(std::slice::from_ref(id)).await {
                        Ok((_, info)) => infos.extend(info),
                        Err(error) if is_invalid_id(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok((named, infos))
            }
            answer => answer,
        }
    }

    async fn information_of(
        &self,
        ids: &[NodeId],
    ) -> Result<(Named, HashMap<NodeId, NodeInfo>), IngestError> {
        let mut infos = HashMap::new();
        let (mut from, mut named) = (None, None);
        loop {
            let Read { number: read, page } = self
                .reads
                .ask(SsmOperation::DescribeInstanceInformation, |ssm| {
                    let from = from.clone();
                    async move { ssm.node_information_of(ids, from).await }
                })
                .await?;
            let named = *named.get_or_insert(Named { read, at: self.now() });
            infos.extend(
                page.items
                    .into_iter()
                    .filter_map(|row| Some((row.node.as_str().parse().ok()?, row.info))),
            );
            from = page.next;
            if from.is_none() {
                return Ok((named, infos));
            }
        }
    }

    async fn items(&self, node: &NodeId) -> Result<NonCompliance, IngestError> {
        let mut items = NonCompliance::default();
        let mut from = None;
        for _ in 0..ITEM_PAGES_MAX {
            let Read { page, .. } = self
                .reads
                .ask(SsmOperation::ListComplianceItems, |ssm| {
                    let from = from.clone();
                    async move { ssm.non_compliant_items(node, from).await }
                })
                .await?;
            page.items.into_iter().for_each(|row| items.add(row));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        Ok(items)
    }

    async fn named_now(&self) -> Result<Named, QueueError> {
        let read = self.queues().next_read(self.lane()).await?;
        Ok(Named { read, at: self.now() })
    }

    /// What SSM still says of an instance that is known to be terminated means nothing.
    async fn drop_terminated(&self, group: &mut Group) -> Result<(), IngestError> {
        let mut terminated = HashSet::new();
        for (node, _) in group.iter() {
            if self.reads.gone_as(node.as_str()).await? == Some(GoneReason::Terminated) {
                terminated.insert(node.clone());
            }
        }
        for (node, heard) in std::mem::take(group) {
            if terminated.contains(&node) {
                heard.done(EventOutcome::Ignored, self.metrics(), self.now());
            } else {
                group.push((node, heard));
            }
        }
        Ok(())
    }
}

/// Nodes that are gone.
impl LaneEvents {
    /// Accepts that a group is gone, as far as it is; what of it has no fate yet.
    pub(super) async fn gone(&self, mut group: Group) -> (Group, Result<(), IngestError>) {
        let outcome = self.try_gone(&mut group).await;
        (group, outcome)
    }

    async fn try_gone(&self, group: &mut Group) -> Result<(), IngestError> {
        let asked: Vec<NodeId> = group
            .iter()
            .filter(|(_, heard)| heard.what == What::Deregistered)
            .map(|(node, _)| node.clone())
            .collect();
        let (named, still_there) = if asked.is_empty() {
            (self.named_now().await?, HashMap::new())
        } else {
            self.information(&asked).await?
        };
        let mut gone = Vec::new();
        for (node, heard) in std::mem::take(group) {
            if still_there.contains_key(&node) {
                heard.put_back_or_give_up(self.metrics());
            } else {
                gone.push((node, heard));
            }
        }
        let nodes = gone.iter().map(|(node, heard)| {
            let terminated = heard.what == What::Terminated;
            let reason = if terminated { GoneReason::Terminated } else { GoneReason::Deregistered };
            (node.as_str().into(), reason)
        });
        let look = Look::new(&self.reads, Source::Event, self.patch_details);
        let accepted = look.accept_gone(nodes.collect(), named).await;
        if let Err(error) = accepted {
            *group = gone;
            return Err(error);
        }
        for (_, heard) in gone {
            heard.done(EventOutcome::Gone, self.metrics(), self.now());
        }
        Ok(())
    }
}

/// SSM calls an id invalid that it was asked for.
fn is_invalid_id(error: &IngestError) -> bool {
    let code = match error {
        IngestError::Aws(AwsError { fault: Fault::Refused { code, .. }, .. }) => code.as_str(),
        _ => "",
    };
    code == "InvalidInstanceId"
}

/// Whether it is the node that can't be read, rather than the lane.
fn is_the_node_s(error: &AwsError) -> bool {
    matches!(error.fault, Fault::Refused { .. } | Fault::Unavailable { .. })
}
