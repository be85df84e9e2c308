//! The nodes of one lane and their last scans: what SSM knows.
//!
//! A scan holds a node's patches; counts, summary and list are all computed from them, so that SSM's
//! answers agree with each other (unless a [`Nonsense`] is laid on the node). Nothing changes by
//! itself: see `evolution`.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{
    associations::{Association, AssociationResult},
    config::{FleetConfig, SimLane},
    patches::{Level, Patch, PatchState, Platform},
};

/// How SSM's answers about a node make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// The summary names the node by an id that isn't one.
    BadInstanceId,
    /// `MissingCount` is -3.
    NegativeCount,
    /// `MissingCount` is 2,000,000.
    HugeCount,
    /// The summary's Status is `BANANA`.
    UnknownStatus,
    /// The summary and the patch state are of January 1970.
    AncientTime,
    /// The summary and the patch state are of the year 2999.
    FutureTime,
    /// The summary says `NON_COMPLIANT`, the patch state counts nothing.
    CountsDisagree,
    /// The patch list has a State `Banana`.
    UnknownPatchState,
    /// The patch state has no `Operation`, which SDKs take for granted.
    NoOperation,
}

/// Patches by compliance level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeverityCounts {
    pub critical: u32,
    pub high: u32,
    pub medium: u32,
    pub low: u32,
    pub informational: u32,
    pub unspecified: u32,
}

/// Patches by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchCounts {
    pub installed: u32,
    pub installed_other: u32,
    pub missing: u32,
    pub failed: u32,
    pub installed_rejected: u32,
    pub installed_pending_reboot: u32,
}

impl PatchCounts {
    pub fn non_compliant(&self) -> u32 {
        self.missing + self.failed + self.installed_rejected + self.installed_pending_reboot
    }
}

/// What the last successful patch operation reported.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub execution_id: String,
    pub is_install: bool,
    pub started_at_ms: i64,
    pub ended_at_ms: i64,
    /// The patches that make the node non-compliant.
    pub problems: Vec<Patch>,
    pub installed: u16,
    pub installed_other: u16,
    pub not_applicable: u16,
}

/// Whether a node still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Online,
    /// `DescribeInstanceInformation` leaves out an EC2 node, and tells that it has lost a hybrid one;
    /// its compliance data remain.
    Stopped,
    /// It never comes back. An EC2 node is still told of as terminated, a hybrid one is deregistered;
    /// its compliance data remain until they are forgotten.
    Terminated,
}

/// A managed node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub id: String,
    pub platform: Platform,
    pub source_type: &'static str,
    pub presence: Presence,
    pub scan: Option<Scan>,
    /// SSM tells nothing of the scan any more.
    pub is_forgotten: bool,
    pub nonsense: Option<Nonsense>,
    pub associations: Vec<AssociationResult>,
}

impl Node {
    pub(super) fn is_hybrid(&self) -> bool {
        self.id.starts_with("mi-")
    }

    /// The last scan, as far as SSM still tells of it.
    pub(super) fn told_scan(&self) -> Option<&Scan> {
        self.scan.as_ref().filter(|_| !self.is_forgotten)
    }

    /// Whether `DescribeInstanceInformation` has it.
    pub(super) fn is_managed(&self) -> bool {
        match self.presence {
            Presence::Online => true,
            Presence::Stopped => self.is_hybrid(),
            Presence::Terminated => false,
        }
    }

    pub(super) fn baseline_id(&self) -> &'static str {
        match self.platform {
            Platform::Windows => "pb-0a1b2c3d4e5f60001",
            Platform::Linux => "pb-0a1b2c3d4e5f60002",
        }
    }

    pub(super) fn patch_group(&self) -> &'static str {
        match self.platform {
            Platform::Windows => "windows-production",
            Platform::Linux => "linux-production",
        }
    }
}

impl Scan {
    pub(super) fn is_non_compliant(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(super) fn set_problems(&mut self, problems: Vec<Patch>) {
        self.is_install = is_install(&problems);
        self.problems = problems;
    }

    pub(super) fn counts(&self) -> PatchCounts {
        let mut counts = PatchCounts {
            installed: self.installed.into(),
            installed_other: self.installed_other.into(),
            ..PatchCounts::default()
        };
        for patch in &self.problems {
            match patch.state {
                PatchState::Missing => counts.missing += 1,
                PatchState::Failed => counts.failed += 1,
                PatchState::InstalledRejected => counts.installed_rejected += 1,
                PatchState::InstalledPendingReboot => counts.installed_pending_reboot += 1,
                PatchState::Installed | PatchState::InstalledOther => {}
            }
        }
        counts
    }

    /// The non-compliant patches by level.
    pub(super) fn severities(&self) -> SeverityCounts {
        let mut counts = SeverityCounts::default();
        for patch in &self.problems {
            *counts.of(patch.level) += 1;
        }
        counts
    }

    /// All patches: the problems, then what is installed.
    pub(super) fn patches(&self) -> impl Iterator<Item = Patch> + '_ {
        let installed = (0..self.installed).map(|number| Patch {
            number,
            state: PatchState::Installed,
            level: Level::Unspecified,
        });
        let other = (0..self.installed_other).map(|number| Patch {
            number: 5_000 + number,
            state: PatchState::InstalledOther,
            level: Level::Unspecified,
        });
        self.problems.iter().copied().chain(installed).chain(other)
    }
}

