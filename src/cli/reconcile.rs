//! `reconcile`.

use std::fmt::Write as _;

use clap::Args;

use super::{Exit, Failed, Place, print, state, state::Reach};
use crate::{
    admin::commands::{
        reconcile::{ReconcileLane, Reconciled},
        status::GetStatus,
    },
    record::Lane,
};

/// Differences of a lane that are printed; `--json` has more.
const DIFFERENCES_SHOWN_MAX: usize = 20;

#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Only this lane: ACCOUNT/REGION
    #[arg(long)]
    lane: Option<Lane>,
    /// Repair what differs: tell it again, close it, or take it over and observe the node anew
    #[arg(long)]
    repair: bool,
    /// The nodes of the lane that are withheld as gone, too many at once to be believed, are gone
    #[arg(long, requires = "lane")]
    accept_gone: bool,
    /// Print an object for each lane, as JSON
    #[arg(long)]
    json: bool,
}

pub async fn reconcile(args: &ReconcileArgs, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let lanes = match &args.lane {
        Some(lane) => Ok(vec![lane.clone()]),
        None => served(&mut reach).await,
    };
    let compared = match lanes {
        Ok(lanes) => compare(args, &mut reach, lanes).await,
        Err(failed) => Err(failed),
    };
    reach.end(compared).await
}

/// Lanes that the daemon serves.
async fn served(reach: &mut Reach) -> Result<Vec<Lane>, Failed> {
    let status = reach.ask(GetStatus {}).await?.status;
    let idle = ["orphaned", "dormant"];
    let lanes = status.lanes.into_iter().filter(|lane| !idle.contains(&lane.state.as_str()));
    Ok(lanes.map(|lane| lane.lane).collect())
}

/// Each lane in turn; one that can't be compared stands in no other's way.
async fn compare(
    args: &ReconcileArgs,
    reach: &mut Reach,
    lanes: Vec<Lane>,
) -> Result<Exit, Failed> {
    let mut exit = Exit::Ok;
    let mut last_failed = None;
    for lane in lanes {
        if let Some(failed) = last_failed.take() {
            eprintln!("{failed}");
        }
        match reach
            .ask(ReconcileLane { lane, repair: args.repair, accept_gone: args.accept_gone })
            .await
        {
            Ok(reconciled) => {
                if reconciled.total() > reconciled.repaired {
                    exit = Exit::Failed;
                }
                print(&if args.json { as_json(&reconciled)? } else { as_text(&reconciled) })?;
            }
            Err(failed) => last_failed = Some(failed),
        }
    }
    match last_failed {
        Some(failed) => Err(failed),
        None => Ok(exit),
    }
}

fn as_json(reconciled: &Reconciled) -> Result<String, Failed> {
    serde_json::to_string(reconciled).map_err(|error| Failed::of(Exit::Failed, &error))
}

fn as_text(reconciled: &Reconciled) -> String {
    let Reconciled { lane, hub_findings, nodes_compared, nodes_left_alone, .. } = reconciled;
    let mut text = format!(
        "{lane}: {hub_findings} findings in the hub, {nodes_compared} nodes compared, \
         {nodes_left_alone} left alone\n"
    );
    let Reconciled { missing, orphaned, drifted, duplicate, repaired, queued, .. } = reconciled;
    if reconciled.total() == 0 {
        text.push_str("  the hub holds what it was told\n");
    } else {
        let _ = writeln!(
            text,
            "  {missing} missing, {orphaned} orphaned, {drifted} drifted, {duplicate} duplicate; \
             {repaired} repaired, {queued} findings queued"
        );
    }
    for difference in reconciled.differences.iter().take(DIFFERENCES_SHOWN_MAX) {
        let _ = writeln!(text, "  {:<9} {}  {}", difference.kind, difference.node, difference.what);
    }
    let more = reconciled.total().saturating_sub(DIFFERENCES_SHOWN_MAX as u64);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more: --json");
    }
    if reconciled.total() > 0 && *repaired == 0 {
        text.push_str("  nothing was changed: --repair\n");
    }
    let Reconciled { resolved_by_people, reopening, .. } = reconciled;
    if resolved_by_people + reopening > 0 {
        let _ = writeln!(
            text,
            "  resolved by people: {resolved_by_people} observed anew, {reopening} opened again"
        );
    }
    if reconciled.gone_accepted > 0 {
        let nodes = reconciled.gone_accepted;
        let _ = writeln!(text, "  accepted as gone: {nodes} nodes; a sweep begins now");
    }
    text
}
