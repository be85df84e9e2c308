//! Takes up the lanes at the start, and leaves signs of life from then on: see
//! [`queue::tenure`](crate::queue::tenure).

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    config::{LaneConfig, ShardConfig},
    queue::{
        QueueError, Queues,
        tenure::{Boot, Owner, TakenUp},
    },
    record::shard::stable_hash,
};

const SIGN_INTERVAL: Duration = Duration::from_secs(60);

/// Begins a tenure over the lanes that are served.
pub(super) async fn take_up(
    queues: &Queues,
    lanes: &[LaneConfig],
    config: ShardConfig,
) -> Result<Owner, QueueError> {
    let served = lanes.iter().map(|config| config.lane.clone()).collect();
    // Lanes move between machines by a change of their files, which may take less than a lease.
    let lease = if config.shard.is_divided() { Duration::ZERO } else { config.lease };
    let owner = Owner { boot: this_boot(), lease };
    let TakenUp { lapse, read_back, left } = queues.take_up(served, owner).await?;
    if let Some(lapse) = lapse.filter(|_| read_back > 0) {
        tracing::info!(
            lanes = read_back, why = %lapse,
            "lanes are read back from their hubs before anything is sent"
        );
    }
    if left > 0 {
        tracing::info!(lanes = left, "the store knows lanes that aren't served here");
    }
    Ok(owner)
}

/// Leaves a sign of life every minute, and a last one at the end.
pub(super) async fn run(
    queues: Queues,
    owner: Owner,
    shutdown: CancellationToken,
) -> Result<(), QueueError> {
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(SIGN_INTERVAL) => false,
        };
        match queues.keep_tenure(owner).await {
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => tracing::warn!(%error, "no sign of life could be left"),
            Ok(()) => {}
        }
        if ended {
            return Ok(());
        }
    }
}

/// Of what Linux tells: the boot's id, and the machine's, which a copy of a running one shares.
fn this_boot() -> Boot {
    let read = |path| std::fs::read(path).unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id");
    if boot.is_empty() {
        return Boot(0);
    }
    Boot(stable_hash(&[&boot, &read("/etc/machine-id")]))
}
