//! How fast, how cheap, how small: the whole product against the simulator, which runs in a
//! process of its own, so that CPU, bytes and memory are the product's alone.
//!
//! `cargo bench --bench pipeline` runs all; `cargo bench --bench pipeline -- latency` one of
//! `throughput`, `latency`, `events`, `quota`, `backlog`, `fleet`, `lanes`. Prints figures of this
//! machine and ratios to the aims; asserts nothing about time.

mod idle;
mod peer;
mod usage;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use patchferry::{
    app::{App, Options},
    aws::Aws,
    config::{Config, LaneConfig, QueueConfig},
    record::Clock,
};
use peer::Peer;
use usage::Usage;

/// The product's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    if let Some(lanes) = std::env::var_os(peer::SERVE) {
        peer::serve(&lanes.to_string_lossy());
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if runs("throughput") {
            Box::pin(throughput()).await;
        }
        if runs("latency") {
            Box::pin(latency()).await;
        }
        if runs("events") {
            Box::pin(events()).await;
        }
        if runs("quota") {
            Box::pin(quota()).await;
        }
        if runs("backlog") {
            Box::pin(backlog()).await;
        }
        if runs("fleet") {
            Box::pin(idle::fleet()).await;
        }
        if runs("lanes") {
            Box::pin(idle::lanes()).await;
        }
    });
}

/// Findings per second from ingest to acknowledged, and what one costs.
async fn throughput() {
    const LANES: usize = 4;
    const NODES: usize = 10_000;
    let state = tempfile::tempdir().expect("a temporary directory");
    let peer = Peer::start(LANES, NODES, 1.0, false);
    let config = config(state.path(), &peer, &Speed::Unlimited);
    let (before, began) = (Usage::now(), Instant::now());
    let app = start(config, &peer).await;
    let total = i64::try_from(LANES * NODES).expect("a small number");
    wait_for(&app, |app| app.queues().accounting().delivered >= total).await;
    let (seconds, used) = (began.elapsed().as_secs_f64(), Usage::now().since(&before));
    assert_eq!(app.queues().accounting().imbalance(), 0);
    let findings = as_f64(total);
    println!("throughput, {total} findings in {LANES} lanes, quota off, simulator beside it:");
    line(
        "findings per second, ingest to acknowledged",
        findings / seconds,
        "/s",
        Some((12_000.0, Aim::AtLeast)),
    );
    line("CPU per finding", used.cpu_seconds * 1e6 / findings, "us", None);
    line("written per finding", as_f64(used.written_bytes) / findings / 1024.0, "KiB", None);
    line("RSS at the end", Usage::rss_mib(), "MiB", None);
    app.shutdown().await.expect("a clean shutdown");
}

/// From accepted to acknowledged when there is nothing else to do.
async fn latency() {
    const ROUNDS: i64 = 200;
    const HUB_MS: u64 = 50;
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut peer = Peer::start(1, 300, 0.0, true);
    peer.tell(&format!("latency {HUB_MS}"));
    let app = start(config(state.path(), &peer, &Speed::Quota), &peer).await;
    wait_for(&app, |app| app.lanes()[0].sweeps.borrow().complete >= 1).await;
    for round in 0..ROUNDS {
        peer.tell(&format!("break {round}"));
        app.sweep_now();
        wait_for(&app, |app| app.queues().accounting().delivered > round).await;
    }
    let summary = app.metrics().latency_summary().expect("deliveries");
    println!(
        "latency at low load, accepted to acknowledged, {ROUNDS} findings one by one, hub answers in {HUB_MS} ms:"
    );
    let over = |seconds: f64| seconds * 1e3 - as_f64(HUB_MS.cast_signed());
    line("p50 over the hub's round trip", over(summary.p50_seconds), "ms", None);
    line(
        "p99 over the hub's round trip",
        over(summary.p99_seconds),
        "ms",
        Some((50.0, Aim::AtMost)),
    );
    app.shutdown().await.expect("a clean shutdown");
}

