//! The gauges of each lane, the only metrics that carry account and Region.
//!
//! Guarantees: at most [`SERIES_PER_LANE_MAX`] series for a lane, so that 150 accounts in 10
//! Regions stay below 30,000; a lane that is removed is gone with the next scrape.
//!
//! These are written out here rather than by the recorder, which can't forget a series.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::IntoF64;

use super::labels::{HoldReason, Label, NodeVerdict};
use crate::record::{Lane, Severity};

/// Checked by a test against what is really written.
pub const SERIES_PER_LANE_MAX: usize = 19;

/// What a lane is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneState {
    #[default]
    Flowing,
    /// The hub is unavailable; the lane tries again by itself.
    BackingOff,
    /// Sending can't succeed until somebody acts.
    Held(HoldReason),
    /// Reads from the hub what it holds before anything is sent.
    ReadingBack,
    /// By an operator.
    Paused,
    /// The Region or the hub is off, as intended.
    Dormant,
    /// No longer configured, but the store has something of it.
    Orphaned,
    /// No daemon runs; only ever in the status of a store that is looked at by itself.
    Stopped,
}

impl LaneState {
    /// States that a lane is asked about even while it isn't in them.
    const ALWAYS_SHOWN: [&'static str; 3] = ["flowing", "backing_off", "held"];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::BackingOff => "backing_off",
            Self::Held(_) => "held",
            Self::ReadingBack => "reading_back",
            Self::Paused => "paused",
            Self::Dormant => "dormant",
            Self::Orphaned => "orphaned",
            Self::Stopped => "stopped",
        }
    }

    /// The state that [`LaneState::as_str`] and [`LaneState::hold_reason`] came from.
    #[must_use]
    pub fn from_parts(state: &str, hold_reason: Option<&str>) -> Option<Self> {
        let held = || {
            let reason = HoldReason::VALUES.iter().find(|r| Some(r.value()) == hold_reason)?;
            Some(Self::Held(*reason))
        };
        [
            Self::Flowing,
            Self::BackingOff,
            Self::ReadingBack,
            Self::Paused,
            Self::Dormant,
            Self::Orphaned,
            Self::Stopped,
        ]
        .into_iter()
        .find(|known| known.as_str() == state)
        .or_else(|| if state == "held" { held() } else { None })
    }

    #[must_use]
    pub fn hold_reason(self) -> Option<HoldReason> {
        match self {
            Self::Held(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A number that is set by one and read by another.
#[derive(Default)]
pub struct LaneGauge(AtomicU64);

impl LaneGauge {
    pub fn set(&self, value: impl IntoF64) {
        self.0.store(value.into_f64().to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// The gauges of one lane; all are zero until they are set.
#[derive(Default)]
pub struct LaneMetrics {
    pub outbox_findings: LaneGauge,
    pub oldest_age_seconds: LaneGauge,
    /// Unix time; 0: never.
    pub last_complete_sweep_timestamp_seconds: LaneGauge,
    pub poll_interval_seconds: LaneGauge,
    /// Nodes that a sweep would have resolved as gone, too many to be believed.
    pub gone_withheld_nodes: LaneGauge,
    open_findings: [LaneGauge; Severity::ALL.len()],
    nodes: [LaneGauge; NodeVerdict::VALUES.len()],
    state: RwLock<LaneState>,
}

impl LaneMetrics {
    pub fn open_findings(&self, severity: Severity) -> &LaneGauge {
        &self.open_findings[position(severity)]
    }

    pub fn nodes(&self, verdict: NodeVerdict) -> &LaneGauge {
        &self.nodes[position(verdict)]
    }

    pub fn set_state(&self, state: LaneState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub fn state(&self) -> LaneState {
        *self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position<L: Label>(value: L) -> usize {
    let position = L::VALUES.iter().position(|known| *known == value);
    position.expect("a label's values are all of its type's")
}

/// Every lane that has been asked for and not removed.
#[derive(Default)]
pub(super) struct Lanes(RwLock<BTreeMap<Lane, Arc<LaneMetrics>>>);

impl Lanes {
    pub fn lane(&self, lane: &Lane) -> Arc<LaneMetrics> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(lane).cloned();
        known.unwrap_or_else(|| {
            let mut lanes = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(lane.clone()).or_default())
        })
    }

    pub fn retain(&self, is_kept: impl Fn(&Lane) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|lane, _| is_kept(lane));
    }

    /// Appends every lane's series, family by family.
    pub fn render(&self, text: &mut String) {
        let lanes: Vec<(Lane, Arc<LaneMetrics>)> = {
            let lanes = self.0.read().unwrap_or_else(PoisonError::into_inner);
            lanes.iter().map(|(lane, metrics)| (lane.clone(), Arc::clone(metrics))).collect()
        };
        for family in FAMILIES {
            let _ = writeln!(text, "# HELP {} {}", family.name, family.help);
            let _ = writeln!(text, "# TYPE {} gauge", family.name);
            for (lane, metrics) in &lanes {
                (family.write)(metrics, &mut Series { text, family: family.name, lane });
            }
            text.push('\n');
        }
    }
}

/// Writes the series of one lane in one family.
struct Series<'a> {
    text: &'a mut String,
    family: &'static str,
    lane: &'a Lane,
}

impl Series<'_> {
    // Accounts, Regions and label values need no escaping: none can hold a quote or backslash.
    fn one(&mut self, gauge: &LaneGauge) {
        let (family, Lane { account, region }) = (self.family, self.lane);
        let value = gauge.get();
        let _ =
            writeln!(self.text, "{family}{{account=\"{account}\",region=\"{region}\"}} {value}");
    }

    fn with(&mut self, label: &str, label_value: &str, value: f64) {
        let (family, Lane { account, region }) = (self.family, self.lane);
        let _ = writeln!(
            self.text,
            "{family}{{account=\"{account}\",region=\"{region}\",{label}=\"{label_value}\"}} {value}"
        );
    }

    fn each<L: Label>(&mut self, gauges: &[LaneGauge]) {
        for (value, gauge) in L::VALUES.iter().zip(gauges) {
            self.with(L::NAME, value.value(), gauge.get());
        }
    }
}

struct LaneFamily {
    name: &'static str,
    help: &'static str,
    write: fn(&LaneMetrics, &mut Series<'_>),
}

const FAMILIES: [LaneFamily; 9] = [
    LaneFamily {
        name: "patchferry_lane_outbox_findings",
        help: "Findings of the lane that wait for delivery.",
        write: |lane, series| series.one(&lane.outbox_findings),
    },
    LaneFamily {
        name: "patchferry_lane_oldest_age_seconds",
        help: "Age of the oldest finding that waits in the lane; 0 if none does.",
        write: |lane, series| series.one(&lane.oldest_age_seconds),
    },
    LaneFamily {
        name: "patchferry_lane_state",
        help: "1 for the state that the lane is in. flowing, backing_off and held are always \
               there; reading_back, paused, dormant and orphaned only while they apply.",
        write: |lane, series| {
            let current = lane.state().as_str();
            for state in LaneState::ALWAYS_SHOWN {
                series.with("state", state, if state == current { 1.0 } else { 0.0 });
            }
            if !LaneState::ALWAYS_SHOWN.contains(&current) {
                series.with("state", current, 1.0);
            }
        },
    },
    LaneFamily {
        name: "patchferry_lane_hold",
        help: "1 with the reason why the lane is held; absent while it isn't.",
        write: |lane, series| {
            if let Some(reason) = lane.state().hold_reason() {
                series.with(HoldReason::NAME, reason.value(), 1.0);
            }
        },
    },
    LaneFamily {
        name: "patchferry_lane_last_complete_sweep_timestamp_seconds",
        help: "When the lane's fleet was last read completely, as Unix time; 0: never.",
        write: |lane, series| series.one(&lane.last_complete_sweep_timestamp_seconds),
    },
    LaneFamily {
        name: "patchferry_lane_poll_interval_seconds",
        help: "Time between the lane's sweeps as it is now.",
        write: |lane, series| series.one(&lane.poll_interval_seconds),
    },
    LaneFamily {
        name: "patchferry_lane_open_findings",
        help: "Findings that the hub is to hold as active, by severity.",
        write: |lane, series| series.each::<Severity>(&lane.open_findings),
    },
    LaneFamily {
        name: "patchferry_lane_nodes",
        help: "Managed nodes by what is known of them; never scanned and stale ones are never \
               called compliant.",
        write: |lane, series| series.each::<NodeVerdict>(&lane.nodes),
    },
    LaneFamily {
        name: "patchferry_lane_gone_withheld_nodes",
        help: "Nodes that would have been resolved as gone, too many at once to be \
               believed.",
        write: |lane, series| series.one(&lane.gone_withheld_nodes),
    },
];
