//! Logs: to standard error, as text or JSON, filtered as the configuration says.
//!
//! Guarantees: whatever the level, the libraries below us are heard at `debug` at most: at `trace`
//! AWS's SDK tells whole requests, secrets among them.

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::{Exit, Failed};
use crate::config::{LogConfig, LogFormat};

/// Installs the process's log.
pub fn init(config: &LogConfig) -> Result<(), Failed> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|error| Failed::new(Exit::Usage, format!("log.level: {error}")))?
        .and(filter_fn(may_be_told));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match config.format {
        LogFormat::Text => layer.with_ansi(terminal).with_filter(filter).boxed(),
        LogFormat::Json => {
            layer.with_ansi(false).json().flatten_event(true).with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(layer).init();
    Ok(())
}

fn may_be_told(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    ours || *metadata.level() <= Level::DEBUG
}
