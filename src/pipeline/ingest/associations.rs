//! What associations have found where no patch state tells of it.
//!
//! Quick Setup and Explorer have nodes scanned by associations of one document,
//! [`ASSOCIATION_DOCUMENT`]: their verdict is compliance of type `Association`, which all other
//! associations write, too, and has no patches. Only that document's counts.
//!
//! - Once a sweep, which associations there are ([`PatchAssociations`]): a lane without any is asked
//!   nothing more.
//! - Then what the associations of each node come to, whatever their documents ([`Marks`]): no time
//!   in it, since that moves whenever any of them runs.
//! - Of a node where that could change the verdict: what its own have found ([`scan_of`]), and when
//!   they have really run, if it takes that to tell which verdict is newer.
//!
//! A node that has a patch state as well keeps it, unless the association says otherwise and has run
//! later: where both say the same the patch state tells more, and an update of the finding at each
//! turn would tell nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    change::{AssociationMark, is_non_compliant},
    error::IngestError,
    reads::{LaneReads, Read, ReadError},
};
use crate::{
    aws::{
        AwsError, Fault,
        ssm::{AssociationItem, AssociationRow},
    },
    metrics::SsmOperation,
    record::{
        NodeId, NodeKind, Text, UnixMillis,
        observation::{
            ASSOCIATION_DOCUMENT, ASSOCIATION_EXECUTION, RawCompliance, RawPatchState,
            SeverityCounts,
        },
    },
};

/// Associations of the document that are told apart; AWS's quota is 2,000 of all documents.
const ASSOCIATIONS_MAX: usize = 2_000;
/// Nodes whose marks a sweep keeps.
const MARKS_MAX: usize = 200_000;
/// Items of one node that are looked at.
const ITEMS_MAX: usize = 1_000;
/// How long a lane in which associations may not be read isn't asked for them.
const DENIED_FOR: Duration = Duration::from_secs(3_600);

/// A lane's associations that scan for patches.
#[derive(Debug, Default)]
pub(super) struct PatchAssociations(Vec<AssociationRow>);

impl PatchAssociations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When any of them last ran.
    pub fn last_run(&self) -> Option<UnixMillis> {
        self.0.iter().filter_map(|row| row.last_run).max()
    }

    fn named(&self, id: &str) -> Option<&AssociationRow> {
        self.0.iter().find(|row| row.id.as_str() == id)
    }

    /// Whether an item comes of one of them.
    fn have(&self, item: &AssociationItem) -> bool {
        match &item.document {
            Some(document) => document.as_str() == ASSOCIATION_DOCUMENT,
            None => self.named(item.association.as_str()).is_some(),
        }
    }
}

/// What a lane's reads remember of its associations.
#[derive(Debug)]
pub(super) struct Memory(Mutex<Known>);

#[derive(Debug)]
enum Known {
    /// The configuration says so.
    NotWanted,
    Nothing,
    These(Arc<PatchAssociations>),
    Denied {
        at: Instant,
    },
}

impl Memory {
    pub fn new(wanted: bool) -> Self {
        Self(Mutex::new(if wanted { Known::Nothing } else { Known::NotWanted }))
    }

    /// What is known; `None` if it has to be asked.
    fn recall(&self) -> Option<Arc<PatchAssociations>> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Known::These(these) => Some(Arc::clone(these)),
            Known::NotWanted => Some(Arc::default()),
            Known::Denied { at } if at.elapsed() < DENIED_FOR => Some(Arc::default()),
            Known::Nothing | Known::Denied { .. } => None,
        }
    }

    fn learn(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Has the next look ask again.
    fn forget(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*known, Known::These(_)) {
            *known = Known::Nothing;
        }
    }
}

/// The lane's associations that scan for patches, as they are now.
pub(super) async fn list_anew(reads: &LaneReads) -> Result<Arc<PatchAssociations>, ReadError> {
    reads.associations.forget();
    list(reads).await
}

/// The same, as they were at the last sweep.
pub(super) async fn list(reads: &LaneReads) -> Result<Arc<PatchAssociations>, ReadError> {
    if let Some(known) = reads.associations.recall() {
        return Ok(known);
    }
    let mut rows = Vec::new();
    let mut from = None;
    loop {
        let asked = reads
            .ask(SsmOperation::ListAssociations, |ssm| {
                let from = from.clone();
                async move { ssm.patch_associations(from).await }
            })
            .await;
        let page = match asked {
            Ok(Read { page, .. }) => page,
            Err(ReadError::Aws(error)) if error.is_access_denied() => {
                denied(reads, &error);
                return Ok(Arc::default());
            }
            Err(error) => return Err(error),
        };
        rows.extend(page.items);
        from = page.next;
        if from.is_none() || rows.len() >= ASSOCIATIONS_MAX {
            let these = Arc::new(PatchAssociations(rows));
            reads.associations.learn(Known::These(Arc::clone(&these)));
            return Ok(these);
        }
    }
}

