//! What is known of the care of a lane's hub: when it was last compared with the ledger, and when
//! it is to be again.
//!
//! Key: `LaneCare`, lane. Value: [`LaneCare`].

use serde::{Deserialize, Serialize};

use super::{QueueError, Queues, ledger::lane_key};
use crate::{
    record::{Lane, Text, UnixMillis},
    store::{Commit, codec, keys::Table},
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCare {
    /// `None`: not decided yet.
    pub due: Option<UnixMillis>,
    /// The last comparison that was complete.
    pub reconciled_at: Option<UnixMillis>,
    /// What it found, and how much of that it left as it was.
    pub differences: u64,
    pub unrepaired: u64,
    /// Products that findings were sent under, the newest last: the hub may hold some still.
    pub products: Vec<Text<2048>>,
}

/// Products that are remembered.
pub const PRODUCTS_MAX: usize = 4;

impl LaneCare {
    /// Notes that findings are sent under `product_arn` from now on; whether that is news.
    pub fn note_product(&mut self, product_arn: &str) -> bool {
        let product: Text<2048> = Text::truncated(product_arn);
        if self.products.last() == Some(&product) {
            return false;
        }
        self.products.retain(|known| *known != product);
        self.products.push(product);
        let over = self.products.len().saturating_sub(PRODUCTS_MAX);
        self.products.drain(..over);
        true
    }
}

impl Queues {
    pub async fn lane_care(&self, lane: &Lane) -> Result<LaneCare, QueueError> {
        let key = lane_key(Table::LaneCare, lane);
        let bytes = self.store.read(move |reader| reader.get(&key)).await?;
        // One that is damaged counts as absent: the lane is looked at again.
        let decoded = bytes.and_then(|bytes| codec::decode::<LaneCare>(&bytes).ok());
        Ok(decoded.map(|(_, care)| care).unwrap_or_default())
    }

    pub async fn put_lane_care(&self, lane: &Lane, care: LaneCare) -> Result<(), QueueError> {
        let key = lane_key(Table::LaneCare, lane);
        self.transition(Commit::hand_off(1), move |step| step.tx.put(&key, codec::encode(0, &care)))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_products_are_remembered_each_once() {
        let mut care = LaneCare::default();
        for product in ["a", "b", "a", "c", "d", "e"] {
            assert!(care.note_product(product));
        }
        assert!(!care.note_product("e"));
        let kept: Vec<&str> = care.products.iter().map(Text::as_str).collect();
        assert_eq!(kept, ["a", "c", "d", "e"]);
    }
}
