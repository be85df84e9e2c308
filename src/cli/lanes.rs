//! `lanes` and `lanes retire`.

use clap::{Args, Subcommand};

use super::{Exit, Failed, Place, print, state, state::Reach};
use crate::{
    admin::{
        commands::{
            retire::{RetireAnswer, RetireLane},
            status::{GetStatus, Given},
        },
        lanes,
    },
    record::Lane,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LanesArgs {
    #[command(subcommand)]
    command: Option<LanesCommand>,
    /// Print JSON: an array with an object for each lane
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum LanesCommand {
    /// Give up a lane that isn't served any more: write what waits there to a file, drop and forget
    /// it
    Retire(RetireArgs),
}

#[derive(Args)]
struct RetireArgs {
    /// ACCOUNT/REGION
    lane: Lane,
    /// Close its open findings in the hub first: archived, as no longer available
    #[arg(long)]
    archive: bool,
    /// The role to close them with [default: the one configured for the account, else none]
    #[arg(long, value_name = "ARN", requires = "archive")]
    role_arn: Option<String>,
    /// The role's external id
    #[arg(long, value_name = "ID", requires = "role_arn")]
    external_id: Option<String>,
    /// Do it, rather than tell what would be done
    #[arg(long)]
    yes: bool,
    #[arg(long)]
    json: bool,
}

/// Leaves out the external id.
impl std::fmt::Debug for RetireArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetireArgs").field("lane", &self.lane).finish_non_exhaustive()
    }
}

pub async fn lanes(args: LanesArgs, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let ended = match args.command {
        None => show(&mut reach, args.json).await,
        Some(LanesCommand::Retire(args)) => retire(&mut reach, args).await,
    };
    reach.end(ended).await
}

async fn show(reach: &mut Reach, json: bool) -> Result<Exit, Failed> {
    let Given { running, status } = reach.ask(GetStatus {}).await?;
    if json {
        print(&lanes::to_json(&status))?;
        return Ok(Exit::Ok);
    }
    if !running {
        print("patchferry is not running; this is what its store holds.\n")?;
    }
    print(&lanes::to_text(&status))?;
    Ok(Exit::Ok)
}

async fn retire(reach: &mut Reach, args: RetireArgs) -> Result<Exit, Failed> {
    let RetireArgs { lane, archive, role_arn, external_id, yes, json } = args;
    if !yes {
        let Given { status, .. } = reach.ask(GetStatus {}).await?;
        let found = status.lanes.into_iter().find(|known| known.lane == lane);
        if let Some(found) = found {
            let open = found.open_findings.total();
            let becomes = if archive { "would be closed" } else { "would stay open in the hub" };
            print(&format!(
                "lane {lane} ({}): {} waiting findings would be written to a file and dropped, \
                 {open} open findings {becomes}, and the lane would be forgotten\n",
                found.state.as_str(),
                found.outbox_findings
            ))?;
        } else {
            print(&format!("the store knows no lane {lane}\n"))?;
        }
        return Err(Failed::new(Exit::Failed, "nothing was changed: add --yes to do it"));
    }
    let answer = reach.ask(RetireLane { lane, archive, role_arn, external_id }).await?;
    if json {
        let text = serde_json::to_string_pretty(&answer);
        print(&text.map_err(|error| Failed::of(Exit::Failed, &error))?)?;
    } else {
        print(&retired_text(&answer))?;
    }
    Ok(Exit::Ok)
}

fn retired_text(answer: &RetireAnswer) -> String {
    let kept = match &answer.file {
        Some(file) => {
            format!("{} items were dropped, kept in {}", answer.dropped_items, file.display())
        }
        None => "nothing waited there".into(),
    };
    format!(
        "lane {} is retired: {} findings were closed in the hub, {} stay open there; {kept}\n",
        answer.lane, answer.closed_findings, answer.open_findings
    )
}