/// Patch states go on without what may not be read.
fn denied(reads: &LaneReads, error: &AwsError) {
    tracing::warn!(lane = %reads.lane(), %error, "associations may not be read: what they have found isn't told; allow it, or set ingest.associations = false");
    reads.associations.learn(Known::Denied { at: Instant::now() });
}

/// What the associations of each node come to, until the sweep has come to the node.
#[derive(Default)]
pub(super) struct Marks(HashMap<Box<str>, AssociationMark>);

impl Marks {
    /// Reads them all, if the lane has associations that matter. Hybrid nodes are left out: the
    /// document doesn't support them.
    pub async fn read(reads: &LaneReads) -> Result<Self, IngestError> {
        let associations = list_anew(reads).await?;
        let mut marks = HashMap::new();
        if associations.is_empty() {
            return Ok(Self(marks));
        }
        let last_run = associations.last_run();
        let mut from = None;
        loop {
            let Read { page, .. } = reads
                .ask(SsmOperation::ListResourceComplianceSummaries, |ssm| {
                    let from = from.clone();
                    async move { ssm.association_summaries(from).await }
                })
                .await?;
            for row in page.items {
                let node = row.node.as_str();
                if node.parse::<NodeId>().is_ok_and(|id| id.kind() == NodeKind::Ec2) {
                    marks.insert(node.into(), AssociationMark::new(&row.compliance, last_run));
                }
            }
            from = page.next;
            if from.is_none() || marks.len() >= MARKS_MAX {
                return Ok(Self(marks));
            }
        }
    }

    /// Takes a node's out.
    pub fn take(&mut self, node: &str) -> Option<AssociationMark> {
        self.0.remove(node)
    }

    /// Those of nodes that no patch summary has taken out, in order.
    pub fn into_rest(self) -> Vec<(Box<str>, AssociationMark)> {
        let mut rest: Vec<_> = self.0.into_iter().collect();
        rest.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        rest
    }
}

/// The verdict of a node's patch state, and when it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct PatchVerdict {
    pub non_compliant: bool,
    pub at: Option<UnixMillis>,
}

impl PatchVerdict {
    /// `None` if SSM knows nothing of the node's patches.
    pub fn of(compliance: Option<&RawCompliance>, state: Option<&RawPatchState>) -> Option<Self> {
        let by_service = compliance.map(is_non_compliant);
        Some(Self {
            non_compliant: by_service.or_else(|| state.map(RawPatchState::counts_problems))?,
            at: state
                .and_then(|state| state.operation_end)
                .or_else(|| compliance.and_then(|it| it.execution_time)),
        })
    }
}

/// What an association has found on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AssociationScan {
    pub non_compliant: bool,
    severity: Text<32>,
    baseline: Option<Text<128>>,
    /// When it really ran, as well as that is known.
    pub at: Option<UnixMillis>,
}

impl AssociationScan {
    /// Whether this is what the node's finding is to tell.
    pub fn prevails(&self, patches: Option<PatchVerdict>) -> bool {
        patches.is_none_or(|it| it.non_compliant != self.non_compliant && it.at < self.at)
    }

    /// In the shape in which the service's verdict travels.
    pub fn into_parts(self) -> (RawCompliance, Option<RawPatchState>) {
        let one = one_of(self.severity.as_str());
        let none = SeverityCounts::default();
        let compliance = RawCompliance {
            status: if self.non_compliant { "NON_COMPLIANT" } else { "COMPLIANT" }.into(),
            overall_severity: self.severity,
            execution_id: None,
            execution_type: Some(ASSOCIATION_EXECUTION.into()),
            execution_time: self.at,
            compliant_count: i32::from(!self.non_compliant),
            compliant: if self.non_compliant { none } else { one },
            non_compliant_count: i32::from(self.non_compliant),
            non_compliant: if self.non_compliant { one } else { none },
        };
        let state =
            self.baseline.map(|baseline| RawPatchState { baseline, ..RawPatchState::default() });
        (compliance, state)
    }
}

fn one_of(severity: &str) -> SeverityCounts {
    let mut counts = SeverityCounts::default();
    *match severity {
        "CRITICAL" => &mut counts.critical,
        "HIGH" => &mut counts.high,
        "MEDIUM" => &mut counts.medium,
        "LOW" => &mut counts.low,
        "INFORMATIONAL" => &mut counts.informational,
        _ => &mut counts.unspecified,
    } = 1;
    counts
}

/// What the lane's associations have found on a node, if any of them has scanned it; of several,
/// what the newest has.
pub(super) async fn scan_of(
    reads: &LaneReads,
    node: &NodeId,
    patches: Option<PatchVerdict>,
) -> Result<Option<AssociationScan>, ReadError> {
    let associations = list(reads).await?;
    if associations.is_empty() || node.kind() != NodeKind::Ec2 {
        return Ok(None);
    }
    let items = match items(reads, node, &associations).await {
        Err(ReadError::Aws(error)) if error.is_access_denied() => {
            denied(reads, &error);
            return Ok(None);
        }
        items => items?,
    };
    let verdicts = items.iter().map(|(non_compliant, _)| *non_compliant);
    let verdicts = verdicts.chain(patches.map(|it| it.non_compliant));
    let differ = verdicts.clone().any(|it| it) && verdicts.clone().any(|it| !it);
    let runs = if differ { runs(reads, node).await? } else { HashMap::new() };
    let scans = items.into_iter().map(|(non_compliant, item)| {
        let id = item.association.as_str();
        let known = runs.get(id).copied();
        let at = known.or_else(|| associations.named(id)?.last_run);
        AssociationScan { non_compliant, severity: item.severity, baseline: item.baseline, at }
    });
    Ok(scans.max_by_key(|scan| (scan.at, scan.non_compliant)))
}

