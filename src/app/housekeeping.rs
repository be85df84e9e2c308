//! Once in a while: has the queues forget what nobody needs any more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::queue::{QueueError, Queues, Retention};

const INTERVAL: Duration = Duration::from_secs(6 * 3_600);

pub(super) async fn run(
    queues: Queues,
    retention: Retention,
    shutdown: CancellationToken,
) -> Result<(), QueueError> {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        for lane in queues.lanes() {
            match queues.forget_old(&lane, retention).await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(%lane, rows, "old ledger rows were removed"),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => tracing::warn!(%lane, %error, "old ledger rows could not be removed"),
            }
        }
    }
}
