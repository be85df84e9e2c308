//! `patchferry demo`: the whole product against a simulated AWS, in one process, in a minute.
//!
//! Guarantees: nothing but loopback is talked to and no account is touched; what is claimed at
//! the end was measured: by the simulator, which knows the truth, or by a recount of the store.
//! A guarantee that was not seen to hold is shown as broken ([`Summary::guarantees_held`]).
//! A state directory that isn't empty is refused, so that no real store is ever mixed in.
//!
//! `drill` is the same with real processes, and takes the pieces from here.
//!
//! Deliberately doesn't know: the stages. It runs the daemon that `run` runs, through
//! [`App`](crate::app::App), and looks at it from outside.
//!
//! # Layout
//! - `world`: the simulated accounts, and how their fleets go on changing
//! - `daemon`: the product: configured, started, restarted
//! - `story`: what happens, and when
//! - `meters`: what is measured meanwhile
//! - `truth`, `checks`, [`Summary`]: what it came to
//! - `screen`, [`Log`]: what is seen while it runs, all of it on stderr

pub(crate) mod checks;
pub(crate) mod daemon;
pub(crate) mod meters;
pub(crate) mod screen;
pub(crate) mod state_dir;
pub(crate) mod story;
mod summary;
pub(crate) mod truth;
pub(crate) mod world;

use std::{io, path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;

pub use screen::{Log, LogWriter};
pub use summary::{Check, Drain, EventLatency, LaneSummary, Latencies, Summary, Totals};

use crate::{
    app::{Failure, StartError},
    aws::HttpSetupError,
    store::StoreError,
};
use state_dir::StateDir;
use story::Story;

/// Shorter, there is no time for an outage that anyone would notice.
pub const DURATION_MIN: Duration = Duration::from_secs(5);
/// Longer, the hub's history of a finding (64 versions) would no longer hold all of it.
pub const DURATION_MAX: Duration = Duration::from_secs(3_600);
pub const DURATION_DEFAULT: Duration = Duration::from_secs(60);
/// Ten a lane: each lane needs nodes to change, and one to poison.
pub const NODES_MIN: usize = 40;
/// The simulator keeps each finding as sent, some 4 KiB.
pub const NODES_MAX: usize = 50_000;
/// 500 a lane, swept within a second.
pub const NODES_DEFAULT: usize = 2_000;

/// What a demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// [`DURATION_MIN`] to [`DURATION_MAX`]. The end waits for recovery, so it may take longer.
    pub duration: Duration,
    /// In all lanes together, [`NODES_MIN`] to [`NODES_MAX`].
    pub nodes: usize,
    /// The same seed gives the same fleet and the same changes, as far as timing allows.
    pub seed: u64,
    /// Stay up after the summary until told to stop, and keep the state directory.
    pub keep: bool,
    /// The summary that `keep` shows early is JSON.
    pub json: bool,
    /// Must be empty or absent; `None`: a temporary one, removed unless `keep`.
    pub state_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duration: DURATION_DEFAULT,
            nodes: NODES_DEFAULT,
            seed: 1,
            keep: false,
            json: false,
            state_dir: None,
        }
    }
}

/// Why a demo came to no summary.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(
        "a demo takes {} to {} seconds, not {}",
        DURATION_MIN.as_secs(),
        DURATION_MAX.as_secs(),
        .0.as_secs_f64()
    )]
    Duration(Duration),
    #[error("a demo has {NODES_MIN} to {NODES_MAX} nodes, not {0}")]
    Nodes(usize),
    #[error("can't use the state directory {path}")]
    StateDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the state directory {0} isn't empty: nothing is rehearsed beside a store that is there; name another, or none"
    )]
    StateDirInUse(PathBuf),
    #[error("the simulated AWS can't listen on loopback")]
    Simulator(#[source] io::Error),
    #[error("the HTTP client can't be set up")]
    Http(#[source] HttpSetupError),
    #[error("patchferry did not start")]
    Start(#[source] StartError),
    #[error("patchferry can't go on")]
    Failed(#[source] Failure),
    #[error("the store could not be closed")]
    Close(#[source] StoreError),
    #[error("the store can't be read")]
    Read(#[source] crate::queue::QueueError),
    #[error("stopped before the end: nothing was checked")]
    Interrupted,
}

/// Damage done on purpose, so that tests see the demo notice it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// The hub forgets a finding that it has accepted.
    ForgetFinding,
}

/// Runs the demo until its end or until `shutdown`. Everything live goes to stderr; the summary is
/// the caller's to print (with `keep` it is on stderr too, as soon as it is known).
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<Summary, DemoError> {
    Box::pin(run_sabotaged(options, Sabotage::None, shutdown)).await
}

/// [`run`], with damage.
#[doc(hidden)]
pub async fn run_sabotaged(
    options: Options,
    sabotage: Sabotage,
    shutdown: CancellationToken,
) -> Result<Summary, DemoError> {
    if !(DURATION_MIN..=DURATION_MAX).contains(&options.duration) {
        return Err(DemoError::Duration(options.duration));
    }
    if !(NODES_MIN..=NODES_MAX).contains(&options.nodes) {
        return Err(DemoError::Nodes(options.nodes));
    }
    // Declared first: it is removed last.
    let state_dir = StateDir::prepare("demo", options.state_dir.as_deref(), options.keep)?;
    let mut story = Box::pin(Story::begin(&options, state_dir.path(), sabotage, shutdown)).await?;
    let told = Box::pin(story.tell()).await;
    let stopped = story.end().await;
    let summary = told?;
    stopped?;
    Ok(summary)
}
