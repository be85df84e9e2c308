//! A closer look at some nodes: their patch states, what associations have found on them where that
//! is of interest, and, of the non-compliant ones, their patches. Then they are accepted.
//!
//! Guarantees: a group is accepted whole, durably; a node whose details SSM can't give is skipped,
//! told of ([`Look::into_skipped`]), and stands in no other's way; what SSM tells that nobody asked
//! for isn't swallowed.
//!
//! Deliberately doesn't know: why these nodes.

use std::{collections::HashMap, time::Instant};

use super::{
    associations::{self, AssociationScan, PatchVerdict},
    error::{IngestError, Skipped},
    reads::{LaneReads, Read},
};
use crate::{
    aws::{AwsError, Fault, ssm::PATCH_STATE_NODES_MAX},
    failpoint::{self, FailPoint},
    metrics::{ObservationOutcome, SsmOperation},
    queue::{AcceptedNode, PAGE_ITEMS_MAX, Seen, details},
    record::{
        NodeId, Observation, PatchDetail, ReadNumber, Source, Stage, Text, UnixMillis,
        observation::{GoneReason, NodeInfo, PatchList, RawCompliance, RawPatchState},
    },
};

/// After so many nodes in a row it isn't the nodes.
const SKIPPED_IN_A_ROW_MAX: usize = 5;

/// Nodes of one group at most: what one `DescribeInstancePatchStates` call takes, and a page holds.
pub(super) const GROUP_NODES_MAX: usize =
    if PATCH_STATE_NODES_MAX < PAGE_ITEMS_MAX { PATCH_STATE_NODES_MAX } else { PAGE_ITEMS_MAX };

/// A node to be looked at, with what is known of it already.
pub(super) struct Candidate {
    /// As AWS gave it.
    pub node: Text<128>,
    pub compliance: Option<RawCompliance>,
    pub info: Option<NodeInfo>,
    /// The ledger row that makes this state known; `None`: the next sweep looks again.
    pub seen: Option<Seen>,
    /// Whether its patches are of interest.
    pub non_compliant: bool,
    /// Whether what associations have found on it is of interest.
    pub associations: bool,
}

/// The read that named the candidates: the oldest part of what is accepted of them.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub read: ReadNumber,
    pub at: UnixMillis,
}

/// What is told of a node beside its patch state.
#[derive(Default)]
struct Details {
    /// In place of the patch state.
    scan: Option<AssociationScan>,
    list: Option<PatchList>,
    patches: Vec<Vec<u8>>,
}

/// See the module.
pub(super) struct Look<'a> {
    reads: &'a LaneReads,
    source: Source,
    patch_details: bool,
    skipped: Option<Skipped>,
    skipped_in_a_row: usize,
}

impl<'a> Look<'a> {
    pub fn new(reads: &'a LaneReads, source: Source, patch_details: bool) -> Self {
        Self { reads, source, patch_details, skipped: None, skipped_in_a_row: 0 }
    }

    /// The nodes that were skipped, if any were.
    pub fn into_skipped(self) -> Option<Skipped> {
        self.skipped
    }

    /// How many were.
    pub fn skipped_nodes(&self) -> usize {
        self.skipped.as_ref().map_or(0, |skipped| skipped.nodes)
    }

    /// Looks at a group of at most [`GROUP_NODES_MAX`] and accepts it; how many were accepted.
    pub async fn accept(
        &mut self,
        group: Vec<Candidate>,
        named: Named,
    ) -> Result<usize, IngestError> {
        let ids: Vec<NodeId> =
            group.iter().filter_map(|candidate| candidate.node.as_str().parse().ok()).collect();
        let states = self.patch_states(&ids).await?;
        self.accept_with(group, states, named).await
    }

    /// The same, of nodes whose patch states are known already.
    pub async fn accept_with(
        &mut self,
        group: Vec<Candidate>,
        mut states: HashMap<String, RawPatchState>,
        named: Named,
    ) -> Result<usize, IngestError> {
        let mut accepted = Vec::with_capacity(group.len());
        let mut untold = Vec::new();
        for mut candidate in group {
            let node = candidate.node.clone();
            let state = states.remove(node.as_str());
            let Details { scan, list, patches } = match self
                .details(&candidate, state.as_ref())
                .await
            {
                Err(IngestError::Aws(error)) if matches!(error.fault, Fault::Refused { .. }) => {
                    tracing::warn!(lane = %self.reads.lane(), %node, %error, "the node's details can't be read: it goes on without them and is read again");
                    candidate.seen = None;
                    Details::default()
                }
                Err(IngestError::Aws(error)) if self.may_skip(&error) => {
                    self.skip(node, error);
                    continue;
                }
                details => details?,
            };
            let Candidate { compliance, info, mut seen, .. } = candidate;
            let (compliance, patch_state) = match scan {
                Some(scan) => {
                    if let Some(seen) = &mut seen {
                        seen.non_compliant = scan.non_compliant;
                    }
                    let (compliance, state) = scan.into_parts();
                    (Some(compliance), state)
                }
                None => (compliance, state),
            };
            if compliance.is_none() && patch_state.is_none() {
                // Associations that don't count, and nothing else.
                untold.extend(seen.map(|seen| (node, Seen { non_compliant: false, ..seen })));
                continue;
            }
            let observation = Observation {
                patch_state,
                node_info: info,
                compliance,
                patches: list,
                // The lowest of its reads: never taken for newer than its oldest part.
                ..self.bare(node, named)
            };
            accepted.push(AcceptedNode { observation, seen, patches });
        }
        self.reads.queues().note_seen(self.reads.lane(), untold).await?;
        // What SSM tells that nobody asked for makes no sense, but isn't swallowed either.
        let unasked = states.into_iter().map(|(node, state)| self.unasked(&node, state, named));
        accepted.extend(unasked);
        self.hand_over(accepted).await
    }

