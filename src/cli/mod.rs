//! The command line: parses, calls, prints, and says how it ended by its exit code.
//!
//! While a daemon runs, commands that look talk to it over its Unix socket; when none runs, they
//! open the store themselves, and refuse unless the caller owns it.
//!
//! Deliberately doesn't know: how anything works.

mod check;
mod completions;
mod config;
mod dead;
mod demo;
mod drill;
mod dry_run;
mod exit;
mod iam_policy;
mod ingest;
mod lanes;
mod lint;
mod log;
mod out;
mod pause;
mod receipt;
mod reconcile;
mod run;
mod state;
mod status;
mod store;
mod sweep;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

pub use exit::{Exit, Failed};

/// Carries patch-compliance findings from AWS Systems Manager to AWS Security Hub and loses none
/// on the way.
#[derive(Debug, Parser)]
#[command(name = "patchferry", version, after_help = exit::HELP, max_term_width = 100)]
struct Cli {
    /// The configuration file [default: /etc/patchferry/patchferry.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store is, whatever the configuration says
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground; with --dry-run, say what it would do
    #[command(after_long_help = run::HELP)]
    Run(run::RunArgs),
    /// Sweep every lane once, deliver what has changed, and end: for cron and CI
    #[command(after_long_help = sweep::HELP)]
    Sweep(sweep::SweepArgs),
    /// See the whole product work against a simulated AWS, an outage survived included
    Demo(demo::DemoArgs),
    /// Kill the product over and over against a simulated AWS, and see that nothing is lost
    Drill(drill::DrillArgs),
    /// What the daemon does, what waits, and whether anything needs you
    Status(status::StatusArgs),
    /// Every lane: what it does, since when, what waits there, and what to do about it
    Lanes(lanes::LanesArgs),
    /// Try out, changing nothing, all that must be so for the configuration to work
    Check(check::CheckArgs),
    /// Make, check and show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the least that AWS has to grant for this configuration
    IamPolicy(iam_policy::IamPolicyArgs),
    /// Look at what could not go on, have it go on, or drop it
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Stop delivery or ingest, of one lane or of all, until `resume`
    Pause(pause::PauseArgs),
    /// Take a pause back
    Resume(pause::ResumeArgs),
    /// Prove what Security Hub was told of a node, and see what it is still to be told
    Receipt(receipt::ReceiptArgs),
    /// Compare what Security Hub holds with what it was told, and repair what differs
    Reconcile(reconcile::ReconcileArgs),
    /// Hand in patch states as JSON lines; what is accepted is on disk
    #[command(after_long_help = ingest::HELP)]
    Ingest(ingest::IngestArgs),
    /// Find what Security Hub would refuse in a file of findings (ASFF), before it does
    #[command(after_long_help = lint::HELP)]
    Lint(lint::LintArgs),
    /// Check, back up, restore, compact and migrate the store, and salvage what a corrupt one held
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print what a shell needs to complete these commands
    #[command(after_long_help = completions::HELP)]
    Completions(completions::CompletionsArgs),
}

/// Where to look: the global options.
#[derive(Clone, Debug)]
struct Place {
    config: Option<PathBuf>,
    state_dir: Option<PathBuf>,
}

/// The SDK's reader of a finding's resources has a frame of more than 8 MiB where it isn't
/// optimised; what isn't used of this costs no memory.
const THREAD_STACK_BYTES: usize = 32 << 20;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Files are 0600 and directories 0700, whoever creates them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let wrong = error.use_stderr();
            return if wrong { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let Cli { config, state_dir, command } = cli;
    let place = Place { config, state_dir };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(THREAD_STACK_BYTES)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime can't be started: {error}");
            return Exit::Failed.into();
        }
    };
    let outcome = runtime.block_on(dispatch(command, place));
    // A look-up that hangs in a blocking thread must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(exit) => exit.into(),
        Err(failed) => {
            eprintln!("{failed}");
            failed.exit.into()
        }
    }
}

async fn dispatch(command: Command, place: Place) -> Result<Exit, Failed> {
    match command {
        Command::Run(args) => Box::pin(run::run(&args, &place)).await,
        Command::Sweep(args) => Box::pin(sweep::sweep(&args, &place)).await,
        Command::Demo(args) => Box::pin(demo::demo(args, &place)).await,
        Command::Drill(args) => Box::pin(drill::drill(args, &place)).await,
        Command::Status(args) => status::status(&args, &place).await,
        Command::Lanes(args) => Box::pin(lanes::lanes(args, &place)).await,
        Command::Check(args) => Box::pin(check::check(&args, &place)).await,
        Command::Config(command) => config::config(&command, &place),
        Command::IamPolicy(args) => iam_policy::iam_policy(&args, &place),
        Command::Dead(command) => dead::dead(&command, &place).await,
        Command::Pause(args) => pause::pause(&args, &place).await,
        Command::Resume(args) => pause::resume(&args, &place).await,
        Command::Receipt(args) => receipt::receipt(&args, &place).await,
        Command::Reconcile(args) => reconcile::reconcile(&args, &place).await,
        Command::Ingest(args) => ingest::ingest(&args, &place).await,
        Command::Lint(args) => lint::lint(&args),
        Command::Store(command) => store::store(command, &place).await,
        Command::Completions(args) => completions::completions(&args),
    }
}

/// Prints to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<(), Failed> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { out.flush() } else { writeln!(out) });
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failed::new(Exit::Failed, format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
