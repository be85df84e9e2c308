//! How a fleet changes: only when told to, each change being a new scan with a new execution id and
//! a later end.

use super::{
    fleet::{
        Fleet, Node, Nonsense, Presence, Scan, SeverityCounts, generate_problems, rng_draw, uuid,
    },
    patches::{Level, Patch, PatchState},
};

/// The lane has no such node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the simulated lane {lane} has no node {node}")]
pub struct NoSuchNode {
    pub lane: String,
    pub node: String,
}

/// What a rescan did, in nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescan {
    pub scanned: usize,
    /// Were non-compliant, are compliant.
    pub healed: usize,
    /// Were compliant, are non-compliant.
    pub relapsed: usize,
    /// Are non-compliant with other patches.
    pub changed: usize,
}

const HEAL_SHARE: f64 = 0.10;
const CHANGE_SHARE: f64 = 0.20;
const RELAPSE_SHARE: f64 = 0.05;

impl Fleet {
    /// Scans a share of the scanned nodes again: some heal, relapse or change; most report the same
    /// facts under a new execution.
    pub(super) fn rescan(&mut self, fraction: f64, now_ms: i64) -> Rescan {
        let execution_id = uuid(&mut self.rng);
        let mut done = Rescan::default();
        for node in self.nodes.values_mut() {
            // What doesn't run isn't scanned.
            if node.presence != Presence::Online {
                continue;
            }
            let Some(scan) = &mut node.scan else { continue };
            if !rng_draw(&mut self.rng, fraction) {
                continue;
            }
            done.scanned += 1;
            node.is_forgotten = false;
            scan.move_on(&execution_id, now_ms);
            let roll = self.rng.f64();
            if scan.is_non_compliant() {
                if roll < HEAL_SHARE {
                    scan.set_problems(Vec::new());
                    done.healed += 1;
                } else if roll < HEAL_SHARE + CHANGE_SHARE {
                    scan.set_problems(generate_problems(&mut self.rng));
                    done.changed += 1;
                }
            } else if roll < RELAPSE_SHARE {
                scan.set_problems(generate_problems(&mut self.rng));
                done.relapsed += 1;
            }
        }
        done
    }

    /// Gives the node a new scan with these problems.
    pub(super) fn scan_node(
        &mut self,
        id: &str,
        problems: Vec<Patch>,
        now_ms: i64,
    ) -> Result<(), NoSuchNode> {
        let execution_id = uuid(&mut self.rng);
        let mut rng = self.rng.fork();
        let node = self.node_mut(id)?;
        node.is_forgotten = false;
        match &mut node.scan {
            Some(scan) => {
                scan.move_on(&execution_id, now_ms);
                scan.set_problems(problems);
            }
            None => node.scan = Some(Scan::new(&mut rng, execution_id, now_ms, problems)),
        }
        Ok(())
    }

    pub(super) fn corrupt_node(
        &mut self,
        id: &str,
        nonsense: Option<Nonsense>,
        now_ms: i64,
    ) -> Result<(), NoSuchNode> {
        let execution_id = uuid(&mut self.rng);
        let node = self.node_mut(id)?;
        node.nonsense = nonsense;
        if let Some(scan) = &mut node.scan {
            scan.move_on(&execution_id, now_ms);
        }
        Ok(())
    }

    pub(super) fn stop_node(&mut self, id: &str) -> Result<(), NoSuchNode> {
        self.node_mut(id)?.presence = Presence::Stopped;
        Ok(())
    }

    pub(super) fn start_node(&mut self, id: &str) -> Result<(), NoSuchNode> {
        self.node_mut(id)?.presence = Presence::Online;
        Ok(())
    }

    pub(super) fn terminate_node(&mut self, id: &str) -> Result<(), NoSuchNode> {
        self.node_mut(id)?.presence = Presence::Terminated;
        Ok(())
    }

    pub(super) fn forget_compliance(&mut self, id: &str) -> Result<(), NoSuchNode> {
        self.node_mut(id)?.is_forgotten = true;
        Ok(())
    }

    pub(super) fn remember_compliance(&mut self, id: &str) -> Result<(), NoSuchNode> {
        self.node_mut(id)?.is_forgotten = false;
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: &str) -> Result<(), NoSuchNode> {
        self.nodes.remove(id).map(drop).ok_or_else(|| self.no_such_node(id))
    }

    fn node_mut(&mut self, id: &str) -> Result<&mut Node, NoSuchNode> {
        let absent = self.no_such_node(id);
        self.nodes.get_mut(id).ok_or(absent)
    }

    fn no_such_node(&self, id: &str) -> NoSuchNode {
        NoSuchNode { lane: self.lane.to_string(), node: id.to_string() }
    }
}

impl Scan {
    /// A later run: never at the same time as the one before.
    fn move_on(&mut self, execution_id: &str, now_ms: i64) {
        let took_ms = self.ended_at_ms - self.started_at_ms;
        self.execution_id = execution_id.to_string();
        self.ended_at_ms = now_ms.max(self.ended_at_ms + 1);
        self.started_at_ms = self.ended_at_ms - took_ms;
    }
}

/// `missing` missing patches with these levels; those beyond the counts are unspecified.
pub(super) fn missing_patches(missing: u32, severities: SeverityCounts) -> Vec<Patch> {
    let SeverityCounts { critical, high, medium, low, informational, unspecified: _ } = severities;
    let counts = [critical, high, medium, low, informational];
    let levels = Level::SPECIFIED.into_iter().zip(counts).flat_map(|(level, count)| {
        std::iter::repeat_n(level, usize::try_from(count).unwrap_or(usize::MAX))
    });
    levels
        .chain(std::iter::repeat(Level::Unspecified))
        .zip(0..u16::try_from(missing).unwrap_or(u16::MAX))
        .map(|(level, number)| Patch { number, state: PatchState::Missing, level })
        .collect()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::simulator::config::{FleetConfig, SimLane};

    fn fleet(seed: u64) -> Fleet {
        let lane = SimLane::new("111122223333", "us-east-1");
        Fleet::generate(&lane, &FleetConfig::of(400), Rng::with_seed(seed), 1_700_000_000_000)
    }

    #[test]
    fn the_same_seed_gives_the_same_fleet() {
        let ids = |seed| fleet(seed).nodes.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }

    #[test]
    fn a_rescan_changes_some_nodes_and_gives_every_scanned_one_a_new_execution() {
        let mut fleet = fleet(1);
        let before = fleet.nodes.clone();
        let done = fleet.rescan(1.0, 1_700_000_000_000);
        assert!(done.healed > 0 && done.relapsed > 0 && done.changed > 0, "{done:?}");
        for (id, node) in &fleet.nodes {
            let (Some(now), Some(then)) = (&node.scan, &before[id].scan) else { continue };
            assert_ne!(now.execution_id, then.execution_id);
            assert!(now.ended_at_ms > then.ended_at_ms);
        }
    }

    #[test]
    fn missing_patches_carry_the_given_levels() {
        let severities = SeverityCounts { critical: 1, low: 1, ..SeverityCounts::default() };
        let levels: Vec<Level> =
            missing_patches(3, severities).iter().map(|patch| patch.level).collect();
        assert_eq!(levels, [Level::Critical, Level::Low, Level::Unspecified]);
    }
}
