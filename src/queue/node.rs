//! Everything that is known of one node, for whoever asks for it.

use super::{
    Acked, CompleteLetter, DeadFilter, Desired, QueueError, Queues, Seen,
    ledger::{self, lane_key},
    outbox::{self, Waiting},
};
use crate::{
    record::{Lane, UnixMillis},
    store::{Reader, StoreError, codec, keys::Table},
};

/// See the module. Rows that are damaged count as absent.
#[derive(Clone, Debug, Default)]
pub struct NodeRecord {
    pub seen: Option<Seen>,
    pub desired: Option<Desired>,
    pub acked: Option<Acked>,
    /// The version that `desired` speaks of, while it waits.
    pub waiting: Option<Waiting>,
    /// If it waits for its time: until when.
    pub due: Option<UnixMillis>,
    /// An assessment waits for the end of the lane's read-back.
    pub parked: bool,
    pub dead: Vec<CompleteLetter>,
}

impl NodeRecord {
    /// Whether the node was never heard of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_none()
            && self.desired.is_none()
            && self.acked.is_none()
            && !self.parked
            && self.dead.is_empty()
    }
}

impl Queues {
    /// What is known of a node in a lane. What waits in the observed or assessed queue isn't
    /// looked for.
    pub async fn node_record(&self, lane: &Lane, node: &str) -> Result<NodeRecord, QueueError> {
        let filter = DeadFilter {
            lane: Some(lane.clone()),
            node: Some(node.to_string()),
            ..DeadFilter::default()
        };
        let mut dead = Vec::new();
        let mut from = None;
        loop {
            let page = self.complete_dead_page(filter.clone(), from).await?;
            dead.extend(page.letters);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        let (lane, node) = (lane.clone(), node.to_string());
        let mut record = self.store.read(move |reader| read(reader, &lane, &node)).await?;
        record.dead = dead;
        Ok(record)
    }
}

fn read(reader: &Reader<'_>, lane: &Lane, node: &str) -> Result<NodeRecord, StoreError> {
    let parked = lane_key(Table::Parked, lane).text(node);
    let desired: Option<Desired> = row(reader, &ledger::desired_key(lane, node))?;
    let (waiting, due) = match &desired {
        Some(desired) => waiting(reader, lane, node, desired)?,
        None => (None, None),
    };
    Ok(NodeRecord {
        seen: row(reader, &ledger::seen_key(lane, node))?,
        acked: row(reader, &ledger::acked_key(lane, node))?,
        parked: !reader.page(&parked, &parked, 1)?.is_empty(),
        desired,
        waiting,
        due,
        dead: Vec::new(),
    })
}

fn waiting(
    reader: &Reader<'_>,
    lane: &Lane,
    node: &str,
    desired: &Desired,
) -> Result<(Option<Waiting>, Option<UnixMillis>), StoreError> {
    let Some(place) = desired.place else { return Ok((None, None)) };
    let is_it = |waiting: &Waiting| waiting.revision == desired.revision;
    let in_line = row(reader, &outbox::outbox_key(lane, place))?.filter(is_it);
    if in_line.is_some() {
        return Ok((in_line, None));
    }
    let due = row(reader, &outbox::delayed_index_key(lane, node, place))?;
    let Some(due) = due else { return Ok((None, None)) };
    let delayed = row(reader, &outbox::delayed_key(lane, due, place))?.filter(is_it);
    Ok((delayed, Some(due)))
}

fn row<T: serde::de::DeserializeOwned>(
    reader: &Reader<'_>,
    key: &crate::store::keys::Key,
) -> Result<Option<T>, StoreError> {
    let Some(bytes) = reader.get(key)? else { return Ok(None) };
    match codec::decode(&bytes) {
        Ok((_, row)) => Ok(Some(row)),
        Err(error) => {
            tracing::error!(?key, %error, "a ledger row is damaged");
            Ok(None)
        }
    }
}
