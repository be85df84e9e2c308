//! `iam-policy`.

use clap::{Args, ValueEnum};

use super::{Exit, Failed, Place, print, state};
use crate::{
    app::policy::{self, Fleet, Part},
    record::{AccountId, Region},
};

#[derive(Debug, Args)]
pub struct IamPolicyArgs {
    /// Policies, or one template for all accounts and Regions
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Only this part, as a document of its own
    #[arg(long, value_enum)]
    part: Option<PartArg>,
    /// The account that patchferry runs in, if no lane is served without a role
    #[arg(long, value_name = "ACCOUNT")]
    runner_account: Option<AccountId>,
    /// Where the caller's own account is served, if no lanes are configured
    #[arg(long, env = "AWS_REGION", hide_env_values = true)]
    region: Option<Region>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    /// JSON, too, as a template
    Cloudformation,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartArg {
    /// What the daemon's own identity needs
    Runner,
    /// What whoever works in a lane's account needs: the role there
    Member,
    /// What that one may have, and what patchferry does without it otherwise
    Optional,
    /// Who may assume the roles
    Trust,
    /// What may put messages into the queues
    Queue,
    /// Which events go there, and how
    Events,
}

impl From<PartArg> for Part {
    fn from(part: PartArg) -> Self {
        match part {
            PartArg::Runner => Self::Runner,
            PartArg::Member => Self::Member,
            PartArg::Optional => Self::Optional,
            PartArg::Trust => Self::Trust,
            PartArg::Queue => Self::Queue,
            PartArg::Events => Self::Events,
        }
    }
}

pub fn iam_policy(args: &IamPolicyArgs, place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
    let runner_account = args.runner_account.map(|account| account.to_string());
    let fleet = Fleet::of(&config, args.region.as_ref(), runner_account);
    let text = match (args.format, args.part) {
        (Format::Cloudformation, None) => policy::template(&fleet),
        (Format::Cloudformation, Some(_)) => {
            let advice = "--part is for --format json: the template is of one piece, its parameters \
                          and conditions say what is made where";
            return Err(Failed::new(Exit::Usage, advice));
        }
        (Format::Json, Some(part)) => Part::from(part).text(&fleet),
        (Format::Json, None) => {
            serde_json::to_string_pretty(&policy::all(&fleet)).expect("policies are JSON")
        }
    };
    print(&text)?;
    Ok(Exit::Ok)
}
