//! Ending in order: the first signal asks, the second insists.
//!
//! SIGTERM or SIGINT cancels the token: stages stop claiming, what is in flight ends, the store is
//! flushed. A second signal exits at once; nothing is lost by that either, it is only sent again.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended: 128 + SIGTERM.
const EXIT_INSISTED: i32 = 143;

/// Cancels `token` at the first SIGTERM or SIGINT.
///
/// # Errors
/// If the signals can't be listened for.
pub fn on_signals(token: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for insisted in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if insisted {
                tracing::warn!(
                    "a second signal: exiting at once; what was in flight is sent again"
                );
                std::process::exit(EXIT_INSISTED);
            }
            tracing::info!("stopping: what is in flight may end (a second signal exits at once)");
            token.cancel();
        }
    });
    Ok(())
}
