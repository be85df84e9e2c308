//! What is seen while the demo runs: on a terminal a line per lane below a log of what happens,
//! elsewhere plain lines, each flushed at once. All of it on stderr: stdout is the summary's.
//!
//! Guarantees: nothing here fails; a closed stderr is no reason to stop.

#![expect(
    clippy::format_push_string,
    reason = "a few lines of text; `write!` adds a result to drop"
)]

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::{
    meters::{LaneMoment, Moment},
    story::{Phase, seconds},
    world::{ACCOUNTS, World},
};
use crate::metrics::LaneState;

/// Frames a second: people don't read faster.
const FRAMES_PER_SECOND: u8 = 10;
const PLAIN_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Without a terminal so many lines of progress are enough.
const PLAIN_LINES: u32 = 60;
const LANE_NAME_COLUMNS: usize = 25;

/// The bars on the process's terminal, of which there is one: log lines have to go above them.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn bars() -> Option<MultiProgress> {
    BARS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// One piece of text, above the bars if there are any.
fn print_above(text: &str) {
    let text = text.trim_end_matches('\n');
    if let Some(bars) = bars() {
        let _ = bars.println(text);
        return;
    }
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// Where the product's logs go during a demo: `tracing_subscriber::fmt().with_writer(demo::Log)`.
/// Lines appear above the bars, and on plain stderr when there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter::default()
    }
}

/// One log event; printed whole when dropped.
#[derive(Debug, Default)]
pub struct LogWriter(Vec<u8>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            print_above(&String::from_utf8_lossy(&self.0));
        }
    }
}

/// What is to be said at the start.
pub(crate) struct Introduction<'a> {
    pub what: &'static str,
    pub seed: u64,
    /// The status page, if it stays at one address.
    pub http_url: Option<String>,
    pub state_dir: &'a Path,
}

/// See the module.
pub(crate) enum Screen {
    Terminal { bars: MultiProgress, phase: ProgressBar, lanes: Vec<(String, ProgressBar)> },
    Plain { duration: Duration, every: Duration, next_at: Instant },
}

impl Screen {
    pub fn open(world: &World, duration: Duration) -> Self {
        if !io::stderr().is_terminal() {
            let every = PLAIN_INTERVAL_MIN.max(duration / PLAIN_LINES);
            return Self::Plain { duration, every, next_at: Instant::now() };
        }
        let target = ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND);
        let bars = MultiProgress::with_draw_target(target);
        let length_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let phase = bars.add(ProgressBar::new(length_ms).with_style(style("{bar:30} {wide_msg}")));
        let lanes = world.lanes.iter().enumerate().map(|(index, lane)| {
            let bar = ProgressBar::new(1).with_style(style("{wide_msg}"));
            (format!("{} {}", letter(index), lane.sim), bars.add(bar))
        });
        let lanes = lanes.collect();
        *BARS.lock().unwrap_or_else(PoisonError::into_inner) = Some(bars.clone());
        Self::Terminal { bars, phase, lanes }
    }

    /// Says what this is, and where to look.
    #[expect(clippy::unused_self, reason = "who has no screen has nothing to introduce")]
    pub fn introduce(&self, world: &World, introduction: &Introduction<'_>) {
        let mut text = format!(
            "patchferry {} {}\n\
             All requests go to {} on loopback: no AWS account is touched, no credentials are read.\n\
             Real code, real store (in {}), Security Hub's real quota: 10 requests/s, burst 30.\n\n",
            env!("CARGO_PKG_VERSION"),
            introduction.what,
            world.endpoint_url(),
            introduction.state_dir.display(),
        );
        for (index, lane) in world.lanes.iter().enumerate() {
            let entered = if lane.sim.account() == ACCOUNTS[0] { "" } else { ", by AssumeRole" };
            let name = format!("{}", lane.sim);
            let line = format!("  lane {}  {name:LANE_NAME_COLUMNS$}", letter(index));
            text += &format!("{line} {} nodes{entered}\n", lane.nodes);
        }
        if let Some(url) = &introduction.http_url {
            text += &format!("\n  status page  {url}\n  metrics      {url}metrics\n");
        }
        text += &format!("  seed         {} (--seed repeats it)\n", introduction.seed);
        print_above(&text);
    }

    /// A line of the story.
    #[expect(clippy::unused_self, reason = "who has no screen has nothing to say")]
    pub fn say(&self, elapsed: Duration, text: &str) {
        print_above(&format!("[{:>5.1} s] {text}", elapsed.as_secs_f64()));
    }

    /// Something longer.
    #[expect(clippy::unused_self, reason = "who has no screen has nothing to print")]
    pub fn print(&self, text: &str) {
        print_above(text);
    }

    pub fn draw(&mut self, elapsed: Duration, now: Phase, moment: &Moment) {
        match self {
            Self::Terminal { phase, lanes, .. } => {
                phase.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
                phase.set_message(phase_text(now));
                for ((name, bar), lane) in lanes.iter().zip(&moment.lanes) {
                    bar.set_message(lane_text(name, lane, moment));
                }
            }
            Self::Plain { duration, every, next_at } => {
                if Instant::now() < *next_at {
                    return;
                }
                *next_at = Instant::now() + *every;
                print_above(&plain_line(elapsed, *duration, now, moment));
            }
        }
    }

    /// Takes the bars away.
    pub fn close(&mut self) {
        if let Self::Terminal { bars, phase, lanes } = self {
            *BARS.lock().unwrap_or_else(PoisonError::into_inner) = None;
            for bar in lanes.iter().map(|(_, bar)| bar).chain([&*phase]) {
                bar.finish_and_clear();
            }
            let _ = bars.clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants")
        .progress_chars("=> ")
}

/// A, B, …: there are four lanes.
pub(crate) fn letter(lane: usize) -> char {
    char::from(b'A'.saturating_add(u8::try_from(lane).unwrap_or(u8::MAX)))
}

fn phase_text(phase: Phase) -> String {
    match phase.until {
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now());
            format!("{}, {:.0} s left", phase.name, left.as_secs_f64())
        }
        None => format!("{}, until it is done", phase.name),
    }
}

fn lane_text(name: &str, lane: &LaneMoment, moment: &Moment) -> String {
    let oldest = match lane.oldest_since {
        Some(since) => format!("oldest {}", seconds(moment.at.since(since))),
        None => String::new(),
    };
    format!(
        "{name:<27}  {:<13} {:>6} waiting {:>7} delivered  {oldest}",
        state_text(lane.state),
        lane.waiting,
        lane.delivered
    )
}

fn plain_line(elapsed: Duration, duration: Duration, phase: Phase, moment: &Moment) -> String {
    let mut line = format!(
        "[{:>5.1} s of {:.0}] {:<11}",
        elapsed.as_secs_f64(),
        duration.as_secs_f64(),
        phase.name
    );
    for (index, lane) in moment.lanes.iter().enumerate() {
        line += &format!(
            " | {} {}: {} waiting, {} delivered",
            letter(index),
            state_text(lane.state),
            lane.waiting,
            lane.delivered
        );
    }
    line
}

fn state_text(state: LaneState) -> String {
    state.as_str().replace('_', " ")
}
