//! An owner that comes back: with a backlog, from a copy of itself, or after a sleep, while the hub
//! was told newer states.

use patchferry::{
    app::{App, maintenance},
    queue::{PauseWhat, ReadBack},
    simulator::{Fault, Scope, Service, SeverityCounts, SimLane},
    store::Backup,
};

use super::{LONG, Machine, assert_nothing_went_back, copy_directory, rig, start};
use crate::harness::{Rig, imports, lane as real_lane};

const NODES: usize = 90;

/// A new scan of every node finds so many patches missing, or, on every third node, none.
fn scan_all(rig: &Rig, lane: &SimLane, missing: u32, heals_some: bool) {
    for (index, node) in rig.control.fleet(lane).iter().enumerate() {
        if heals_some && index % 3 == 0 {
            rig.control.make_compliant(lane, &node.id).unwrap();
        } else {
            let severities = SeverityCounts { high: 1, ..SeverityCounts::default() };
            rig.control.make_non_compliant(lane, &node.id, missing, severities).unwrap();
        }
    }
}

/// Everything is delivered, then changes, and waits, since nothing can be imported.
async fn with_backlog(rig: &Rig, lane: &SimLane) -> App {
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.control.set_fault(imports(), Some(Fault::Outage));
    scan_all(rig, lane, 5, false);
    rig.sweep(&app).await;
    rig.wait_for(&app, "a backlog", |queues, _| {
        let queued = queues.accounting().queued;
        usize::try_from(queued.total()).unwrap() == NODES
            && queued.outbox + queued.delayed == queued.total()
    })
    .await;
    app
}

