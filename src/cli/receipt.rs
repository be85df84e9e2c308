//! `receipt`.

use std::fmt::Write as _;

use clap::Args;

use super::{Exit, Failed, Place, print, state, state::Reach};
use crate::{
    admin::commands::receipt::{
        Content, Dead, Delivered, Failure, GetReceipt, LaneReceipt, NodeReceipts, Pending, Wanted,
    },
    record::Lane,
};

#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// The node's id
    node: String,
    /// Only in this lane: ACCOUNT/REGION
    #[arg(long)]
    lane: Option<Lane>,
    /// Print JSON with stable field names: evidence for an auditor
    #[arg(long)]
    json: bool,
}

/// Exits with 1 if the hub has acknowledged nothing of the node.
pub async fn receipt(args: &ReceiptArgs, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let asked = GetReceipt { node: args.node.clone(), lane: args.lane.clone() };
    let answered = reach.ask(asked).await;
    let receipts = reach.end(answered).await?;
    if args.json {
        let text = serde_json::to_string_pretty(&receipts);
        print(&text.map_err(|error| Failed::of(Exit::Failed, &error))?)?;
    } else {
        print(&to_text(&receipts))?;
    }
    let delivered = receipts.lanes.iter().any(|lane| lane.delivered.is_some());
    Ok(if delivered { Exit::Ok } else { Exit::Failed })
}

fn to_text(receipts: &NodeReceipts) -> String {
    if receipts.lanes.is_empty() {
        return format!(
            "nothing is known of {}: no observation of it was judged yet (those that wait for it \
             are `observed` in `patchferry status`), or all of it is forgotten\n",
            receipts.node
        );
    }
    let mut text = String::new();
    for lane in &receipts.lanes {
        one(&receipts.node, lane, &mut text);
    }
    let _ = writeln!(text, "as of {}, by patchferry {}", receipts.at, receipts.patchferry_version);
    text
}

fn one(node: &str, lane: &LaneReceipt, text: &mut String) {
    let _ = writeln!(text, "node         {node}\nlane         {}", lane.lane);
    let _ = writeln!(
        text,
        "finding      {}\nproduct      {}",
        lane.finding_id.as_deref().unwrap_or("(forgotten)"),
        lane.product_arn
    );
    if let Some(observed) = &lane.last_observed {
        let _ = writeln!(text, "observed     {observed}");
    }
    match &lane.delivered {
        Some(it) => delivered(it, text),
        None => text.push_str("delivered    nothing: there is no receipt\n"),
    }
    match &lane.desired {
        Some(_) if lane.delivered.as_ref().is_some_and(|it| it.is_newest) => {
            text.push_str("desired      what was delivered\n");
        }
        Some(it) => desired(it, text),
        None => text.push_str("desired      nothing\n"),
    }
    match &lane.waiting {
        Some(it) => waiting(it, text),
        None if lane.waits_for_read_back => {
            text.push_str("waiting      for the end of the lane's read-back\n");
        }
        None => text.push_str("waiting      nothing in the outbox\n"),
    }
    for letter in &lane.dead_letters {
        dead(letter, text);
    }
    text.push('\n');
}

fn said(content: &Content) -> String {
    let Content { change, record_state, compliance_status, severity, updated_at } = content;
    format!("{change}: {record_state} {compliance_status} {severity}, UpdatedAt {updated_at}")
}

fn delivered(it: &Delivered, text: &mut String) {
    let _ = writeln!(text, "delivered    {}", said(&it.content));
    if let Some(end) = &it.operation_end {
        let _ = writeln!(text, "  operation  ended {end}");
    }
    let _ = writeln!(
        text,
        "  accepted   {}\n  sent       {}\n  acked      {} ({:.3} s after it was accepted)",
        it.accepted, it.first_sent, it.acknowledged, it.latency_seconds
    );
    let how = match &it.aws_request_id {
        Some(id) => format!("AWS request {id}"),
        None => "confirmed by reading it back".into(),
    };
    let _ = writeln!(text, "  attempts   {}; {how}", it.attempts);
    failures(&it.failures, text);
}

fn failures(all: &[Failure], text: &mut String) {
    for Failure { sent, outcome, detail } in all {
        let _ = writeln!(text, "    failed   {sent} {outcome}: {detail}");
    }
}

fn desired(it: &Wanted, text: &mut String) {
    let rejected = if it.rejected { "; the hub called it invalid" } else { "" };
    let _ = writeln!(text, "desired      {}{rejected}", said(&it.content));
    let _ = writeln!(text, "  decided    {}", it.decided);
}

fn waiting(it: &Pending, text: &mut String) {
    let _ = write!(text, "waiting      since {}, {} attempts", it.since, it.attempts);
    let _ = match &it.delayed_until {
        Some(until) => writeln!(text, "; not sent before {until}"),
        None => writeln!(text),
    };
    failures(&it.failures, text);
}

fn dead(it: &Dead, text: &mut String) {
    let _ = writeln!(
        text,
        "dead         {}/{}, {} of them, last {}: {}; see `patchferry dead show`",
        it.stage, it.reason, it.count, it.last, it.message
    );
}
