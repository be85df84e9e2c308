//! The machine's clock jumps by hours, backwards and forwards, while findings wait for their next
//! try: nothing waits for a time that is never to come, and the order of versions is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use patchferry::{
    app::App,
    record::{Clock, UnixMillis},
    simulator::Fault,
};

use crate::harness::{Rig, imports};

const HOUR_MS: i64 = 3_600_000;

/// Our clock; AWS's goes on as ever.
async fn rig(seed: u64) -> (Rig, Arc<AtomicI64>) {
    let mut rig = Rig::one_lane(seed, 200).await;
    let offset = Arc::new(AtomicI64::new(0));
    let shared = Arc::clone(&offset);
    rig.clock =
        Clock::custom(move || UnixMillis(Clock::system().now().0 + shared.load(Ordering::SeqCst)));
    (rig, offset)
}

/// Everything fails inside its batch until findings wait for their time.
async fn until_some_are_delayed(rig: &Rig, app: &App) {
    let code = "InternalFailure".to_string();
    rig.control.set_fault(imports(), Some(Fault::Partial { ratio: 0.6, code }));
    rig.control.rescan(&rig.only_lane(), 0.9);
    rig.sweep(app).await;
    rig.wait_for(app, "findings that wait for their time", |queues, _| {
        queues.accounting().queued.delayed > 0
    })
    .await;
}

async fn jumps(seed: u64, hours: &[i64]) {
    let (rig, offset) = rig(seed).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    for hour in hours {
        until_some_are_delayed(&rig, &app).await;
        offset.fetch_add(hour * HOUR_MS, Ordering::SeqCst);
        rig.control.rescan(&rig.only_lane(), 0.5);
        rig.sweep(&app).await;
        rig.control.clear_faults();
        rig.settle(&app).await;
        rig.assert_true(&app).await;
    }
    app.shutdown().await.unwrap();

    // And once more across a restart.
    offset.fetch_add(-hours.iter().sum::<i64>() * HOUR_MS, Ordering::SeqCst);
    let app = rig.start().await;
    rig.control.rescan(&rig.only_lane(), 0.9);
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&rig.only_lane());
    assert_eq!(stats.rewritten_history, 0);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_hours_backwards_delays_nothing() {
    jumps(81, &[-7, -1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_hours_forwards_loses_no_order() {
    jumps(82, &[5, 40]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_to_and_fro_settles() {
    jumps(83, &[9, -12, 2]).await;
}

/// A process that starts with a clock hours behind finds what waits for its time due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_over_a_restart_with_the_clock_set_back_is_due() {
    let (rig, offset) = rig(84).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    until_some_are_delayed(&rig, &app).await;
    app.shutdown().await.unwrap();
    offset.fetch_sub(6 * HOUR_MS, Ordering::SeqCst);
    rig.control.clear_faults();
    let app = rig.start().await;
    let settled = tokio::time::timeout(Duration::from_secs(60), rig.settle(&app)).await;
    assert!(settled.is_ok(), "it waits for the clock: {:?}", app.queues().accounting());
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
