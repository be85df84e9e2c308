//! Nodes whose finding is open and which no list names any more: which they are, since when, and
//! their findings told again.
//!
//! | row | key | tag | writer |
//! |---|---|---|---|
//! | [`Absence`] | `Absent`, lane, node | 0 | ingest |
//!
//! There is a row only while nobody can say whether the node still exists; accepting that it is
//! gone removes it, and so does whoever has seen the node again.
//!
//! Deliberately doesn't know: which lists there are, and when an absence is long enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Acked, Desired, QueueError, Queues, ReadBack, accounting as account,
    ledger::{self, lane_key},
    transition::{Decided, Transition},
};
use crate::{
    record::{Finding, Lane, Source, UnixMillis},
    store::{
        Commit, StoreError, codec,
        keys::{KeyFields, Table},
    },
};

/// Rows that one commit writes.
const STEP_ROWS_MAX: usize = 500;

/// How long a node has been absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    pub since: UnixMillis,
    /// When it was last found to be so; not of every time.
    pub confirmed_at: UnixMillis,
}

/// A node with an open finding that isn't among those reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreported {
    pub node: String,
    /// Of the finding's newest version.
    pub source: Source,
    /// Whether a list of SSM's has ever named it.
    pub was_listed: bool,
}

/// The open findings of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenFindings {
    pub total: usize,
    pub unreported: Vec<Unreported>,
}

impl Queues {
    /// A lane's open findings, those apart whose node isn't `reported`.
    pub async fn open_findings<F>(
        &self,
        lane: &Lane,
        reported: F,
    ) -> Result<OpenFindings, QueueError>
    where
        F: Fn(&str) -> bool + Send + 'static,
    {
        let lane = lane.clone();
        let open = self
            .store
            .read(move |reader| {
                let mut open = OpenFindings::default();
                let prefix = lane_key(Table::Desired, &lane);
                reader.visit(&prefix, &prefix, |key, value| {
                    let is_open =
                        codec::tag(value).is_ok_and(|tag| ledger::open_severity(tag).is_some());
                    let Some(node) = node_of(key).filter(|_| is_open) else { return true };
                    open.total += 1;
                    if !reported(node)
                        && let Ok((_, row)) = codec::decode::<Desired>(value)
                    {
                        let (node, source) = (node.to_string(), row.finding.source);
                        open.unreported.push(Unreported { node, source, was_listed: false });
                    }
                    true
                })?;
                for unreported in &mut open.unreported {
                    let seen = reader.get(&ledger::seen_key(&lane, &unreported.node))?;
                    unreported.was_listed = seen.is_some();
                }
                Ok(open)
            })
            .await?;
        Ok(open)
    }

    /// A lane's absences, by node.
    pub async fn absences(&self, lane: &Lane) -> Result<BTreeMap<String, Absence>, QueueError> {
        let lane = lane.clone();
        let absences = self
            .store
            .read(move |reader| {
                let mut absences = BTreeMap::new();
                let prefix = lane_key(Table::Absent, &lane);
                reader.visit(&prefix, &prefix, |key, value| {
                    // A damaged row tells nothing: the absence begins anew.
                    if let (Some(node), Ok((_, row))) = (node_of(key), codec::decode(value)) {
                        absences.insert(node.to_string(), row);
                    }
                    true
                })?;
                Ok(absences)
            })
            .await?;
        Ok(absences)
    }

    /// Notes absences, and the ends of others (`None`).
    pub async fn note_absences(
        &self,
        lane: &Lane,
        notes: Vec<(String, Option<Absence>)>,
    ) -> Result<(), QueueError> {
        for notes in notes.chunks(STEP_ROWS_MAX) {
            let (lane, notes) = (lane.clone(), notes.to_vec());
            self.transition(Commit::hand_off(notes.len()), move |step| {
                for (node, absence) in notes {
                    let key = ledger::absent_key(&lane, &node);
                    match absence {
                        Some(row) => step.tx.put(&key, codec::encode(0, &row))?,
                        None => drop(step.tx.remove(&key)?),
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Has the findings of these nodes told again where `renew` gives a new version: nothing was
    /// observed, so each is accepted here. How many were.
    ///
    /// The list of patches went with the version that was delivered, so the row forgets what its
    /// facts were worth: the next observation is told whatever it says.
    pub async fn retell<F>(
        &self,
        lane: &Lane,
        nodes: Vec<String>,
        renew: F,
    ) -> Result<usize, QueueError>
    where
        F: Fn(&Desired, Option<&Acked>, UnixMillis) -> Option<Finding> + Clone + Send + 'static,
    {
        let mut told = 0;
        for nodes in nodes.chunks(STEP_ROWS_MAX) {
            let (lane, nodes, renew) = (lane.clone(), nodes.to_vec(), renew.clone());
            told += self
                .transition(Commit::hand_off(nodes.len()), move |step| {
                    let read_back = step.lane_row(&lane)?.read_back;
                    let is_known =
                        matches!(read_back, ReadBack::Done { .. } | ReadBack::Denied { .. });
                    // What the hub holds is being read: nothing is decided meanwhile.
                    if !is_known {
                        return Ok(0);
                    }
                    let mut told = 0;
                    for node in nodes {
                        told += usize::from(retell_one(step, &lane, &node, &renew)?);
                    }
                    Ok(told)
                })
                .await?;
        }
        Ok(told)
    }
}

fn retell_one<F>(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    node: &str,
    renew: &F,
) -> Result<bool, StoreError>
where
    F: Fn(&Desired, Option<&Acked>, UnixMillis) -> Option<Finding>,
{
    let Some(desired) = step.desired(lane, node)? else { return Ok(false) };
    let acked = step.acked(lane, node)?;
    let Some(finding) = renew(&desired, acked.as_ref(), step.now()) else { return Ok(false) };
    step.add(account::ACCEPTED, 1);
    let decided = Decided { finding, read: desired.read, digest: 0, coalesces: true };
    step.send(lane, Some(&desired), decided)?;
    Ok(true)
}

fn node_of(key: &[u8]) -> Option<&str> {
    let mut fields = KeyFields::of(key);
    let _lane = fields.text()?;
    fields.text()
}

/// Ends an absence, for whoever accepts that the node is gone.
pub(super) fn forget(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    node: &str,
) -> Result<(), StoreError> {
    step.tx.remove(&ledger::absent_key(lane, node)).map(drop)
}
