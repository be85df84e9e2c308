//! Format 1 to 2.
//!
//! | table | change |
//! |---|---|
//! | `Outbox`, `Delayed` | a waiting finding has a list of failed attempts, empty here |
//! | `Acked` | a receipt has one, too |
//! | `Lane` | a lane's row counts what is parked, none here |
//! | `Parked` | pages become pages of `Assessed`, which park again what has to be parked |
//! | `Pause`, `DeadHistory` | new |
//!
//! The store's own records (identity, commit number) are made by whoever makes the copy.

mod shapes;

use self::shapes::{Acked1, Acked2, Lane1, Lane2, Waiting1, Waiting2};
use super::Step;
use crate::store::{Counters, FormatVersion, RawEntry, codec};

pub(super) const STEP: Step = Step { from: FormatVersion(1), entry, counters };

/// The tables as they were: retired bytes stay reserved.
const OUTBOX: u8 = 0x12;
const DELAYED: u8 = 0x13;
const PARKED: u8 = 0x15;
const ASSESSED: u8 = 0x11;
const ACKED: u8 = 0x22;
const LANE: u8 = 0x40;

const ASSESSED_COUNTER: usize = 7;
const PARKED_COUNTER: usize = 10;

fn counters(counters: &mut Counters) {
    counters[ASSESSED_COUNTER] += counters[PARKED_COUNTER];
    counters[PARKED_COUNTER] = 0;
}

fn entry((key, value): RawEntry) -> Vec<RawEntry> {
    let entry = match key.first().copied() {
        Some(OUTBOX | DELAYED) => {
            let value = waiting(&value).unwrap_or(value);
            (key, value)
        }
        Some(ACKED) => {
            let value = acked(&value).unwrap_or(value);
            (key, value)
        }
        Some(LANE) => {
            let value = lane(&value).unwrap_or(value);
            (key, value)
        }
        Some(PARKED) => (assessed_key(&key).unwrap_or(key), value),
        _ => (key, value),
    };
    vec![entry]
}

fn waiting(value: &[u8]) -> Option<Vec<u8>> {
    // The finding itself follows, and stays byte for byte what it is.
    let (tag, old, finding) = codec::decode_beginning::<Waiting1>(value).ok()?;
    Some(codec::encode_beginning(tag, &Waiting2::from(old), finding))
}

fn acked(value: &[u8]) -> Option<Vec<u8>> {
    let (tag, old) = codec::decode::<Acked1>(value).ok()?;
    Some(codec::encode(tag, &Acked2::from(old)))
}

fn lane(value: &[u8]) -> Option<Vec<u8>> {
    let (tag, old) = codec::decode::<Lane1>(value).ok()?;
    Some(codec::encode(tag, &Lane2::from(old)))
}

/// `Parked`, lane, sequence -> `Assessed`, sequence, lane. A sequence number is given once in a
/// store's life, so no other page has it.
fn assessed_key(key: &[u8]) -> Option<Vec<u8>> {
    let (lane, sequence) = key.get(1..)?.split_last_chunk::<8>()?;
    (lane.last() == Some(&0)).then(|| [&[ASSESSED], sequence.as_slice(), lane].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_page_keeps_its_bytes_and_its_place_in_the_order() {
        let key = [&[PARKED], b"111122223333/us-east-1\0".as_slice(), &7_u64.to_be_bytes()];
        let moved = entry((key.concat(), vec![1, 2, 3]));
        let sequence = 7_u64.to_be_bytes();
        let lane = b"111122223333/us-east-1\0";
        let expected = [[ASSESSED].as_slice(), &sequence, lane].concat();
        assert_eq!(moved, [(expected, vec![1, 2, 3])]);
    }

    #[test]
    fn what_does_not_decode_stays_as_it_is() {
        for table in 0..=u8::MAX {
            let odd = (vec![table, 1], vec![table; 40]);
            assert_eq!(entry(odd.clone()), [odd]);
        }
        assert_eq!(entry((Vec::new(), Vec::new())), [(Vec::new(), Vec::new())]);
    }
}
