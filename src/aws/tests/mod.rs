//! Every way a call can end, told from real SDK errors made of canned HTTP answers.

mod cloud_control;
mod credentials;
mod http;
mod hub;
mod organizations;
mod sqs;
mod ssm;
mod wire;

use super::{HoldReason, ImportReply, Rendered, render};
use crate::record::{
    Change, Facts, Finding, FindingId, RecordState, RenderPolicy, Severity, Source, UnixMillis,
};
use http::lane;

fn rendered() -> Rendered {
    let at = UnixMillis(1_636_668_325_000);
    let finding = Finding {
        node: "i-02573cafcfEXAMPLE".parse().unwrap(),
        id: FindingId::Node,
        change: Change::Opened,
        state: RecordState::Open,
        severity: Severity::High,
        created_at: at,
        updated_at: at,
        first_observed_at: at,
        last_observed_at: at,
        facts: Facts::default(),
        policy: RenderPolicy::default(),
        source: Source::Sweep,
        accepted_at: at,
    };
    render(&lane(), &finding, &[])
}

fn held_for(reply: &ImportReply) -> Option<HoldReason> {
    match reply {
        ImportReply::Held { reason, .. } => Some(*reason),
        _ => None,
    }
}
