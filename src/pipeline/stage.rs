//! The one loop that validate and transform run: claim, work, settle, and wait when there is
//! nothing to claim.
//!
//! Shutdown is heard while waiting for work, never while doing it. A claim that fails for
//! another reason than the store's end is tried again with the next signal.

use std::{future::Future, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::queue::QueueError;

/// Items that one turn of a stage claims at most: 20 full pages, one commit group.
pub const CLAIM_PAGES_MAX: usize = 20;
/// A stage looks at its queue this often even without a signal.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A stage between two queues.
pub trait Stage: Send + 'static {
    /// Claims, works and settles once; whether there was anything.
    fn turn(&mut self) -> impl Future<Output = Result<bool, QueueError>> + Send;
}

/// Runs `stage` until shutdown or until the store has failed.
pub async fn run(
    mut stage: impl Stage,
    signal: &Notify,
    shutdown: CancellationToken,
) -> Result<(), QueueError> {
    while !shutdown.is_cancelled() {
        match stage.turn().await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => tracing::error!(%error, "a stage could not settle; it tries again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = signal.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    Ok(())
}