/// From an event in the queue to the hub's acknowledgement, when there is nothing else to do.
async fn events() {
    const ROUNDS: usize = 60;
    const HUB_MS: u64 = 50;
    /// The lane's pace has recovered from one event when the next comes.
    const PAUSE: Duration = Duration::from_millis(2_500);
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut peer = Peer::start(1, 300, 0.0, true);
    peer.tell(&format!("latency {HUB_MS}"));
    let mut config = config(state.path(), &peer, &Speed::Quota);
    let defaults = Config::defaults(state.path());
    config.ingest.ssm_requests_per_second = defaults.ingest.ssm_requests_per_second;
    config.ingest.patch_details = true;
    config.ingest.fed_poll_interval = config.ingest.poll_interval;
    let lane = &peer.lanes[0];
    config.queues = vec![QueueConfig {
        url: peer::queue_url(0),
        account: lane.account,
        region: lane.region.clone(),
        role: None,
    }];
    let app = start(config, &peer).await;
    wait_for(&app, |app| app.lanes()[0].sweeps.borrow().complete >= 1).await;
    let mut latencies_ms = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        tokio::time::sleep(PAUSE).await;
        peer.tell(&format!("break {round}"));
        let delivered = app.queues().accounting().delivered;
        let began = Instant::now();
        peer.tell(&format!("tell {round}"));
        wait_for(&app, |app| app.queues().accounting().delivered > delivered).await;
        latencies_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    latencies_ms.sort_by(f64::total_cmp);
    let quantile = |percent: usize| latencies_ms[(ROUNDS * percent).div_ceil(100) - 1];
    println!(
        "events at low load, in the queue to acknowledged, {ROUNDS} one by one, hub answers in {HUB_MS} ms:"
    );
    line("p50", quantile(50), "ms", None);
    line("p99", quantile(99), "ms", Some((2_000.0, Aim::AtMost)));
    app.shutdown().await.expect("a clean shutdown");
}

/// Share of the quota that a drain uses.
async fn quota() {
    const NODES: usize = 50_000;
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut peer = Peer::start(1, NODES, 1.0, true);
    peer.tell("outage");
    let app = start(config(state.path(), &peer, &Speed::Quota), &peer).await;
    fill(&app, NODES).await;
    peer.tell("heal");
    wait_for(&app, |app| app.queues().accounting().delivered > 0).await;
    let (began, sent) = (Instant::now(), peer.ask("stats"));
    wait_for(&app, |app| app.queues().accounting().queued.total() == 0).await;
    let (seconds, stats) = (began.elapsed().as_secs_f64(), peer.ask("stats"));
    let requests = stats.imports - sent.imports;
    println!("quota, a backlog of {NODES} findings in one lane drained at 10 requests/s:");
    line(
        "share of the quota used",
        requests / seconds / 10.0 * 100.0,
        "%",
        Some((99.0, Aim::AtLeast)),
    );
    line("findings per request", (stats.accepted - sent.accepted) / requests, "", None);
    line("requests over quota", stats.over_quota, "", Some((0.0, Aim::AtMost)));
    app.shutdown().await.expect("a clean shutdown");
}

