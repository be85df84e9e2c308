//! The end of the line of a dry run: findings are compared with what the hub holds, and not sent.
//!
//! Guarantees: imports nothing; each finding is told once, with every field that differs; reads
//! at the pace of the lane's own quota. To the lane it looks as if the hub had taken everything.

use std::{collections::HashMap, fmt};

use tokio::sync::mpsc;

use super::batch::Prepared;
use crate::{
    aws::{
        AwsError, Fault, HoldReason, ImportReply, LaneClients,
        asff::fields::{Difference, Fields, differences},
        security_hub::{HubQuery, QUERY_IDS_MAX},
    },
    pipeline::session::LaneSession,
    record::{Change, Lane, NodeId, Severity},
};

/// What the hub holds of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubCopy {
    /// It may not be read.
    Unknown,
    Absent,
    /// Fields that it has otherwise; none: it is the same.
    Held(Vec<Difference>),
}

/// A finding that would have been sent.
#[derive(Clone, Debug)]
pub struct Previewed {
    pub lane: Lane,
    pub node: NodeId,
    pub id: String,
    pub change: Change,
    pub severity: Severity,
    pub hub: HubCopy,
}

/// Where a dry run's findings end. Cheap to clone.
#[derive(Clone)]
pub struct Preview(mpsc::UnboundedSender<Previewed>);

impl Preview {
    /// And where they are to be read. They stay in memory until then.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Previewed>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Compares a batch with what the hub holds, in place of a request that imports it.
    pub async fn look(
        &self,
        session: &LaneSession,
        clients: &LaneClients,
        batch: &mut [Prepared],
    ) -> ImportReply {
        let lane = session.lane();
        let mut by_product: HashMap<String, Vec<&mut Prepared>> = HashMap::new();
        for prepared in &mut *batch {
            let product = prepared.claimed.waiting.finding.policy.product_arn(lane);
            by_product.entry(product).or_default().push(prepared);
        }
        let mut found = Vec::new();
        for (product_arn, mut findings) in by_product {
            for asked in findings.chunks_mut(QUERY_IDS_MAX) {
                session.hub_reads().take().await;
                match held(clients, &product_arn, asked).await {
                    Ok(held) => {
                        found.extend(asked.iter_mut().map(|it| previewed(lane, it, held.as_ref())));
                    }
                    Err(error) => return super::lane::reply_of(error.fault),
                }
            }
        }
        let success = u32::try_from(found.len()).unwrap_or(u32::MAX);
        for finding in found {
            // Nobody reads any more: then nobody wants to know.
            let _ = self.0.send(finding);
        }
        ImportReply::Answered { success, failed_count: 0, failed: Vec::new(), request_id: None }
    }
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preview")
    }
}

/// The hub's copies by Id; `None` if it may not be read.
async fn held(
    clients: &LaneClients,
    product_arn: &str,
    asked: &[&mut Prepared],
) -> Result<Option<HashMap<String, Fields>>, AwsError> {
    let ids = asked.iter().map(|prepared| prepared.id.clone()).collect();
    let query = HubQuery::Ids { product_arn: product_arn.to_owned(), ids };
    match clients.hub.get_fields(&query).await {
        Ok(held) => Ok(Some(held.into_iter().collect())),
        Err(AwsError { fault: Fault::Held { reason: HoldReason::AccessDenied, .. }, .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn previewed(
    lane: &Lane,
    prepared: &mut Prepared,
    held: Option<&HashMap<String, Fields>>,
) -> Previewed {
    let ours = prepared.rendered(lane).fields();
    let finding = &prepared.claimed.waiting.finding;
    Previewed {
        lane: lane.clone(),
        node: finding.node.clone(),
        id: prepared.id.clone(),
        change: finding.change,
        severity: finding.severity,
        hub: match held {
            None => HubCopy::Unknown,
            Some(held) => held
                .get(&prepared.id)
                .map_or(HubCopy::Absent, |hub| HubCopy::Held(differences(hub, &ours))),
        },
    }
}