impl SeverityCounts {
    pub(super) fn of(&mut self, level: Level) -> &mut u32 {
        match level {
            Level::Critical => &mut self.critical,
            Level::High => &mut self.high,
            Level::Medium => &mut self.medium,
            Level::Low => &mut self.low,
            Level::Informational => &mut self.informational,
            Level::Unspecified => &mut self.unspecified,
        }
    }
}

/// All nodes of a lane, by id.
#[derive(Debug)]
pub(super) struct Fleet {
    pub lane: SimLane,
    pub nodes: BTreeMap<String, Node>,
    pub associations: Vec<Association>,
    pub rng: Rng,
}

impl Fleet {
    /// A fleet whose scans all ended within the hour before `now_ms`.
    pub(super) fn generate(
        lane: &SimLane,
        config: &FleetConfig,
        mut rng: Rng,
        now_ms: i64,
    ) -> Self {
        const HOUR_MS: i64 = 3_600_000;
        let mut nodes = BTreeMap::new();
        let execution_id = uuid(&mut rng);
        while nodes.len() < config.nodes {
            let is_hybrid = rng_draw(&mut rng, config.hybrid_share);
            let mut node = generate_node(&mut rng, is_hybrid);
            if !rng_draw(&mut rng, config.never_scanned_share) {
                let problems = if rng_draw(&mut rng, config.non_compliant_share) {
                    generate_problems(&mut rng)
                } else {
                    Vec::new()
                };
                let ended_at_ms = now_ms - rng.i64(0..HOUR_MS);
                node.scan = Some(Scan::new(&mut rng, execution_id.clone(), ended_at_ms, problems));
            }
            nodes.insert(node.id.clone(), node);
        }
        Self { lane: lane.clone(), nodes, associations: Vec::new(), rng }
    }
}

impl Scan {
    pub(super) fn new(
        rng: &mut Rng,
        execution_id: String,
        ended_at_ms: i64,
        problems: Vec<Patch>,
    ) -> Self {
        Self {
            execution_id,
            is_install: is_install(&problems),
            started_at_ms: ended_at_ms - rng.i64(5_000..120_000),
            ended_at_ms,
            problems,
            installed: rng.u16(10..120),
            installed_other: rng.u16(0..80),
            not_applicable: rng.u16(0..900),
        }
    }
}

/// An Install lists no missing patches: a run that found problems, none of them missing, was one.
fn is_install(problems: &[Patch]) -> bool {
    !problems.is_empty() && problems.iter().all(|patch| patch.state != PatchState::Missing)
}

/// Whether something with a chance of `share` happens.
pub(super) fn rng_draw(rng: &mut Rng, share: f64) -> bool {
    rng.f64() < share
}

/// A UUID of the generator's.
pub(super) fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

fn generate_node(rng: &mut Rng, is_hybrid: bool) -> Node {
    let suffix = format!("{:016x}{:x}", rng.u64(..), rng.u8(0..16));
    let (prefix, source_type) = match (is_hybrid, rng.u8(0..10)) {
        (false, _) => ("i-", "AWS::EC2::Instance"),
        (true, 0..4) => ("mi-", "Microsoft.Compute/virtualMachines"),
        (true, _) => ("mi-", "AWS::SSM::ManagedInstance"),
    };
    Node {
        id: format!("{prefix}{suffix}"),
        platform: if rng.u8(0..10) < 4 { Platform::Windows } else { Platform::Linux },
        source_type,
        presence: Presence::Online,
        scan: None,
        is_forgotten: false,
        nonsense: None,
        associations: Vec::new(),
    }
}

/// 1..=40 patches that make a node non-compliant. Three baselines in four specify no level; one
/// operation in ten was an Install, which lists no missing patches.
pub(super) fn generate_problems(rng: &mut Rng) -> Vec<Patch> {
    let has_levels = rng.u8(0..4) == 0;
    let is_install = rng.u8(0..10) == 0;
    let first = rng.u16(0..2_000);
    (0..rng.u16(1..=40))
        .map(|step| Patch {
            number: first + step,
            state: problem_state(rng, is_install),
            level: if has_levels {
                Level::SPECIFIED[rng.usize(..Level::SPECIFIED.len())]
            } else {
                Level::Unspecified
            },
        })
        .collect()
}

fn problem_state(rng: &mut Rng, is_install: bool) -> PatchState {
    match (is_install, rng.u8(0..20)) {
        (false, 0..16) => PatchState::Missing,
        (true, 0..16) | (false, 16..18) => PatchState::Failed,
        (_, 16..19) => PatchState::InstalledPendingReboot,
        (_, _) => PatchState::InstalledRejected,
    }
}
