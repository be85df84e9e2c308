//! Pages: up to [`PAGE_ITEMS_MAX`] items of one lane in one value, since a write costs the same
//! however much it holds.
//!
//! Keys: `Observed` and `Assessed`: sequence, lane, and a 1 where the page was parked and has been
//! released. The tag is the item count, outside the checksummed body, so that an undecodable page
//! still counts.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    record::{Lane, Observation, UnixMillis},
    store::{
        codec::{self, DecodeError},
        keys::{Key, KeyFields, Table},
    },
};

pub const PAGE_ITEMS_MAX: usize = 50;
/// Bytes of the items of one page, below the store's limit for a value.
const PAGE_BYTES_MAX: usize = 24 * 1024;

/// An observation that ingest has accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub at: UnixMillis,
    pub observation: Observation,
}

/// A claimed page. It stays in its queue until it is settled.
#[derive(Debug)]
pub struct ClaimedPage<T> {
    pub key: Key,
    pub lane: Lane,
    /// It was parked while the lane was read back, and may be judged now.
    pub released: bool,
    /// Items as its header says.
    pub count: u64,
    pub items: Result<Vec<T>, Damaged>,
}

/// A page whose body can't be read.
#[derive(Debug)]
pub struct Damaged {
    pub error: DecodeError,
    pub bytes: Vec<u8>,
}

/// Items cut into pages: the encoded value and the number of items of each.
pub(super) fn paginate<T: Serialize>(items: &[T]) -> Vec<(Vec<u8>, i64)> {
    let mut pages = Vec::new();
    let mut begin = 0;
    let mut bytes = 0;
    for (index, item) in items.iter().enumerate() {
        let size = codec::body_bytes(item);
        let full = index - begin == PAGE_ITEMS_MAX || bytes + size > PAGE_BYTES_MAX;
        if full && index > begin {
            pages.push(page(&items[begin..index]));
            begin = index;
            bytes = 0;
        }
        bytes += size;
    }
    if begin < items.len() {
        pages.push(page(&items[begin..]));
    }
    pages
}

fn page<T: Serialize>(items: &[T]) -> (Vec<u8>, i64) {
    let count = i64::try_from(items.len()).expect("a page has at most 50 items");
    (codec::encode(count.unsigned_abs(), &items), count)
}

pub(super) fn fifo_key(table: Table, sequence: u64, lane: &Lane) -> Key {
    Key::new(table).u64(sequence).text(&lane.to_string())
}

/// Of a page of `Assessed` that was parked.
pub(super) fn released_key(sequence: u64, lane: &Lane) -> Key {
    fifo_key(Table::Assessed, sequence, lane).u8(1)
}

/// Reads a page of a queue; `None` if the key itself makes no sense.
pub(super) fn claimed<T: DeserializeOwned>(key: Key, value: Vec<u8>) -> Option<ClaimedPage<T>> {
    let mut fields = KeyFields::of(key.as_bytes());
    fields.u64()?;
    let lane = fields.text()?.parse().ok()?;
    let released = fields.u8() == Some(1);
    let count = codec::tag(&value).unwrap_or(0);
    let items = match codec::decode::<Vec<T>>(&value) {
        Ok((_, items)) => Ok(items),
        Err(error) => Err(Damaged { error, bytes: value }),
    };
    Some(ClaimedPage { key, lane, released, count, items })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_all_items_in_order_within_both_limits() {
        let items: Vec<String> = (0..200).map(|n| "x".repeat(n * 10)).collect();
        let pages = paginate(&items);
        let mut read = Vec::new();
        for (value, count) in pages {
            assert!(value.len() < crate::store::VALUE_BYTES_MAX);
            let (tag, mut page) = codec::decode::<Vec<String>>(&value).unwrap();
            assert_eq!((tag, page.len()), (count.unsigned_abs(), usize::try_from(count).unwrap()));
            assert!(page.len() <= PAGE_ITEMS_MAX);
            read.append(&mut page);
        }
        assert_eq!(read, items);
    }
}