/// Another machine serves the lane, sees newer states, tells the hub, and ends.
async fn somebody_else(rig: &Rig, lane: &SimLane) {
    let other = Machine::like(rig);
    scan_all(rig, lane, 7, true);
    let app = other.start(rig).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

/// The first machine is back: nothing of its backlog stands, and all is true.
async fn comes_true(rig: &Rig, app: &App) {
    rig.wait_for(app, "the backlog to be gone", |queues, _| {
        queues.accounting().queued.total() == 0
    })
    .await;
    // One that was under way may have passed what was found out since.
    rig.sweep_and_settle(app).await;
    rig.sweep_and_settle(app).await;
    rig.assert_true(app).await;
    assert_nothing_went_back(&rig.control);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_owner_that_comes_back_with_a_backlog_overwrites_nothing_newer() {
    let (rig, time) = rig(401, NODES).await;
    let lane = rig.only_lane();
    with_backlog(&rig, &lane).await.shutdown().await.unwrap();
    rig.control.clear_faults();
    time.pass(LONG);
    somebody_else(&rig, &lane).await;

    time.pass(LONG);
    let app = rig.start().await;
    comes_true(&rig, &app).await;
    let coalesced = app.queues().accounting().coalesced;
    assert_eq!(usize::try_from(coalesced).unwrap(), NODES, "the whole backlog was out of date");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_was_given_away_and_came_back_is_read_back_however_soon() {
    let (mut rig, _time) = rig(402, NODES).await;
    let lane = rig.only_lane();
    with_backlog(&rig, &lane).await.shutdown().await.unwrap();
    rig.control.clear_faults();
    // Started once without the lane, whatever else it serves.
    let own = rig.config.lanes.clone();
    rig.config.lanes = Some(Vec::new());
    let app = rig.start().await;
    assert_eq!(app.queues().read_back_state(&real_lane(&lane)).await.unwrap(), ReadBack::Pending);
    app.shutdown().await.unwrap();
    rig.config.lanes = own;
    somebody_else(&rig, &lane).await;

    let app = rig.start().await;
    comes_true(&rig, &app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_nobody_overtook_is_delivered_after_any_absence() {
    let (rig, time) = rig(403, NODES).await;
    let lane = rig.only_lane();
    with_backlog(&rig, &lane).await.shutdown().await.unwrap();
    rig.control.clear_faults();
    time.pass(LONG);

    let app = rig.start().await;
    comes_true(&rig, &app).await;
    assert_eq!(app.queues().accounting().coalesced, 0, "what waited was the newest");
    app.shutdown().await.unwrap();
}

/// The image of a machine is put back: its whole state directory, as it was.
async fn put_back(seed: u64, empties_hub: bool) {
    let (rig, time) = rig(seed, NODES).await;
    let lane = rig.only_lane();
    with_backlog(&rig, &lane).await.shutdown().await.unwrap();
    let image = tempfile::tempdir().unwrap();
    copy_directory(&rig.state_dir(), image.path());

    rig.control.clear_faults();
    let app = rig.start().await;
    scan_all(&rig, &lane, 7, true);
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();

    std::fs::remove_dir_all(rig.state_dir()).unwrap();
    copy_directory(image.path(), &rig.state_dir());
    if empties_hub {
        rig.control.empty_hub(&lane);
    }
    time.pass(LONG);
    let app = rig.start().await;
    comes_true(&rig, &app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_set_back_to_an_image_overwrites_nothing_newer() {
    put_back(404, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_set_back_and_a_hub_that_was_emptied_come_together_again() {
    put_back(405, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_overwrites_nothing_newer() {
    let (rig, _time) = rig(406, NODES).await;
    let lane = rig.only_lane();
    let app = with_backlog(&rig, &lane).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("backup.pfb");
    app.queues().backup(path.clone()).await.unwrap();
    rig.control.clear_faults();
    scan_all(&rig, &lane, 7, true);
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();

    let state_dir = rig.state_dir();
    let restored = tokio::task::spawn_blocking(move || {
        maintenance::restore(&state_dir, &Backup::check(&path).unwrap()).map(drop)
    });
    restored.await.unwrap().unwrap();
    let app = rig.start().await;
    comes_true(&rig, &app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_slept_reads_back_before_it_sends() {
    let (rig, time) = rig(407, NODES).await;
    let lane = rig.only_lane();
    let app = with_backlog(&rig, &lane).await;
    app.queues().pause(PauseWhat::Delivery, None, 0, "asleep".into()).await.unwrap();
    rig.control.clear_faults();
    time.pass(LONG);
    somebody_else(&rig, &lane).await;

    time.pass(LONG);
    app.queues().resume(PauseWhat::Delivery, None).await.unwrap();
    comes_true(&rig, &app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observation_from_before_an_absence_is_made_anew() {
    let (rig, time) = rig(408, NODES).await;
    let lane = rig.only_lane();
    // Read, but not judged: the hub can't be read back.
    let reads = Scope::of(Service::SecurityHub).operation("GetFindings");
    rig.control.set_fault(reads, Some(Fault::Outage));
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "everything to be parked", |queues, _| {
        let queued = queues.accounting().queued;
        usize::try_from(queued.parked).unwrap() == NODES && queued.parked == queued.total()
    })
    .await;
    app.shutdown().await.unwrap();
    rig.control.clear_faults();
    time.pass(LONG);
    somebody_else(&rig, &lane).await;

    time.pass(LONG);
    let app = rig.start().await;
    comes_true(&rig, &app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_divide_lanes_serve_each_lane_once() {
    let (rig, _time) = rig(409, 10).await;
    let lane = real_lane(&rig.only_lane());
    let mut owners = 0;
    for index in 0..3 {
        let mut machine = Machine::like(&rig);
        machine.config.shard.shard = patchferry::record::Shard::try_new(index, 3).unwrap();
        let app = start(&rig, machine.config.clone()).await;
        owners += usize::from(app.lane(&lane).is_some());
        if app.lane(&lane).is_some() {
            rig.sweep_and_settle(&app).await;
            rig.assert_true(&app).await;
        }
        app.shutdown().await.unwrap();
    }
    assert_eq!(owners, 1);
}
