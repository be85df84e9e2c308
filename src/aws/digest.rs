//! A patch list in one number, to tell whether the set of patches has changed.
//!
//! Guarantees: the same for the same set of (KB or package, state), whatever the order and
//! however often a pair is repeated; the same in every process, on every machine, in every
//! version: it is stored, and a different number costs an update of every open finding.

use crate::record::{PatchDetail, observation::PatchState};

/// 64-bit FNV-1a (draft-eastlake-fnv): offset basis and prime.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest of the set of (KB or package, state).
#[must_use]
pub fn patch_digest<'a>(patches: impl IntoIterator<Item = &'a PatchDetail>) -> u64 {
    let mut pairs: Vec<(&str, u8)> =
        patches.into_iter().map(|patch| (patch.kb.as_str(), state_byte(patch.state))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut hash = OFFSET_BASIS;
    for (kb, state) in pairs {
        // 0xff is in no UTF-8 text, so that pairs can't run into each other.
        for byte in kb.bytes().chain([0xff, state]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

/// Frozen: part of a stored number.
fn state_byte(state: PatchState) -> u8 {
    match state {
        PatchState::Missing => 1,
        PatchState::Failed => 2,
        PatchState::InstalledRejected => 3,
        PatchState::InstalledPendingReboot => 4,
        PatchState::Other => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(kb: &str, state: PatchState) -> PatchDetail {
        PatchDetail {
            state,
            kb: kb.into(),
            title: "".into(),
            classification: "".into(),
            severity: "".into(),
            cves: Vec::new(),
        }
    }

    #[test]
    fn the_digest_is_of_the_set_not_of_the_list() {
        let (a, b) = (patch("KB1", PatchState::Missing), patch("KB2", PatchState::Failed));
        assert_eq!(patch_digest([&a, &b]), patch_digest([&b, &a, &a]));
        assert_ne!(patch_digest([&a]), patch_digest([&a, &b]));
        assert_ne!(patch_digest([&a]), patch_digest([&patch("KB1", PatchState::Failed)]));
    }

    #[test]
    fn the_digest_is_the_same_for_ever() {
        assert_eq!(patch_digest([]), 0xcbf2_9ce4_8422_2325);
        let (a, b) = (patch("KB1", PatchState::Missing), patch("KB2", PatchState::Failed));
        assert_eq!(patch_digest([&a, &b]), FROZEN);
    }

    /// Computed once, independently, from the published FNV-1a parameters.
    const FROZEN: u64 = 0x0334_8b4b_2bc0_00dd;
}
