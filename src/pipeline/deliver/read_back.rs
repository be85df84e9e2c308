//! Opening a lane: whose credentials are these, and what does the hub hold already?
//!
//! A lane with a new ledger - first start, quarantined or restored store, a hub that was off -
//! sends nothing before it has read its findings back from the hub: their `UpdatedAt` is the floor
//! for ours. Where the hub may not be read, floors begin at the time of decision, with a warning.

use std::{collections::HashSet, time::Duration};

use crate::{
    aws::{
        AwsError, Fault, HoldReason, LaneClients, security_hub::HubQuery, security_hub::HubRecord,
    },
    failpoint::{self, FailPoint},
    pipeline::{held, session::LaneSession},
    queue::{HubState, QueueError, Queues, ReadBack},
    record::{FindingId, Lane},
};

/// A read-back that takes longer is begun anew.
const READ_BACK_MAX: Duration = Duration::from_secs(30 * 60);

/// Why a lane could not be opened.
#[derive(Debug)]
pub enum OpenError {
    Aws(AwsError),
    Queue(QueueError),
    TooSlow,
}

impl From<AwsError> for OpenError {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl From<QueueError> for OpenError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// What a lane's findings are asked for by.
#[derive(Clone, Debug)]
pub struct Product {
    /// `None`: the lane's default product.
    pub arn: Option<String>,
    /// Whether each node has one finding, which can be found again.
    pub one_per_node: bool,
}

/// Checks the credentials, and reads back what must be read back.
pub async fn open_lane(
    session: &LaneSession,
    queues: &Queues,
    product: &Product,
) -> Result<(), OpenError> {
    let clients = session.clients().await?;
    let lane = session.lane();
    if queues.read_back_state(lane).await? != ReadBack::Pending {
        queues.release_parked(lane).await?;
        return Ok(());
    }
    if !product.one_per_node {
        queues.finish_read_back(lane, Some(HashSet::new())).await?;
        return Ok(());
    }
    let read = tokio::time::timeout(READ_BACK_MAX, read_back(session, &clients, queues, product));
    match read.await.map_err(|_| OpenError::TooSlow)? {
        Ok(found) => {
            if !found.is_empty() {
                tracing::info!(%lane, findings = found.len(), "read back what the hub holds");
            }
            queues.finish_read_back(lane, Some(found)).await?;
        }
        Err(OpenError::Aws(AwsError {
            fault: Fault::Held { reason: HoldReason::AccessDenied, detail },
            ..
        })) => {
            tracing::warn!(
                %lane, %detail,
                "the hub may not be read, so what it holds already isn't known: findings that \
                 an earlier ledger opened and that have healed since stay open; \
                 grant securityhub:GetFindings to have them closed"
            );
            queues.finish_read_back(lane, None).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Adopts all findings of ours, page by page; the nodes they are of.
async fn read_back(
    session: &LaneSession,
    clients: &LaneClients,
    queues: &Queues,
    product: &Product,
) -> Result<HashSet<String>, OpenError> {
    let lane = session.lane();
    let query = HubQuery::Ours {
        product_arn: product.arn.clone().unwrap_or_else(|| lane.default_product_arn()),
        id_prefix: held::node_id_prefix(lane),
    };
    let mut found = HashSet::new();
    let mut from = None;
    loop {
        session.hub_reads().take().await;
        let page = clients.hub.get_findings(&query, from).await?;
        let states: Vec<HubState> =
            page.items.into_iter().filter_map(|record| adopted(lane, record)).collect();
        found.extend(states.iter().map(|state| state.finding.node.to_string()));
        queues.adopt(lane, states).await?;
        failpoint::reach(FailPoint::ReadBackAdopted);
        from = page.next;
        if from.is_none() {
            return Ok(found);
        }
    }
}

/// Only where nodes have one finding each.
fn adopted(lane: &Lane, record: HubRecord) -> Option<HubState> {
    let finding = held::finding(lane, record)?;
    (finding.id == FindingId::Node).then_some(HubState { finding })
}