/// Memory and start with a large backlog.
async fn backlog() {
    const NODES: usize = 200_000;
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut peer = Peer::start(1, NODES, 1.0, true);
    peer.tell("outage");
    let mut child = Daemon::start(state.path(), &peer);
    child.wait_for_outbox(NODES).await;
    println!("backlog of {NODES} findings in one lane, the daemon as a process of its own:");
    line("RSS", Usage::rss_mib_of(child.id()), "MiB", Some((150.0, Aim::AtMost)));
    child.kill();
    peer.tell("heal");
    let before = peer.ask("stats").accepted;
    let began = Instant::now();
    let child = Daemon::start(state.path(), &peer);
    while peer.ask("stats").accepted <= before {
        assert!(began.elapsed() < PATIENCE, "nothing is delivered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    line(
        "start (after kill -9) to first delivery",
        began.elapsed().as_secs_f64(),
        "s",
        Some((2.0, Aim::AtMost)),
    );
    line("RSS while it drains", Usage::rss_mib_of(child.id()), "MiB", Some((150.0, Aim::AtMost)));
    child.kill();
}

/// The real binary.
struct Daemon {
    child: std::process::Child,
    state_dir: std::path::PathBuf,
}

impl Daemon {
    fn start(state_dir: &Path, peer: &Peer) -> Self {
        let state_dir = state_dir.join("state");
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_patchferry"))
            .arg("run")
            .env("AWS_ENDPOINT_URL", &peer.url)
            .env("AWS_ACCESS_KEY_ID", &peer.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", patchferry::simulator::SECRET_ACCESS_KEY)
            .env("AWS_REGION", peer::region(0))
            .env("PATCHFERRY_STATE_DIR", &state_dir)
            .env("PATCHFERRY_INGEST__SSM_REQUESTS_PER_SECOND", "100")
            .env("PATCHFERRY_INGEST__PATCH_DETAILS", "false")
            .env("PATCHFERRY_HTTP__LISTEN", "127.0.0.1:0")
            .env("PATCHFERRY_LOG__LEVEL", "error")
            .spawn()
            .expect("the daemon starts");
        Self { child, state_dir }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    async fn wait_for_outbox(&mut self, findings: usize) {
        use patchferry::admin::{commands::status::GetStatus, socket};
        let path = socket::path(&self.state_dir);
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "the backlog is never there");
            assert!(self.child.try_wait().is_ok_and(|it| it.is_none()), "the daemon has ended");
            tokio::time::sleep(Duration::from_millis(200)).await;
            if let Ok(Some(Ok(given))) = socket::ask(&path, &GetStatus {}).await
                && given.status.lanes.iter().map(|lane| lane.outbox_findings).sum::<u64>()
                    >= findings as u64
            {
                return;
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().expect("the daemon can be killed");
        self.child.wait().expect("the daemon ends");
    }
}

enum Speed {
    Unlimited,
    Quota,
}

fn config(directory: &Path, peer: &Peer, speed: &Speed) -> Config {
    let mut config = Config::defaults(directory.join("state"));
    config.lanes =
        Some(peer.lanes.iter().map(|lane| LaneConfig::new(lane.clone(), None)).collect());
    config.ingest.poll_interval = Duration::from_secs(3_600);
    config.ingest.ssm_requests_per_second = 10_000.0;
    config.ingest.patch_details = false;
    if matches!(speed, Speed::Unlimited) {
        config.deliver.requests_per_second = 100_000.0;
        config.deliver.burst_requests = 1_000;
    }
    config
}

async fn start(config: Config, peer: &Peer) -> Box<App> {
    let secret = patchferry::simulator::SECRET_ACCESS_KEY;
    let aws = Aws::for_endpoint(&peer.url, &peer::region(0), &peer.access_key_id, secret)
        .expect("an HTTP client");
    let clock = Clock::system();
    let options = Options { config, aws, clock, listen: false };
    Box::new(Box::pin(App::start(options)).await.expect("the daemon starts"))
}

/// Waits until the whole fleet is in the outbox.
async fn fill(app: &App, nodes: usize) {
    let nodes = i64::try_from(nodes).expect("a small number");
    wait_for(app, |app| app.queues().accounting().queued.outbox >= nodes).await;
}

async fn wait_for(app: &App, mut holds: impl FnMut(&App) -> bool) {
    let began = Instant::now();
    while !holds(app) {
        assert!(began.elapsed() < PATIENCE, "{}", app.status().await.to_text());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[derive(Clone, Copy)]
enum Aim {
    AtLeast,
    AtMost,
}

fn line(what: &str, figure: f64, unit: &str, aim: Option<(f64, Aim)>) {
    let verdict = match aim {
        None => String::new(),
        Some((aim, Aim::AtLeast)) => {
            let met = if figure >= aim { "met" } else { "missed" };
            format!("   aim >= {aim}: {met} ({:.2} of it)", figure / aim)
        }
        Some((aim, Aim::AtMost)) => {
            let met = if figure <= aim { "met" } else { "missed" };
            format!("   aim <= {aim}: {met}")
        }
    };
    println!("  {what:<46} {figure:>12.2} {unit:<4}{verdict}");
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn as_f64(count: i64) -> f64 {
    count as f64
}