/// Verdicts of the lane's associations on the node.
async fn items(
    reads: &LaneReads,
    node: &NodeId,
    associations: &PatchAssociations,
) -> Result<Vec<(bool, AssociationItem)>, ReadError> {
    let mut ours = Vec::new();
    let mut seen = 0;
    let mut from = None;
    loop {
        let Read { page, .. } = reads
            .ask(SsmOperation::ListComplianceItems, |ssm| {
                let (node, from) = (node.clone(), from.clone());
                async move { ssm.association_items(&node, from).await }
            })
            .await?;
        seen += page.items.len();
        for item in page.items.into_iter().filter(|item| associations.have(item)) {
            match item.status.as_str() {
                "NON_COMPLIANT" => ours.push((true, item)),
                "COMPLIANT" => ours.push((false, item)),
                // Nothing was told.
                _ => {}
            }
        }
        from = page.next;
        if from.is_none() || seen >= ITEMS_MAX {
            return Ok(ours);
        }
    }
}

/// When each association has really run on the node; nothing where SSM won't tell.
async fn runs(reads: &LaneReads, node: &NodeId) -> Result<HashMap<String, UnixMillis>, ReadError> {
    let mut runs = HashMap::new();
    let mut from = None;
    loop {
        let asked = reads
            .ask(SsmOperation::DescribeInstanceAssociationsStatus, |ssm| {
                let (node, from) = (node.clone(), from.clone());
                async move { ssm.association_runs(&node, from).await }
            })
            .await;
        let page = match asked {
            Ok(Read { page, .. }) => page,
            // Not of a node that doesn't run, say.
            Err(ReadError::Aws(error))
                if error.is_access_denied() || matches!(error.fault, Fault::Refused { .. }) =>
            {
                return Ok(runs);
            }
            Err(error) => return Err(error),
        };
        for run in page.items {
            if let Some(at) = run.at {
                runs.insert(run.association.to_string(), at);
            }
        }
        from = page.next;
        if from.is_none() || runs.len() >= ITEMS_MAX {
            return Ok(runs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(non_compliant: bool, at: Option<i64>) -> AssociationScan {
        let at = at.map(UnixMillis);
        AssociationScan { non_compliant, severity: "HIGH".into(), baseline: None, at }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as it is passed on")]
    fn patches(non_compliant: bool, at: Option<i64>) -> Option<PatchVerdict> {
        Some(PatchVerdict { non_compliant, at: at.map(UnixMillis) })
    }

    #[test]
    fn the_newer_execution_prevails_and_where_both_agree_the_patch_state_does() {
        assert!(scan(true, None).prevails(None), "there is nothing else");
        for verdict in [true, false] {
            assert!(scan(verdict, Some(2)).prevails(patches(!verdict, Some(1))));
            assert!(!scan(verdict, Some(1)).prevails(patches(!verdict, Some(2))));
            assert!(!scan(verdict, Some(1)).prevails(patches(!verdict, Some(1))), "a tie");
            assert!(!scan(verdict, Some(2)).prevails(patches(verdict, Some(1))), "they agree");
            assert!(!scan(verdict, None).prevails(patches(!verdict, Some(1))), "no time");
        }
    }

    #[test]
    fn only_the_one_document_counts_by_its_name_or_else_by_the_associations_id() {
        let row = AssociationRow { id: "ours".into(), last_run: None };
        let associations = PatchAssociations(vec![row]);
        let item = |association: &str, document: Option<&str>| AssociationItem {
            association: association.into(),
            document: document.map(Text::truncated),
            status: "NON_COMPLIANT".into(),
            severity: "UNSPECIFIED".into(),
            baseline: None,
        };
        assert!(associations.have(&item("ours", None)));
        assert!(associations.have(&item("younger", Some(ASSOCIATION_DOCUMENT))));
        assert!(!associations.have(&item("other", None)));
        assert!(!associations.have(&item("ours", Some("AWS-GatherSoftwareInventory"))));
    }

    #[test]
    fn a_scan_travels_as_a_verdict_with_one_item_of_its_severity() {
        let (compliance, state) = scan(true, Some(7)).into_parts();
        assert_eq!(
            (compliance.status.as_str(), compliance.non_compliant.high),
            ("NON_COMPLIANT", 1)
        );
        assert_eq!((compliance.execution_time, state), (Some(UnixMillis(7)), None));
        let (compliance, _) = scan(false, None).into_parts();
        assert_eq!((compliance.status.as_str(), compliance.compliant.high), ("COMPLIANT", 1));
    }
}
