//! `config init|check|show`.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clap::Subcommand;

use super::{Exit, Failed, Place, print, state};
use crate::{
    config::{Config, LaneConfig},
    record::Shard,
};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a commented file with every key and its default
    Init {
        /// Write it here instead; an existing file is left alone
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check the file and the environment, and say what is wrong where
    Check,
    /// Print what is in effect, and where each value comes from
    Show,
}

pub fn config(command: &ConfigCommand, place: &Place) -> Result<Exit, Failed> {
    match command {
        ConfigCommand::Init { output: None } => print(Config::init_text())?,
        ConfigCommand::Init { output: Some(path) } => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options
                .open(path)
                .and_then(|mut file| file.write_all(Config::init_text().as_bytes()))
                .map_err(|error| {
                    Failed::new(Exit::Failed, format!("can't write {}: {error}", path.display()))
                })?;
        }
        ConfigCommand::Check => {
            let config = state::load_config(place)?;
            let file = config.file.as_ref().map_or_else(
                || "no file is read: the defaults and the environment apply".to_string(),
                |file| format!("{} is right", file.display()),
            );
            let lanes = match (&config.lanes, &config.discovery) {
                (Some(lanes), None) => lanes_of(lanes, config.shard.shard),
                (Some(lanes), Some(_)) => {
                    let configured = lanes_of(lanes, config.shard.shard);
                    format!("{configured}, and those of the organization's accounts")
                }
                (None, Some(_)) => "the lanes of the organization's accounts".to_string(),
                (None, None) => "one lane: the caller's own account and Region".to_string(),
            };
            print(&format!("ok: {file}; {lanes}; state in {}", config.state_dir.display()))?;
        }
        ConfigCommand::Show => print(&state::load_config(place)?.show())?,
    }
    Ok(Exit::Ok)
}

fn lanes_of(lanes: &[LaneConfig], shard: Shard) -> String {
    let all = lanes.len();
    if !shard.is_divided() {
        return format!("{all} lanes");
    }
    let own = lanes.iter().filter(|config| shard.owns(&config.lane)).count();
    format!("{own} of {all} lanes are this machine's, which is shard {shard}")
}
