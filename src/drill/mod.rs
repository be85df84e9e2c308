//! `patchferry drill`: the demo's world, with a product that is really killed.
//!
//! The product's own binary runs as a child process against the simulated AWS in this one, while
//! fleets change, the hubs of one Region are out, others throttle, lose answers and talk nonsense,
//! some findings are poison, and the child gets SIGKILL at instants drawn from the seed. Then it
//! is left alone, and what the hubs hold, what the store says and what the fleets are must agree.
//!
//! Guarantees: nothing but loopback is talked to, no account and no credentials are touched, and
//! nothing is written outside the drill's own directory; what is claimed was measured from
//! outside the child; a guarantee that was not seen to hold is shown as broken.
//!
//! Deliberately doesn't know: anything of the product but its command line, its log, its page and
//! its store.
//!
//! # Layout
//! - `plan`: what goes wrong, and when, from the seed
//! - `child`: the process: started, heard, asked, killed
//! - `story`: it happens
//! - [`Summary`]: what it came to
//!
//! The world, the screen and the checks of what is true at the end are the demo's.

mod child;
mod plan;
mod story;
mod summary;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

pub use summary::{Kills, Spread, Summary, Totals};

use crate::{
    app::StartError,
    demo::{DemoError, NODES_MAX, NODES_MIN, state_dir::StateDir},
    queue::QueueError,
    store::StoreError,
};
use story::Story;

/// Shorter, there is no time for an outage that anyone would notice.
pub const DURATION_MIN: Duration = Duration::from_secs(10);
pub const DURATION_MAX: Duration = Duration::from_secs(86_400);
/// Of the duration, what an outage leaves at least.
pub const OUTAGE_SHARE_MAX: f64 = 0.75;
/// A start takes a while, even one that is cut short.
pub const KILLS_PER_SECOND_MAX: f64 = 1.0;
/// Twenty rejections in a row would be the hub's fault: see the outcome table.
pub const POISON_MAX: usize = 40;

/// What a drill is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The product's binary.
    pub binary: PathBuf,
    /// From the first change to the last; the first sweep and the settling come on top.
    pub duration: Duration,
    /// How long the hubs of one Region are out, within the duration.
    pub outage: Duration,
    /// Times that the child gets SIGKILL.
    pub kills: usize,
    /// Findings that the hub calls invalid.
    pub poison: usize,
    /// In all lanes together.
    pub nodes: usize,
    /// The same seed gives the same fleet and the same plan.
    pub seed: u64,
    /// Keep the directory with store, configuration and log.
    pub keep: bool,
    /// Must be empty or absent; `None`: a temporary one, removed unless `keep`.
    pub directory: Option<PathBuf>,
}

impl Options {
    pub const DURATION_DEFAULT: Duration = Duration::from_secs(60);
    pub const KILLS_DEFAULT: usize = 10;
    pub const POISON_DEFAULT: usize = 3;
    pub const NODES_DEFAULT: usize = 1_000;

    pub fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            duration: Self::DURATION_DEFAULT,
            outage: Self::DURATION_DEFAULT / 3,
            kills: Self::KILLS_DEFAULT,
            poison: Self::POISON_DEFAULT,
            nodes: Self::NODES_DEFAULT,
            seed: 1,
            keep: false,
            directory: None,
        }
    }

    /// The duration that leaves room around an outage and between kills.
    #[must_use]
    pub fn duration_for(outage: Duration, kills: usize) -> Duration {
        let around_outage = outage + (outage / 2).max(Duration::from_secs(30));
        let count = u32::try_from(kills).unwrap_or(u32::MAX);
        around_outage.max(Duration::from_secs(2).saturating_mul(count))
    }

    fn check(&self) -> Result<(), DrillError> {
        let seconds = self.duration.as_secs_f64();
        if !(DURATION_MIN..=DURATION_MAX).contains(&self.duration) {
            return Err(DrillError::Duration(self.duration));
        }
        if self.outage.as_secs_f64() > seconds * OUTAGE_SHARE_MAX {
            return Err(DrillError::Outage { outage: self.outage, duration: self.duration });
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        if self.kills as f64 > seconds * KILLS_PER_SECOND_MAX {
            return Err(DrillError::Kills { kills: self.kills, duration: self.duration });
        }
        if self.poison > POISON_MAX {
            return Err(DrillError::Poison(self.poison));
        }
        if !(NODES_MIN..=NODES_MAX).contains(&self.nodes) || self.nodes < self.poison * 4 {
            return Err(DrillError::Nodes(self.nodes));
        }
        Ok(())
    }
}

/// Why a drill came to no summary.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error(
        "a drill takes {} seconds to {} hours, not {} seconds",
        DURATION_MIN.as_secs(),
        DURATION_MAX.as_secs() / 3_600,
        .0.as_secs_f64()
    )]
    Duration(Duration),
    #[error(
        "an outage of {} seconds leaves too little of {} seconds: give --duration at least {} seconds",
        .outage.as_secs(),
        .duration.as_secs(),
        (.outage.as_secs_f64() / OUTAGE_SHARE_MAX).ceil()
    )]
    Outage { outage: Duration, duration: Duration },
    #[error(
        "{kills} kills are too many for {} seconds: give --duration at least as many seconds as kills",
        .duration.as_secs()
    )]
    Kills { kills: usize, duration: Duration },
    #[error("at most {POISON_MAX} findings can be poisoned, not {0}")]
    Poison(usize),
    #[error(
        "a drill has {NODES_MIN} to {NODES_MAX} nodes, four times the poison at least, not {0}"
    )]
    Nodes(usize),
    #[error(transparent)]
    Place(#[from] DemoError),
    #[error("the simulated AWS can't listen on loopback")]
    Simulator(#[source] io::Error),
    #[error("the drill's directory {path} can't be used")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} can't be run as a child process")]
    Child {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the daemon ended by itself ({status}), which no fault here should make it do; its log says:\n{log}"
    )]
    Ended { status: ExitStatus, log: String },
    #[error("the daemon did not run within {} s of its start; its log says:\n{log}", .limit.as_secs())]
    NotReady { limit: Duration, log: String },
    #[error("the store that the daemon left can't be opened")]
    Open(#[source] StartError),
    #[error("the store that the daemon left can't be read")]
    Read(#[source] QueueError),
    #[error("the store that the daemon left can't be closed")]
    Close(#[source] StoreError),
    #[error("stopped before the end: nothing was checked")]
    Interrupted,
}

/// Damage done on purpose, so that tests see the drill notice it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// The hub forgets a finding that it has accepted.
    ForgetFinding,
}

/// Runs the drill until its end or until `shutdown`. Everything live goes to stderr; the summary
/// is the caller's to print.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<Summary, DrillError> {
    Box::pin(run_sabotaged(options, Sabotage::None, shutdown)).await
}

/// [`run`], with damage.
#[doc(hidden)]
pub async fn run_sabotaged(
    options: Options,
    sabotage: Sabotage,
    shutdown: CancellationToken,
) -> Result<Summary, DrillError> {
    options.check()?;
    // Declared first: it is removed last.
    let directory = StateDir::prepare("drill", options.directory.as_deref(), options.keep)?;
    let mut story = Story::begin(&options, directory.path(), sabotage, shutdown).await?;
    let told = story.tell().await;
    story.end().await;
    told
}

/// The last lines of a log.
fn tail(path: &Path, lines_max: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}
