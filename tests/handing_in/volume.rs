//! Much of it: memory doesn't grow with the file, and the last line of each node wins.

use std::{fs, io::Write as _, time::Instant};

use super::{Ingest, held, line, node, site};
use crate::daemon::exits_with_zero;

const LINES: usize = 100_000;
const NODES: usize = 1_000;
/// A chunk, the chunk that is read ahead, and the program itself; the file has 40 MB.
const INGEST_KIB_MAX: u64 = 40 * 1024;
/// The store's cache may be 64 MiB of it.
const DAEMON_KIB_MAX: u64 = 300 * 1024;

/// The most memory that a process has had so far; `None` once it is gone.
fn peak_kib(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_lines_need_no_more_memory_than_a_few() {
    let site = site(71, "").await;
    let daemon = site.start();
    daemon.settle();
    let path = site.path().join("lines.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    for number in 0..LINES {
        writeln!(file, "{}", line(number % NODES, 1 + number / NODES)).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();

    let began = Instant::now();
    let mut ingest = Ingest::start(&site, &[path.to_str().unwrap(), "--json"]);
    let (mut told, mut peak) = (0, 0);
    while let Some(line) = ingest.told() {
        assert!(line.ends_with("\"accepted\":true}"), "{line}");
        told += 1;
        if told % 1_000 == 0 {
            peak = peak_kib(ingest.pid()).map_or(peak, |now| peak.max(now));
        }
    }
    let took = began.elapsed();
    let (status, _, said) = ingest.end();
    assert_eq!((status.code(), told), (Some(0), LINES), "{said}");
    daemon.settle();
    let daemon_peak = peak_kib(daemon.pid()).expect("it runs");
    let _ = writeln!(
        std::io::stderr(),
        "handing in: {LINES} lines in {:.1} s, peaks: ingest {peak} KiB, daemon {daemon_peak} KiB",
        took.as_secs_f64()
    );
    assert!(peak > 0 && peak < INGEST_KIB_MAX, "ingest had {peak} KiB");
    assert!(daemon_peak < DAEMON_KIB_MAX, "the daemon had {daemon_peak} KiB");
    let last = i64::try_from(LINES / NODES).unwrap();
    assert_eq!(held(&site), (0..NODES).map(|number| (node(number), last)).collect());
    let status = daemon.status();
    assert_eq!(status["accounting_imbalance"], 0, "{status:#}");
    exits_with_zero(daemon);
}
