//! Logs: to standard error, as text or JSON, filtered as the configuration says.

use tracing_subscriber::{EnvFilter, fmt};

use super::{Exit, Failed};
use crate::config::{LogConfig, LogFormat};

/// Installs the process's log.
pub fn init(config: &LogConfig) -> Result<(), Failed> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|error| Failed::new(Exit::Usage, format!("log.level: {error}")))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(terminal).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
