//! What it costs to watch what doesn't change: a large fleet swept again, and many lanes.

use std::time::{Duration, Instant};

use patchferry::app::App;

use super::{Aim, Peer, Speed, Usage, as_f64, config, line, start, wait_for};

/// Sweeps of an unchanged fleet that are measured.
const SWEEPS: u32 = 3;

/// Waits until every lane has swept so often, and nothing is on its way.
async fn swept(app: &App, sweeps: u64) {
    wait_for(app, |app| app.lanes().iter().all(|it| it.sweeps.borrow().complete >= sweeps)).await;
    wait_for(app, |app| app.queues().accounting().queued.total() == 0).await;
}

/// Waits until what came before is on disk: the store looks at what it has to flush every 5 s.
async fn rested() {
    const REST: Duration = Duration::from_secs(7);
    loop {
        let before = Usage::now();
        tokio::time::sleep(REST).await;
        if Usage::now().since(&before).written_bytes == 0 {
            return;
        }
    }
}

/// Commits of the store since the start.
fn commits(app: &App) -> f64 {
    let text = app.metrics().render();
    let count =
        text.lines().find_map(|it| it.strip_prefix("patchferry_store_commit_seconds_count "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(f64::NAN)
}

/// A sweep of 20,000 nodes in one lane, of which none has changed.
pub async fn fleet() {
    const NODES: u32 = 20_000;
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut peer = Peer::start(1, NODES as usize, 0.3, false);
    let app = start(config(state.path(), &peer, &Speed::Unlimited), &peer).await;
    swept(&app, 1).await;
    // The read-back of the first start has every node observed once more.
    app.sweep_now();
    swept(&app, 2).await;
    rested().await;
    let (before, seen, began) = (Usage::now(), peer.ask("stats"), Instant::now());
    let (committed, accepted) = (commits(&app), app.queues().accounting().accepted);
    for sweep in 0..SWEEPS {
        app.sweep_now();
        swept(&app, 3 + u64::from(sweep)).await;
    }
    let sweeps = f64::from(SWEEPS);
    let seconds = began.elapsed().as_secs_f64();
    let (used, now) = (Usage::now().since(&before), peer.ask("stats"));
    println!(
        "fleet, {NODES} unchanged nodes in one lane, SSM as fast as it answers; of one sweep:"
    );
    line(
        "requests to SSM per 50 nodes",
        (now.requests - seen.requests) / sweeps / f64::from(NODES) * 50.0,
        "",
        Some((2.01, Aim::AtMost)),
    );
    line("CPU", used.cpu_seconds / sweeps, "s", None);
    line("duration", seconds / sweeps, "s", None);
    line(
        "observations accepted",
        as_f64(app.queues().accounting().accepted - accepted) / sweeps,
        "",
        Some((0.0, Aim::AtMost)),
    );
    line("commit groups, empty ones included", (commits(&app) - committed) / sweeps, "", None);
    line("bytes written", as_f64(used.written_bytes) / sweeps, "B", Some((0.0, Aim::AtMost)));
    line("RSS", Usage::rss_mib(), "MiB", None);
    app.shutdown().await.expect("a clean shutdown");
}

/// 500 lanes of 20 nodes each, none of which changes, at the default poll interval.
pub async fn lanes() {
    const LANES: u32 = 500;
    const WINDOW: Duration = Duration::from_secs(120);
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut peer = Peer::start(LANES as usize, 20, 0.3, false);
    let mut config = config(state.path(), &peer, &Speed::Quota);
    config.ingest.ssm_requests_per_second = 2.0;
    config.ingest.poll_interval = Duration::from_secs(300);
    let at_rest = Usage::rss_mib();
    let began = Instant::now();
    let app = start(config, &peer).await;
    swept(&app, 1).await;
    let all_swept = began.elapsed();
    app.sweep_now();
    swept(&app, 2).await;
    let (before, seen) = (Usage::now(), peer.ask("stats"));
    tokio::time::sleep(WINDOW).await;
    let (used, now) = (Usage::now().since(&before), peer.ask("stats"));
    let seconds = WINDOW.as_secs_f64();
    println!("lanes, {LANES} of 20 nodes, nothing changes, each swept every 5 min:");
    line("start to all swept and told", all_swept.as_secs_f64(), "s", None);
    line("CPU, of one core", used.cpu_seconds / seconds * 100.0, "%", None);
    line("requests", (now.requests - seen.requests) / seconds, "/s", None);
    line("written", as_f64(used.written_bytes) / seconds / 1024.0, "KiB/s", None);
    line("RSS", Usage::rss_mib(), "MiB", None);
    line("RSS per lane", (Usage::rss_mib() - at_rest) / f64::from(LANES) * 1024.0, "KiB", None);
    app.shutdown().await.expect("a clean shutdown");
}
