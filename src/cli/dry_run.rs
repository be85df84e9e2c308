//! `run --dry-run`: what would be done, and no more.

use std::{collections::BTreeMap, fmt::Write as _};

use tokio_util::sync::CancellationToken;

use super::{Exit, Failed, log, print, run::RunArgs, state, sweep};
use crate::{
    app::dry_run::{self, Deed, DryRun, DryRunError, Foreseen},
    aws::{Aws, asff::fields::Difference},
    config::Config,
    record::Lane,
    shutdown,
};

/// Findings of one lane that are listed; `--json` has all.
const LISTED_PER_LANE_MAX: usize = 100;
/// Fields of one finding that are listed.
const FIELDS_MAX: usize = 10;
/// Of a field's value.
const VALUE_CHARS_MAX: usize = 80;

pub async fn dry_run(args: &RunArgs, config: Config) -> Result<Exit, Failed> {
    let config = sweep::only(config, &args.lane)?;
    log::init(&config.log)?;
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())
        .map_err(|error| Failed::new(Exit::Failed, format!("can't listen for signals: {error}")))?;
    let aws = Aws::load().await.map_err(|error| Failed::of(Exit::Usage, &error))?;
    let done = Box::pin(dry_run::dry_run(config, &args.lane, aws, args.timeout, &stop))
        .await
        .map_err(|error| failed(&error))?;
    print(&if args.json { json(&done) } else { text(&done) })?;
    Ok(if is_complete(&done) { Exit::Ok } else { Exit::Incomplete })
}

fn failed(error: &DryRunError) -> Failed {
    match error {
        DryRunError::Start(error) => state::start_failed(error),
        DryRunError::Unserved(_) => Failed::of(Exit::Usage, error),
        DryRunError::Interrupted => Failed::of(Exit::Incomplete, error),
        DryRunError::Directory { .. } | DryRunError::Failed(_) | DryRunError::Close(_) => {
            Failed::of(Exit::Failed, error)
        }
    }
}

/// Whether everything was looked at: each lane swept, each finding compared.
fn is_complete(done: &DryRun) -> bool {
    done.round.is_complete() && done.findings.iter().all(|finding| finding.compared)
}

type Counts = BTreeMap<Deed, usize>;

fn counts<'a>(findings: impl Iterator<Item = &'a Foreseen>) -> Counts {
    let mut counts: Counts = Deed::ALL.into_iter().map(|deed| (deed, 0)).collect();
    for finding in findings {
        *counts.entry(finding.deed).or_default() += 1;
    }
    counts
}

fn json(done: &DryRun) -> String {
    let mut json = serde_json::to_value(done).expect("numbers and texts are JSON");
    json["dry_run"] = true.into();
    json["complete"] = is_complete(done).into();
    json["counts"] = counts(done.findings.iter())
        .into_iter()
        .map(|(deed, count)| (deed.as_str().to_string(), count.into()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json.to_string()
}

fn text(done: &DryRun) -> String {
    let mut text = String::from("dry run: nothing is sent\n");
    for lane in &done.round.lanes {
        let findings: Vec<&Foreseen> =
            done.findings.iter().filter(|finding| finding.lane == lane.lane).collect();
        write_lane(&mut text, &lane.lane, lane.nodes, &findings);
        if !lane.swept {
            let _ = writeln!(text, "  not swept");
        }
        if let Some(note) = &lane.note {
            let _ = writeln!(text, "  {}", shown(note, usize::MAX));
        }
    }
    let uncompared = done.findings.iter().filter(|finding| !finding.compared).count();
    let _ = writeln!(text, "{}", sentence(&counts(done.findings.iter())));
    if uncompared > 0 {
        let _ = writeln!(
            text,
            "{uncompared} could not be compared with what the hub holds: grant securityhub:GetFindings"
        );
    }
    if done.round.dead > 0 {
        let _ = writeln!(text, "{} would become dead letters", done.round.dead);
    }
    if !is_complete(done) {
        let _ = writeln!(text, "incomplete: not everything could be looked at");
    }
    text
}

fn write_lane(text: &mut String, lane: &Lane, nodes: usize, findings: &[&Foreseen]) {
    let _ = writeln!(text, "\n{lane}: {nodes} nodes");
    let told = findings.iter().filter(|finding| finding.deed != Deed::Same);
    for finding in told.clone().take(LISTED_PER_LANE_MAX) {
        let Foreseen { node, deed, severity, differences, .. } = finding;
        let _ = writeln!(text, "  {:<8} {node:<20} {}", deed.as_str(), severity.as_str());
        for Difference { field, hub, ours } in differences.iter().take(FIELDS_MAX) {
            let value = |value: Option<&String>| {
                value.map_or_else(|| "(none)".into(), |it| shown(it, VALUE_CHARS_MAX))
            };
            let _ = writeln!(
                text,
                "      {}: {} -> {}",
                shown(field, 120),
                value(hub.as_ref()),
                value(ours.as_ref())
            );
        }
        if differences.len() > FIELDS_MAX {
            let _ = writeln!(text, "      and {} more fields", differences.len() - FIELDS_MAX);
        }
    }
    let unlisted = told.count().saturating_sub(LISTED_PER_LANE_MAX);
    if unlisted > 0 {
        let _ = writeln!(text, "  and {unlisted} more; --json tells all");
    }
    let _ = writeln!(text, "  {}", sentence(&counts(findings.iter().copied())));
}

fn sentence(counts: &Counts) -> String {
    let of = |deed: Deed| counts.get(&deed).copied().unwrap_or(0);
    format!(
        "would open {}, update {}, resolve {}, reopen {}, refresh {}; {} are as the hub has them",
        of(Deed::Open),
        of(Deed::Update),
        of(Deed::Resolve),
        of(Deed::Reopen),
        of(Deed::Refresh),
        of(Deed::Same)
    )
}

/// What comes from the hub may hold anything.
fn shown(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