    /// Accepts that these nodes are gone: a read of its own, which told so.
    pub async fn accept_gone(
        &self,
        nodes: Vec<(Text<128>, GoneReason)>,
        told: Named,
    ) -> Result<usize, IngestError> {
        let accepted = nodes.into_iter().map(|(node, reason)| {
            let observation = Observation { gone: Some(reason), ..self.bare(node, told) };
            AcceptedNode { observation, seen: None, patches: Vec::new() }
        });
        self.hand_over(accepted.collect()).await
    }

    async fn details(
        &mut self,
        candidate: &Candidate,
        state: Option<&RawPatchState>,
    ) -> Result<Details, IngestError> {
        let Candidate { node, compliance, non_compliant, associations, .. } = candidate;
        if *associations && let Ok(node) = node.as_str().parse::<NodeId>() {
            let verdict = PatchVerdict::of(compliance.as_ref(), state);
            let scan = associations::scan_of(self.reads, &node, verdict).await?;
            self.skipped_in_a_row = 0;
            if let Some(scan) = scan.filter(|scan| scan.prevails(verdict)) {
                return Ok(Details { scan: Some(scan), ..Details::default() });
            }
        }
        let (list, patches) = self.patch_list(node.as_str(), *non_compliant).await?;
        if list.is_some() {
            self.skipped_in_a_row = 0;
        }
        Ok(Details { scan: None, list, patches })
    }

    async fn hand_over(&self, accepted: Vec<AcceptedNode>) -> Result<usize, IngestError> {
        let nodes = accepted.len();
        let metrics = self.reads.metrics();
        let began = Instant::now();
        let outcome = self.reads.queues().accept(self.reads.lane(), accepted).await;
        metrics.stage_seconds[Stage::Ingest].record(began.elapsed().as_secs_f64());
        let counted = &metrics.observations[self.source];
        match outcome {
            Ok(()) => {
                failpoint::reach(FailPoint::ObservationsCommitted);
                counted[ObservationOutcome::Accepted].increment(nodes as u64);
                Ok(nodes)
            }
            Err(error) => {
                counted[ObservationOutcome::Refused].increment(nodes as u64);
                Err(error.into())
            }
        }
    }

    /// Whether the others are looked at although one met this: not if SSM as a whole is out.
    fn may_skip(&self, error: &AwsError) -> bool {
        matches!(error.fault, Fault::Unavailable { .. })
            && self.skipped_in_a_row < SKIPPED_IN_A_ROW_MAX
    }

    fn skip(&mut self, node: Text<128>, error: AwsError) {
        self.skipped_in_a_row += 1;
        match &mut self.skipped {
            Some(skipped) => skipped.nodes += 1,
            None => self.skipped = Some(Skipped { nodes: 1, first: node, error }),
        }
    }

    /// What `DescribeInstancePatchStates` says of at most [`GROUP_NODES_MAX`] nodes.
    pub async fn patch_states(
        &self,
        ids: &[NodeId],
    ) -> Result<HashMap<String, RawPatchState>, IngestError> {
        let mut states = HashMap::new();
        if ids.is_empty() {
            return Ok(states);
        }
        let mut from = None;
        loop {
            let Read { page, .. } = self
                .reads
                .ask(SsmOperation::DescribeInstancePatchStates, |ssm| {
                    let from = from.clone();
                    async move { ssm.patch_states(ids, from).await }
                })
                .await?;
            states.extend(page.items.into_iter().map(|row| (row.node.to_string(), row.state)));
            from = page.next;
            if from.is_none() {
                return Ok(states);
            }
        }
    }

    /// The patches that make a node non-compliant, the most severe if they are too many: the list's
    /// head, and its chunks.
    async fn patch_list(
        &self,
        node: &str,
        non_compliant: bool,
    ) -> Result<(Option<PatchList>, Vec<Vec<u8>>), IngestError> {
        if !non_compliant || !self.patch_details {
            return Ok((None, Vec::new()));
        }
        let Ok(node) = node.parse::<NodeId>() else { return Ok((None, Vec::new())) };
        let mut patches: Vec<PatchDetail> = Vec::new();
        let mut total = 0_usize;
        let mut from = None;
        let mut first = None;
        loop {
            let Read { number, page } = self
                .reads
                .ask(SsmOperation::DescribeInstancePatches, |ssm| {
                    let (node, from) = (node.clone(), from.clone());
                    async move { ssm.patches(&node, from).await }
                })
                .await?;
            let read = *first.get_or_insert(number);
            total += page.items.len();
            patches.extend(page.items);
            if patches.len() > details::PATCHES_KEPT_MAX {
                patches.sort_by_key(PatchDetail::rank);
                patches.truncate(details::PATCHES_KEPT_MAX);
            }
            from = page.next;
            if from.is_none() {
                let (list, chunks) = super::patch_list(read, &patches, total);
                return Ok((Some(list), chunks));
            }
        }
    }

    fn unasked(&self, node: &str, state: RawPatchState, named: Named) -> AcceptedNode {
        let observation = Observation { patch_state: Some(state), ..self.bare(node.into(), named) };
        AcceptedNode { observation, seen: None, patches: Vec::new() }
    }

    /// An observation that tells nothing yet.
    fn bare(&self, node: Text<128>, named: Named) -> Observation {
        Observation {
            node,
            read: named.read,
            read_at: named.at,
            source: self.source,
            compliance: None,
            patch_state: None,
            node_info: None,
            patches: None,
            gone: None,
        }
    }
}
