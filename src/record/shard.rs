//! Which machine serves which lane, where several divide them.
//!
//! Rendezvous hashing: each machine has a weight for each lane, and the highest serves it. So all
//! machines agree without talking, lanes spread evenly, and a machine that is added to `n` others
//! takes about one lane in `n + 1`, from each of them; no lane moves between the others.
//!
//! The weights are part of the format: a lane that moved with an update of patchferry would have
//! two owners while machines are updated one after the other.

use std::fmt;

use super::Lane;

/// Machines that lanes can be divided among.
pub const SHARDS_MAX: u32 = 256;

/// One machine of several, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: u32,
}

/// A number that no machine of so many has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is {index}, but must be below `shard.count`, which is {count}: machines count from 0")]
pub struct NoSuchShard {
    pub index: u32,
    pub count: u32,
}

impl Shard {
    /// The only machine: it serves every lane.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// # Errors
    /// If no machine of `count` has the number `index`.
    pub fn try_new(index: u32, count: u32) -> Result<Self, NoSuchShard> {
        if index < count { Ok(Self { index, count }) } else { Err(NoSuchShard { index, count }) }
    }

    /// Whether there are other machines.
    #[must_use]
    pub fn is_divided(self) -> bool {
        self.count > 1
    }

    /// Whether this machine serves `lane`.
    #[must_use]
    pub fn owns(self, lane: &Lane) -> bool {
        owner(lane, self.count) == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.count)
    }
}

/// The number of the machine that serves a lane.
fn owner(lane: &Lane, count: u32) -> u32 {
    let text = lane.to_string();
    (0..count).max_by_key(|index| weight(&text, *index)).unwrap_or(0)
}

fn weight(lane: &str, index: u32) -> u64 {
    stable_hash(&[lane.as_bytes(), &index.to_be_bytes()])
}

/// FNV-1a over `parts`, then the finalizer of `MurmurHash3`: the same in every process, on every
/// machine, for ever.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lanes(count: u64) -> impl Iterator<Item = Lane> {
        let regions = ["us-east-1", "eu-central-1", "ap-southeast-2", "us-gov-west-1"];
        (0..count).map(move |number| {
            let region = regions[usize::try_from(number % 4).unwrap()];
            format!("{:012}/{region}", 111_122_223_333 + number / 4).parse().unwrap()
        })
    }

    #[test]
    fn every_lane_has_one_owner_and_owners_have_about_as_many() {
        for count in 1..=8 {
            let mut owned = vec![0; usize::try_from(count).unwrap()];
            for lane in lanes(2_000) {
                let shards = (0..count).map(|index| Shard::try_new(index, count).unwrap());
                let owners: Vec<u32> =
                    shards.filter(|it| it.owns(&lane)).map(|it| it.index).collect();
                assert_eq!(owners.len(), 1, "{lane} of {count}");
                owned[usize::try_from(owners[0]).unwrap()] += 1;
            }
            let even = 2_000 / owned.len();
            let fair = even * 8 / 10..=even * 12 / 10;
            assert!(owned.iter().all(|lanes| fair.contains(lanes)), "{owned:?}");
        }
    }

    #[test]
    fn a_lane_stays_where_it_was_in_every_version() {
        let owners: Vec<u32> = lanes(12).map(|lane| owner(&lane, 5)).collect();
        assert_eq!(owners, OWNERS_OF_FIVE);
    }
    const OWNERS_OF_FIVE: [u32; 12] = [1, 4, 3, 1, 2, 3, 0, 2, 1, 2, 0, 1];

    proptest! {
        #[test]
        fn a_machine_that_is_added_takes_lanes_and_none_moves_between_the_others(
            account in 0_u64..1_000_000_000_000, count in 1_u32..SHARDS_MAX,
        ) {
            let lane: Lane = format!("{account:012}/eu-west-1").parse().unwrap();
            let (before, after) = (owner(&lane, count), owner(&lane, count + 1));
            prop_assert!(after == before || after == count);
        }

        #[test]
        fn a_machine_has_a_number_below_their_count(index in 0_u32..10, count in 0_u32..10) {
            prop_assert_eq!(Shard::try_new(index, count).is_ok(), index < count);
        }
    }

    #[test]
    fn about_one_lane_in_n_moves_when_a_machine_is_added() {
        for count in 1..=8_u32 {
            let moved = lanes(2_000).filter(|lane| owner(lane, count) != owner(lane, count + 1));
            let expected = 2_000 / (usize::try_from(count).unwrap() + 1);
            let moved = moved.count();
            assert!(
                (expected * 8 / 10..=expected * 12 / 10).contains(&moved),
                "{moved} of {count}"
            );
        }
    }
}
