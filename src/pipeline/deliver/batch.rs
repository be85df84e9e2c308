//! Which findings make the next request: up to 100 and 6 MB, unique Ids, none whose Id is in
//! flight; in the order in which the outbox gives them.

use std::collections::HashSet;

use crate::{
    aws::{self, Rendered, security_hub::IMPORT_BYTES_MAX, security_hub::IMPORT_FINDINGS_MAX},
    queue::{ClaimedFinding, OutboxClaim},
    record::{Lane, PatchDetail},
    store::keys::Key,
};

/// Room left for what stands around the findings in a request.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// A claimed finding with what it takes to render it.
#[derive(Debug)]
pub struct Prepared {
    pub claimed: ClaimedFinding,
    pub id: String,
    /// How many findings the hub had acknowledged when it first called this one, or the call that
    /// it was part of, invalid.
    pub called_invalid_at: Option<u64>,
    patches: Vec<PatchDetail>,
    rendered: Option<Rendered>,
}

impl Prepared {
    fn new(lane: &Lane, claimed: ClaimedFinding, patches: Vec<PatchDetail>) -> Self {
        let rendered = aws::render(lane, &claimed.waiting.finding, &patches);
        Self {
            id: rendered.id().to_string(),
            claimed,
            called_invalid_at: None,
            patches,
            rendered: Some(rendered),
        }
    }

    /// The ASFF; the same bytes each time.
    pub fn rendered(&mut self, lane: &Lane) -> Rendered {
        self.rendered
            .take()
            .unwrap_or_else(|| aws::render(lane, &self.claimed.waiting.finding, &self.patches))
    }

    fn bytes_max(&self) -> usize {
        self.rendered.as_ref().map_or(aws::asff::FINDING_BYTES_MAX, Rendered::bytes_max)
    }

    /// Counts that were above ASFF's limit.
    pub fn clamped(&self) -> u32 {
        self.rendered.as_ref().map_or(0, Rendered::clamped)
    }

    /// Texts and lists that were cut to ASFF's limits.
    pub fn truncated(&self) -> u32 {
        self.rendered.as_ref().map_or(0, Rendered::truncated)
    }
}

/// What was taken from a claim.
#[derive(Debug, Default)]
pub struct Selection {
    pub batch: Vec<Prepared>,
    /// Where the next claim goes on.
    pub next: Option<Key>,
    /// A finding was passed over because another version of it is in flight.
    pub passed_over: bool,
}

/// Takes from a claim what fits in one request of at most `findings_max`.
pub fn select(
    lane: &Lane,
    claim: OutboxClaim,
    in_flight: &HashSet<String>,
    findings_max: usize,
) -> Selection {
    let limit = findings_max.min(IMPORT_FINDINGS_MAX);
    let mut selection = Selection::default();
    let mut ids = HashSet::new();
    let mut bytes = ENVELOPE_BYTES;
    for (claimed, patches) in claim.findings {
        if selection.batch.len() == limit {
            break;
        }
        let next = claimed.key.successor();
        let prepared = Prepared::new(lane, claimed, patches);
        if in_flight.contains(&prepared.id) || ids.contains(&prepared.id) {
            selection.passed_over = true;
            selection.next = Some(next);
            continue;
        }
        bytes += prepared.bytes_max();
        if bytes > IMPORT_BYTES_MAX && !selection.batch.is_empty() {
            break;
        }
        ids.insert(prepared.id.clone());
        selection.batch.push(prepared);
        selection.next = Some(next);
    }
    selection
}
