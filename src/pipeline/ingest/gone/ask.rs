//! Asks whether absent nodes still exist.
//!
//! | node | asked | gone |
//! |---|---|---|
//! | EC2 (`i-…`) | Cloud Control, each by itself | the account has no such instance, or a terminated one |
//! | hybrid (`mi-…`) | SSM, for it by name together with a witness: a node that was just listed | the witness is in the answer, the node isn't, nor is anybody else |
//!
//! SSM lists every hybrid node until it is deregistered, also one that has lost its connection. An
//! empty answer is none: without the witness it proves nothing.
//!
//! Guarantees: Cloud Control has a limiter of its own; a round ends at the first denial or time-out
//! and after [`FAILED_IN_A_ROW_MAX`] other failures, so that one that is out of order costs a sweep
//! no more than that; what was answered before stands.
//!
//! Deliberately doesn't know: which nodes are suspects, and what becomes of the answers.

use std::collections::HashSet;

use tokio::time::Instant;

use crate::{
    aws::{AwsError, Fault, InstanceFate, Unavailability, ssm::PAGE_ROWS_MAX},
    metrics::{SsmOperation, SsmOutcome},
    pipeline::{
        ingest::reads::{LaneReads, Read, ReadError, outcome},
        limiter::SharedLimiter,
    },
    queue::QueueError,
    record::NodeId,
};

/// Then it isn't the nodes.
const FAILED_IN_A_ROW_MAX: usize = 3;
/// A quota that others use up is left to them.
const THROTTLED_MAX: usize = 5;
/// Suspects of one request to SSM; a page has room for them and the witness.
const GROUP_NODES_MAX: usize = PAGE_ROWS_MAX as usize - 1;

/// Why a round ended.
#[derive(Debug)]
pub(super) enum End {
    /// All were asked about.
    Done,
    /// AWS won't say.
    Denied(AwsError),
    /// It can't be asked now.
    GaveUp(AwsError),
    Paused,
}

/// What came of a round.
#[derive(Debug)]
pub(super) struct Round {
    /// Whether it exists, of those that were answered for.
    pub answers: Vec<(NodeId, bool)>,
    pub end: End,
}

/// Asks Cloud Control about EC2 nodes, one after the other.
pub(super) async fn ask_cloud_control(
    reads: &LaneReads,
    limiter: &SharedLimiter,
    nodes: Vec<NodeId>,
) -> Result<Round, QueueError> {
    let mut answers = Vec::with_capacity(nodes.len());
    let (mut failed_in_a_row, mut throttled) = (0, 0);
    let mut nodes = nodes.into_iter();
    let mut next = nodes.next();
    while let Some(node) = next.take() {
        limiter.take().await;
        if reads.is_paused() {
            return Ok(Round { answers, end: End::Paused });
        }
        let clients = match reads.session().clients().await {
            Ok(clients) => clients,
            Err(error) => return Ok(Round { answers, end: End::GaveUp(error) }),
        };
        let sent_at = Instant::now();
        let answer = clients.cloud_control.instance(&node).await;
        let outcome = outcome(&answer);
        reads.metrics().cloud_control_requests[outcome].increment(1);
        match (answer, outcome) {
            (Ok(fate), _) => {
                failed_in_a_row = 0;
                answers.push((node, fate == InstanceFate::Exists));
                next = nodes.next();
            }
            (Err(error), SsmOutcome::Throttled) => {
                limiter.throttled(sent_at, Instant::now());
                throttled += 1;
                if throttled == THROTTLED_MAX {
                    return Ok(Round { answers, end: End::GaveUp(error) });
                }
                next = Some(node);
            }
            (Err(error), _) if error.fault.is_access_denied() => {
                return Ok(Round { answers, end: End::Denied(error) });
            }
            (Err(error), _) => {
                failed_in_a_row += 1;
                if failed_in_a_row == FAILED_IN_A_ROW_MAX || hangs(&error.fault) {
                    return Ok(Round { answers, end: End::GaveUp(error) });
                }
                next = nodes.next();
            }
        }
    }
    Ok(Round { answers, end: End::Done })
}

/// Asks SSM about hybrid nodes. Those that it says nothing of have no answer.
pub(super) async fn ask_ssm(
    reads: &LaneReads,
    witness: &NodeId,
    nodes: &[NodeId],
) -> Result<Round, QueueError> {
    let mut answers = Vec::with_capacity(nodes.len());
    let mut groups: Vec<&[NodeId]> = nodes.chunks(GROUP_NODES_MAX).collect();
    while let Some(group) = groups.pop() {
        let mut asked = group.to_vec();
        asked.push(witness.clone());
        match listed(reads, &asked).await {
            Ok(listed) => {
                let is_listed = |node: &NodeId| listed.contains(node.as_str());
                // Whoever is listed exists; that one isn't proves something only in an answer that
                // has the witness and nobody who wasn't asked for.
                let is_asked = |name: &String| asked.iter().any(|node| node.as_str() == name);
                let makes_sense = is_listed(witness) && listed.iter().all(is_asked);
                let told = group.iter().filter(|node| is_listed(node) || makes_sense);
                answers.extend(told.map(|node| (node.clone(), is_listed(node))));
            }
            // `InvalidInstanceId`, and it isn't said which: it may be any, for more than one
            // reason, so it is no proof.
            Err(ReadError::Aws(AwsError { fault: Fault::Refused { .. }, .. }))
                if group.len() > 1 =>
            {
                let (left, right) = group.split_at(group.len() / 2);
                groups.extend([left, right]);
            }
            Err(ReadError::Aws(AwsError { fault: Fault::Refused { .. }, .. })) => {}
            Err(ReadError::Aws(error)) => return Ok(Round { answers, end: End::GaveUp(error) }),
            Err(ReadError::Paused) => return Ok(Round { answers, end: End::Paused }),
            Err(ReadError::Queue(error)) => return Err(error),
        }
    }
    Ok(Round { answers, end: End::Done })
}

/// Which of these nodes SSM manages.
async fn listed(reads: &LaneReads, nodes: &[NodeId]) -> Result<HashSet<String>, ReadError> {
    let mut listed = HashSet::new();
    let mut from = None;
    loop {
        let Read { page, .. } = reads
            .ask(SsmOperation::DescribeInstanceInformation, |ssm| {
                let from = from.clone();
                async move { ssm.node_information_of(nodes, from).await }
            })
            .await?;
        listed.extend(page.items.into_iter().map(|row| row.node.to_string()));
        from = page.next;
        if from.is_none() {
            return Ok(listed);
        }
    }
}

/// Another request would take as long.
fn hangs(fault: &Fault) -> bool {
    matches!(fault, Fault::Unavailable { kind: Unavailability::Timeout, .. } | Fault::Held { .. })
}
