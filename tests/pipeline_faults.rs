//! The whole pipeline against the simulator, through every fault of the outcome table.

use crate::harness::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_fleet_says_is_what_the_hub_holds() {
    let rig = Rig::one_lane(1, 400).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    for lane in rig.control.lanes() {
        rig.control.rescan(&lane, 0.5);
    }
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
