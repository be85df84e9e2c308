//! Many lanes in one process: they share what can be shared, and don't all start at once.

use std::{fs, time::Duration};

use patchferry::simulator::{Fault, Scope, Service, SimulatorConfig};

use super::findings;
use crate::harness::{
    Rig,
    child::{Site, queued, report},
};

const REGIONS: [&str; 10] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-west-2",
    "eu-central-1",
    "ap-south-1",
    "ap-northeast-1",
    "sa-east-1",
];
/// Above what one lane takes; measured, and doubled for a debug build on a busy machine.
const RSS_KIB_PER_LANE_MAX: u64 = 400;

fn accounts(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("9{number:011}")).collect()
}

fn simulator(seed: u64, accounts: &[String]) -> SimulatorConfig {
    let mut simulator = SimulatorConfig::new(seed);
    for account in accounts {
        for region in REGIONS {
            simulator = simulator.lane(account, region, findings(1));
        }
    }
    simulator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_start_together_do_not_call_sts_together_and_ask_once_each() {
    let accounts = accounts(8);
    let rig = Rig::new(simulator(441, &accounts)).await;
    let slow = Duration::from_millis(30);
    rig.control.set_fault(Scope::of(Service::Sts), Some(Fault::Latency { min: slow, max: slow }));
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    let requests = rig.control.stats_total().requests;
    assert_eq!((requests["GetCallerIdentity"], requests["AssumeRole"]), (80, 80));
    let most = rig.control.most_sts_requests_at_once();
    assert!(most <= 32, "{most} requests to STS at once");
    app.shutdown().await.unwrap();
}

fn rss_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

async fn rss_kib_of(seed: u64, count: usize) -> u64 {
    let accounts = accounts(count.div_ceil(REGIONS.len()));
    let config = format!(
        "[ingest]\npoll_interval = \"1h\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \
         \"json\"\n[store]\nmin_free_bytes = \"1MiB\"\n[[lanes]]\naccounts = {accounts:?}\n\
         regions = {REGIONS:?}\nrole_name = \"patchferry\"\n"
    );
    let site = Site::new(simulator(seed, &accounts), Some(&config)).await;
    let daemon = site.start();
    daemon.wait_for_status("every lane to be swept and told", |status| {
        let lanes = status["lanes"].as_array().unwrap();
        let swept = |lane: &serde_json::Value| lane["last_complete_sweep_unix_ms"].is_i64();
        lanes.len() == count && lanes.iter().all(swept) && queued(status) == 0
    });
    let rss = rss_kib(daemon.pid());
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    site.assert_hub_true();
    rss
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_lanes_in_one_process_do_not_take_hundreds_of_times_the_memory() {
    let (few, many) = (10, 200);
    let (rss_few, rss_many) = (rss_kib_of(442, few).await, rss_kib_of(443, many).await);
    let per_lane = rss_many.saturating_sub(rss_few) / (many - few) as u64;
    report(&format!(
        "{few} lanes: {rss_few} KiB, {many} lanes: {rss_many} KiB, {per_lane} KiB each"
    ));
    assert!(per_lane < RSS_KIB_PER_LANE_MAX, "{per_lane} KiB for each lane");
}
