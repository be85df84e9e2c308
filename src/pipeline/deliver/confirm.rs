//! Findings whose requests, of themselves alone, were answered with nonsense: the hub is asked
//! whether it holds them, one query at a time, of as many as a query takes. So the questions keep
//! up with the singles that raise them, within the quota of reading.

use super::batch::Prepared;
use crate::{
    aws::security_hub::{HubRecord, QUERY_IDS_MAX},
    record::{Lane, UnixMillis},
};

/// A finding, and when it was sent.
pub type Unconfirmed = (Prepared, UnixMillis);

/// See the module.
#[derive(Default)]
pub struct Confirmations {
    waiting: Vec<Unconfirmed>,
    under_way: bool,
}

impl Confirmations {
    pub fn add(&mut self, prepared: Prepared, sent_at: UnixMillis) {
        self.waiting.push((prepared, sent_at));
    }

    /// The next question: a product and findings of it. `None` if there is none to ask, or
    /// while one is under way.
    pub fn ask(&mut self, lane: &Lane) -> Option<(String, Vec<Unconfirmed>)> {
        if self.under_way {
            return None;
        }
        let product_arn = product_of(self.waiting.first()?, lane);
        let (mut asked, mut waiting) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.waiting) {
            if asked.len() < QUERY_IDS_MAX && product_of(&entry, lane) == product_arn {
                asked.push(entry);
            } else {
                waiting.push(entry);
            }
        }
        self.waiting = waiting;
        self.under_way = true;
        Some((product_arn, asked))
    }

    /// The question has been answered, or has failed.
    pub fn answered(&mut self) {
        self.under_way = false;
    }
}

/// Whether the hub holds the version that was sent, or a newer one.
pub fn is_held(prepared: &Prepared, records: &[HubRecord]) -> bool {
    let updated_at = Some(prepared.claimed.waiting.finding.updated_at);
    records.iter().any(|record| record.id == prepared.id && record.updated_at >= updated_at)
}

fn product_of((prepared, _): &Unconfirmed, lane: &Lane) -> String {
    prepared.claimed.waiting.finding.policy.product_arn(lane)
}
