//! `completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, Exit, Failed, print};

pub const HELP: &str = "\
For the shell's own directory, such as:

  patchferry completions bash | sudo tee /usr/share/bash-completion/completions/patchferry
  patchferry completions zsh > ~/.zfunc/_patchferry
  patchferry completions fish > ~/.config/fish/completions/patchferry.fish";

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that is to complete commands
    #[arg(value_enum)]
    shell: Shell,
}

pub fn completions(args: &CompletionsArgs) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
