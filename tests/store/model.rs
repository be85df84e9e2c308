//! Random sequences of what the stages and an operator do to the queues, against a plain model.
//!
//! After every step: the counters are the model's, a recount agrees with them, nothing is
//! unaccounted for, no patch list is left without an item, and the newest state that was accepted
//! of every node is on its way or is what the ledger wants the hub to hold. Judging is reduced to
//! one number per node (its missing patches), since what is judged here is the queues.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use patchferry::{
    queue::{
        AcceptedNode, ClaimedFinding, DeadFilter, Death, Decided, EPISODES_KEPT_MAX, PauseWhat,
        Queues, Settlement, Validated, details,
    },
    record::{
        Assessment, Attempts, Change, Clock, Facts, Finding, FindingId, Lane, Observation,
        PatchDetail, ReadNumber, Reason, Receipt, RecordState, RenderPolicy, Revision, Severity,
        Source, Stage, UnixMillis, Verdict,
        dead_letter::DeadItem,
        observation::{PatchList, PatchState},
    },
    store::keys::{Key, Table},
};
use proptest::prelude::*;

use super::{blobs, moved_clock, open};

const NODES: u8 = 5;
const CASES: u32 = 24;

#[derive(Clone, Debug)]
enum Step {
    /// Nodes with the patches that they miss; `None` is a node that validate buries. Stale: with
    /// a read number from before all others.
    Accept {
        nodes: Vec<(u8, Option<u8>)>,
        patched: bool,
        stale: bool,
    },
    Validate,
    Judge,
    Claim {
        limit: usize,
    },
    Settle {
        which: prop::sample::Index,
        outcome: Outcome,
    },
    Promote,
    Redrive {
        node: Option<u8>,
    },
    Drop {
        node: Option<u8>,
    },
    Pause {
        what: PauseWhat,
        whole: bool,
    },
    Resume {
        what: PauseWhat,
        whole: bool,
    },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Acknowledged,
    Retry,
    Rejected,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = (0..NODES, prop_oneof![8 => (0..4_u8).prop_map(Some), 1 => Just(None)]);
    let accept = (prop::collection::vec(node, 1..6), any::<bool>(), prop::bool::weighted(0.15))
        .prop_map(|(nodes, patched, stale)| Step::Accept { nodes, patched, stale });
    let outcome = prop_oneof![
        6 => Just(Outcome::Acknowledged),
        2 => Just(Outcome::Retry),
        1 => Just(Outcome::Rejected),
    ];
    let settle = (any::<prop::sample::Index>(), outcome)
        .prop_map(|(which, outcome)| Step::Settle { which, outcome });
    let whose = || prop_oneof![(0..NODES).prop_map(Some), Just(None)];
    let what = || prop_oneof![Just(PauseWhat::Delivery), Just(PauseWhat::Ingest)];
    let pause = (what(), any::<bool>()).prop_map(|(what, whole)| Step::Pause { what, whole });
    let resume = (what(), any::<bool>()).prop_map(|(what, whole)| Step::Resume { what, whole });
    let step = prop_oneof![
        6 => accept,
        5 => Just(Step::Validate),
        5 => Just(Step::Judge),
        4 => (1..4_usize).prop_map(|limit| Step::Claim { limit }),
        8 => settle,
        2 => Just(Step::Promote),
        2 => whose().prop_map(|node| Step::Redrive { node }),
        1 => whose().prop_map(|node| Step::Drop { node }),
        1 => pause,
        1 => resume,
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn the_queues_do_what_a_plain_model_of_them_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut bench = Bench::new().await;
            for step in steps {
                bench.take(&step).await;
                bench.check(&step).await;
            }
            bench.drain().await;
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    node: u8,
    read: u64,
    missing: Option<u8>,
    patched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    read: u64,
    missing: u8,
    /// Counts the versions that were put in the outbox.
    version: u64,
}

/// A dead letter: of a finding, if it died as that version.
#[derive(Clone, Copy, Debug)]
struct Letter {
    item: Item,
    version: u64,
    count: i64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    revision: Revision,
    patched: bool,
    delayed: bool,
}

#[derive(Default)]
struct Model {
    observed: Vec<Vec<Item>>,
    assessed: Vec<Vec<Item>>,
    desired: BTreeMap<u8, Wanted>,
    waiting: BTreeMap<u8, Sent>,
    /// By node, and whether a finding or an observation died.
    letters: BTreeMap<(u8, bool), Letter>,
    pauses: BTreeSet<(PauseWhat, bool)>,
    redrives: BTreeMap<u8, usize>,
    accepted: i64,
    delivered: i64,
    coalesced: i64,
    unchanged: i64,
    dead: i64,
    dropped: i64,
}

impl Model {
    fn judge(&mut self, item: Item) {
        let missing = item.missing.expect("validate buried the others");
        match self.desired.get_mut(&item.node) {
            Some(wanted) if item.read < wanted.read => {
                self.coalesced += 1;
                return;
            }
            Some(wanted) if wanted.missing == missing => {
                wanted.read = item.read;
                self.unchanged += 1;
                return;
            }
            None if missing == 0 => {
                self.unchanged += 1;
                return;
            }
            _ => {}
        }
        let version = self.desired.get(&item.node).map_or(1, |wanted| wanted.version + 1);
        self.desired.insert(item.node, Wanted { read: item.read, missing, version });
        let sent = Sent { revision: Revision(0), patched: item.patched, delayed: false };
        if self.waiting.insert(item.node, sent).is_some() {
            self.coalesced += 1;
        }
    }

    fn lists(&self) -> usize {
        let pages = self.observed.iter().chain(&self.assessed).flatten();
        pages.filter(|item| item.patched).count()
            + self.waiting.values().filter(|sent| sent.patched).count()
            + self.letters.values().filter(|letter| letter.item.patched).count()
    }

    fn bury(&mut self, item: Item, is_finding: bool) {
        self.dead += 1;
        let version = self.desired.get(&item.node).map_or(0, |wanted| wanted.version);
        let letter = self.letters.entry((item.node, is_finding));
        let letter = letter.or_insert(Letter { item, version, count: 0 });
        *letter = Letter { item, version, count: letter.count + 1 };
    }

    fn take_letters(&mut self, node: Option<u8>) -> Vec<(bool, Letter)> {
        let is_meant = |key: &(u8, bool)| node.is_none_or(|node| node == key.0);
        let keys: Vec<(u8, bool)> = self.letters.keys().copied().filter(is_meant).collect();
        let mut taken = Vec::new();
        for key in keys {
            let letter = self.letters.remove(&key).expect("its key was there");
            self.dead -= letter.count;
            taken.push((key.1, letter));
        }
        taken
    }

    /// The letters' items go on; nodes whose finding is sent anew.
    fn redrive(&mut self, node: Option<u8>) -> Vec<u8> {
        let (mut observed, mut sent) = (Vec::new(), Vec::new());
        for (is_finding, Letter { item, version, count }) in self.take_letters(node) {
            self.coalesced += count - 1;
            *self.redrives.entry(item.node).or_default() += 1;
            match self.desired.get_mut(&item.node) {
                Some(wanted) if is_finding && wanted.version == version => {
                    wanted.version += 1;
                    let patched = item.patched;
                    let again = Sent { revision: Revision(0), patched, delayed: false };
                    assert!(self.waiting.insert(item.node, again).is_none());
                    sent.push(item.node);
                }
                wanted if is_finding || wanted.as_ref().is_some_and(|it| item.read < it.read) => {
                    self.coalesced += 1;
                }
                _ => observed.push(item),
            }
        }
        if !observed.is_empty() {
            self.observed.push(observed);
        }
        sent
    }
}

struct Bench {
    state: tempfile::TempDir,
    clock: Clock,
    tick: Box<dyn Fn(i64)>,
    queues: Option<Queues>,
    lane: Lane,
    model: Model,
    in_flight: Vec<ClaimedFinding>,
    stale_read: u64,
}

impl Bench {
    async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let (clock, tick) = moved_clock();
        let lane: Lane = "111122223333/us-east-1".parse().unwrap();
        let queues = open(state.path(), clock.clone());
        queues.finish_read_back(&lane, Some(HashSet::new())).await.unwrap();
        let mut reserved = 0;
        for _ in 0..100 {
            reserved = queues.next_read(&lane).await.unwrap().0;
        }
        Self {
            state,
            clock,
            tick: Box::new(tick),
            queues: Some(queues),
            lane,
            model: Model::default(),
            in_flight: Vec::new(),
            stale_read: reserved,
        }
    }

    fn queues(&self) -> &Queues {
        self.queues.as_ref().expect("open between the steps")
    }

    async fn take(&mut self, step: &Step) {
        (self.tick)(1_000);
        match step {
            Step::Accept { nodes, patched, stale } => self.accept(nodes, *patched, *stale).await,
            Step::Validate => self.validate().await,
            Step::Judge => self.judge().await,
            Step::Claim { limit } => self.claim(*limit).await,
            Step::Settle { which, outcome } if !self.in_flight.is_empty() => {
                let claimed = self.in_flight.remove(which.index(self.in_flight.len()));
                self.settle(claimed, *outcome).await;
            }
            Step::Settle { .. } => {}
            Step::Promote => self.promote().await,
            Step::Redrive { node } => self.redrive(*node).await,
            Step::Drop { node } => self.drop_dead(*node).await,
            Step::Pause { what, whole } => {
                let reason = "by the model".into();
                let paused = self.queues().pause(*what, self.pausable(*whole), 7, reason).await;
                assert_eq!(paused.unwrap(), self.model.pauses.insert((*what, *whole)));
            }
            Step::Resume { what, whole } => {
                let resumed = self.queues().resume(*what, self.pausable(*whole)).await;
                assert_eq!(resumed.unwrap(), self.model.pauses.remove(&(*what, *whole)));
            }
            Step::Reopen => self.reopen().await,
        }
    }

    async fn accept(&mut self, nodes: &[(u8, Option<u8>)], patched: bool, stale: bool) {
        let mut items = Vec::new();
        let mut accepted = Vec::new();
        for &(node, missing) in nodes {
            let read = if stale && self.stale_read > 1 {
                self.stale_read -= 1;
                self.stale_read
            } else {
                self.queues().next_read(&self.lane).await.unwrap().0
            };
            let item = Item { node, read, missing, patched };
            items.push(item);
            accepted.push(node_of(item, self.clock.now()));
        }
        self.queues().accept(&self.lane, accepted).await.unwrap();
        self.model.accepted += i64::try_from(items.len()).unwrap();
        self.model.observed.push(items);
    }

    async fn validate(&mut self) {
        let pages = self.queues().claim_observed(1).await.unwrap();
        let validated = pages.into_iter().map(|mut page| {
            let mut out = Validated::default();
            let items = std::mem::replace(&mut page.items, Ok(Vec::new())).expect("it decodes");
            for item in items {
                match missing_of(&item.observation) {
                    Some(_) => out.assessments.push(assess(&item.observation, item.at)),
                    None => out.deaths.push(Death {
                        node: item.observation.node.clone(),
                        stage: Stage::Validate,
                        reason: Reason::NegativeCount,
                        message: "a negative count".into(),
                        item: DeadItem::Observation {
                            accepted_at: item.at,
                            observation: Box::new(item.observation),
                        },
                        count: 1,
                    }),
                }
            }
            (page, out)
        });
        let validated: Vec<_> = validated.collect();
        assert_eq!(validated.is_empty(), self.model.observed.is_empty());
        self.queues().settle_observed(validated).await.unwrap();
        if self.model.observed.is_empty() {
            return;
        }
        let (good, bad): (Vec<Item>, Vec<Item>) =
            self.model.observed.remove(0).into_iter().partition(|item| item.missing.is_some());
        for item in bad {
            self.model.bury(item, false);
        }
        if !good.is_empty() {
            self.model.assessed.push(good);
        }
    }

    async fn judge(&mut self) {
        let pages = self.queues().claim_assessed(1).await.unwrap();
        assert_eq!(pages.is_empty(), self.model.assessed.is_empty());
        let judge = self.queues().settle_assessed(pages, true, |step, lane, assessment| {
            let missing = assessment.facts.counts.missing;
            let node = assessment.node.as_str();
            let patches = assessment.facts.patches.clone();
            let desired = step.desired(lane, node)?;
            match &desired {
                Some(desired) if assessment.read < desired.read => {
                    return step.superseded(lane, node, patches.as_ref());
                }
                Some(desired) if desired.finding.facts.counts.missing == missing => {
                    return step.unchanged(lane, node, assessment.read, patches.as_ref());
                }
                None if missing == 0 => {
                    return step.unchanged(lane, node, assessment.read, patches.as_ref());
                }
                _ => {}
            }
            let decided = Decided {
                read: assessment.read,
                finding: finding(&assessment, step.now()),
                digest: u64::from(missing) + 1,
                coalesces: true,
            };
            step.send(lane, desired.as_ref(), decided)
        });
        judge.await.unwrap();
        if self.model.assessed.is_empty() {
            return;
        }
        let items = self.model.assessed.remove(0);
        let judged: BTreeSet<u8> = items.iter().map(|item| item.node).collect();
        for item in items {
            self.model.judge(item);
        }
        self.note_revisions(judged).await;
    }

    async fn note_revisions(&mut self, nodes: impl IntoIterator<Item = u8>) {
        for node in nodes {
            let (desired, _) = self.queues().ledger(&self.lane, &name(node)).await.unwrap();
            if let (Some(sent), Some(desired)) = (self.model.waiting.get_mut(&node), desired)
                && !sent.delayed
            {
                sent.revision = desired.revision;
            }
        }
    }

    async fn claim(&mut self, limit: usize) {
        let skip = self.in_flight.iter().map(|claimed| claimed.key.clone()).collect();
        let claim = self.queues().claim_outbox(&self.lane, None, limit, skip).await.unwrap();
        assert!(claim.undecodable.is_empty());
        for (claimed, patches) in claim.findings {
            let sent = self.model.waiting[&node_number(claimed.waiting.finding.node.as_str())];
            assert_eq!((sent.revision, sent.delayed), (claimed.waiting.revision, false));
            assert_eq!(!patches.is_empty(), sent.patched);
            self.in_flight.push(claimed);
        }
    }

    async fn settle(&mut self, claimed: ClaimedFinding, outcome: Outcome) {
        let node = node_number(claimed.waiting.finding.node.as_str());
        let revision = claimed.waiting.revision;
        let now = self.clock.now();
        let attempts = claimed.waiting.attempts + 1;
        let settlement = match outcome {
            Outcome::Acknowledged => {
                Settlement::Acknowledged { receipt: receipt(&claimed, now), claimed }
            }
            Outcome::Retry => {
                Settlement::Retry { claimed, due: UnixMillis(now.0 + 5_000), attempts }
            }
            Outcome::Rejected => Settlement::Rejected { claimed, message: "invalid".into() },
        };
        let settled = self.queues().settle_delivery(&self.lane, vec![settlement]).await.unwrap();
        let is_newest =
            self.model.waiting.get(&node).is_some_and(|it| it.revision == revision && !it.delayed);
        let expected = is_newest && matches!(outcome, Outcome::Acknowledged);
        assert_eq!(settled, [expected]);
        if !is_newest {
            return;
        }
        match outcome {
            Outcome::Acknowledged => {
                self.model.waiting.remove(&node);
                self.model.delivered += 1;
            }
            Outcome::Retry => self.model.waiting.get_mut(&node).unwrap().delayed = true,
            Outcome::Rejected => {
                let sent = self.model.waiting.remove(&node).unwrap();
                let item = Item { node, read: 0, missing: None, patched: sent.patched };
                self.model.bury(item, true);
            }
        }
    }

    fn pausable(&self, whole: bool) -> Option<Lane> {
        (!whole).then(|| self.lane.clone())
    }

    async fn redrive(&mut self, node: Option<u8>) {
        let filter = DeadFilter { node: node.map(name), ..DeadFilter::default() };
        let letters = self.queues().dead_letters(filter.clone(), 1_000).await.unwrap().len();
        let (redriven, next) = self.queues().redrive(filter, None, 7).await.unwrap();
        assert_eq!((redriven.letters, next), (letters as u64, None));
        let sent = self.model.redrive(node);
        assert_eq!(redriven.outbox_items, sent.len() as u64);
        self.note_revisions(sent).await;
    }

    async fn drop_dead(&mut self, node: Option<u8>) {
        let filter = DeadFilter { node: node.map(name), ..DeadFilter::default() };
        let letters = self.queues().dead_letters(filter, 1_000).await.unwrap();
        let dropped = self.queues().drop_dead(letters).await.unwrap();
        let taken = self.model.take_letters(node);
        let items: i64 = taken.iter().map(|(_, letter)| letter.count).sum();
        self.model.dropped += items;
        assert_eq!((dropped.letters, dropped.items), (taken.len() as u64, items.unsigned_abs()));
        assert_eq!(dropped.changed_letters, 0);
    }

    /// Time passes until all that is delayed is due.
    async fn promote(&mut self) {
        (self.tick)(10_000);
        let hour = std::time::Duration::from_secs(3_600);
        let next = self.queues().promote_due(&self.lane, hour).await.unwrap();
        assert_eq!(next, None);
        for sent in self.model.waiting.values_mut() {
            sent.delayed = false;
        }
    }

    async fn reopen(&mut self) {
        self.in_flight.clear();
        self.queues.take().expect("open between the steps").close().await.unwrap();
        self.queues = Some(open(self.state.path(), self.clock.clone()));
    }

    async fn check(&self, step: &Step) {
        let accounting = self.queues().accounting();
        let recount = self.queues().recount().await.unwrap();
        assert_eq!(accounting.imbalance(), 0, "after {step:?}: {accounting:?}");
        assert_eq!(recount.queued, accounting.queued, "after {step:?}");
        assert_eq!(recount.dead, accounting.dead, "after {step:?}");

        let model = &self.model;
        let items = |pages: &[Vec<Item>]| i64::try_from(pages.concat().len()).unwrap();
        let delayed =
            i64::try_from(model.waiting.values().filter(|it| it.delayed).count()).unwrap();
        let waiting = i64::try_from(model.waiting.len()).unwrap();
        let queued = accounting.queued;
        assert_eq!(
            [queued.observed, queued.assessed, queued.outbox, queued.delayed, queued.parked],
            [items(&model.observed), items(&model.assessed), waiting - delayed, delayed, 0],
            "after {step:?}"
        );
        let ends = |it: &patchferry::queue::Accounting| {
            [it.accepted, it.delivered, it.coalesced, it.unchanged, it.dead, it.dropped]
        };
        assert_eq!(
            ends(&accounting),
            [
                model.accepted,
                model.delivered,
                model.coalesced,
                model.unchanged,
                model.dead,
                model.dropped,
            ],
            "after {step:?}"
        );
        let state = self.queues().lane(&self.lane);
        assert_eq!(
            (state.outbox_findings(), state.delayed_findings()),
            (queued.outbox, queued.delayed)
        );
        assert_eq!(self.lists().await, model.lists(), "patch lists after {step:?}");
        let dead: i64 = self.queues().dead_counts().values().sum();
        assert_eq!(dead, accounting.dead, "what the metric shows after {step:?}");
        for (what, paused) in [
            (PauseWhat::Delivery, state.delivery_paused()),
            (PauseWhat::Ingest, state.ingest_paused()),
        ] {
            let is_paused = model.pauses.iter().any(|(it, _)| *it == what);
            assert_eq!(paused.is_some(), is_paused, "{what} after {step:?}");
        }
        self.check_newest(step).await;
    }

    /// What the ledger wants is the model's; the model's own newest is in it or before it.
    async fn check_newest(&self, step: &Step) {
        for node in 0..NODES {
            let (desired, acked) = self.queues().ledger(&self.lane, &name(node)).await.unwrap();
            let wanted = self.model.desired.get(&node);
            let facts = desired.as_ref().map(|it| (it.read.0, it.finding.facts.counts.missing));
            let expected = wanted.map(|it| (it.read, u32::from(it.missing)));
            assert_eq!(facts, expected, "node {node} after {step:?}");
            let Some(desired) = desired else { continue };
            let is_acked = acked.is_some_and(|it| it.receipt.revision == desired.revision);
            let waits = self.model.waiting.contains_key(&node);
            assert!(
                waits || is_acked || desired.rejected,
                "node {node} after {step:?}: neither on its way, nor in the hub, nor dead"
            );
        }
    }

    async fn lists(&self) -> usize {
        let count = self.queues().store().read(|reader| {
            let (prefix, mut count) = (Key::new(Table::Details), 0);
            reader.visit(&prefix, &prefix, |_, _| {
                count += 1;
                true
            })?;
            Ok(count)
        });
        count.await.unwrap()
    }

    /// Everything goes its way to the end, and nothing is left but dead letters.
    async fn drain(&mut self) {
        self.reopen().await;
        while !self.model.observed.is_empty() {
            self.validate().await;
        }
        while !self.model.assessed.is_empty() {
            self.judge().await;
        }
        self.promote().await;
        while !self.model.waiting.is_empty() {
            self.claim(2).await;
            for claimed in std::mem::take(&mut self.in_flight) {
                self.settle(claimed, Outcome::Acknowledged).await;
            }
        }
        self.check(&Step::Reopen).await;
        assert_eq!(self.queues().accounting().queued.total(), 0);
        let letters = self.queues().dead_letters(DeadFilter::default(), 1_000).await.unwrap();
        assert_eq!(letters.len(), self.model.letters.len());
        for letter in &letters {
            let record = self.queues().node_record(&self.lane, letter.node.as_str()).await.unwrap();
            let redrives = self.model.redrives.get(&node_number(letter.node.as_str()));
            let told = redrives.copied().unwrap_or(0).min(EPISODES_KEPT_MAX);
            assert_eq!(record.dead[0].history.len(), told);
        }
        assert_eq!(blobs(self.state.path()), Vec::<String>::new());
        self.queues.take().expect("open until now").close().await.unwrap();
    }
}

fn name(node: u8) -> String {
    format!("i-0000000{node}")
}

fn node_number(name: &str) -> u8 {
    name.trim_start_matches("i-").parse().expect("the number of one of our nodes")
}

fn node_of(item: Item, now: UnixMillis) -> AcceptedNode {
    let (list, patches) = if item.patched { patch_list(item.read) } else { (None, Vec::new()) };
    let observation = Observation {
        node: name(item.node).as_str().into(),
        read: ReadNumber(item.read),
        read_at: now,
        source: Source::Sweep,
        compliance: None,
        patch_state: Some(patchferry::record::observation::RawPatchState {
            missing: item.missing.map_or(-1, i32::from),
            ..Default::default()
        }),
        node_info: None,
        patches: list,
        gone: None,
    };
    AcceptedNode { observation, seen: None, patches }
}

pub(super) fn patch_list(read: u64) -> (Option<PatchList>, Vec<Vec<u8>>) {
    let patch = PatchDetail {
        state: PatchState::Missing,
        kb: format!("KB{read}").as_str().into(),
        title: "".into(),
        classification: "SecurityUpdates".into(),
        severity: "Critical".into(),
        cves: Vec::new(),
    };
    let chunks = details::chunks(&[patch]);
    let list = PatchList { read: ReadNumber(read), digest: read, kept: 1, total: 1, chunks: 1 };
    assert_eq!(chunks.len(), 1);
    (Some(list), chunks)
}

fn missing_of(observation: &Observation) -> Option<u32> {
    u32::try_from(observation.patch_state.as_ref()?.missing).ok()
}

pub(super) fn assess(observation: &Observation, accepted_at: UnixMillis) -> Assessment {
    let missing = missing_of(observation).expect("a sensible one");
    let mut facts = Facts { patches: observation.patches.clone(), ..Facts::default() };
    facts.counts.missing = missing;
    let verdict =
        if missing == 0 { Verdict::Compliant } else { Verdict::NonCompliant(severity(missing)) };
    Assessment {
        node: observation.node.as_str().parse().expect("a node id"),
        read: observation.read,
        read_at: observation.read_at,
        accepted_at,
        source: observation.source,
        verdict,
        facts,
    }
}

fn severity(missing: u32) -> Severity {
    match missing {
        0 | 1 => Severity::Low,
        2 => Severity::High,
        _ => Severity::Critical,
    }
}

pub(super) fn finding(assessment: &Assessment, now: UnixMillis) -> Finding {
    let missing = assessment.facts.counts.missing;
    Finding {
        node: assessment.node.clone(),
        id: FindingId::Node,
        change: Change::Updated,
        state: if missing == 0 { RecordState::Resolved } else { RecordState::Open },
        severity: severity(missing),
        created_at: now,
        updated_at: now,
        first_observed_at: now,
        last_observed_at: now,
        facts: assessment.facts.clone(),
        policy: RenderPolicy::default(),
        source: assessment.source,
        accepted_at: assessment.accepted_at,
    }
}

fn receipt(claimed: &ClaimedFinding, now: UnixMillis) -> Receipt {
    let finding = &claimed.waiting.finding;
    Receipt {
        revision: claimed.waiting.revision,
        change: finding.change,
        state: finding.state,
        severity: finding.severity,
        operation_end: None,
        accepted_at: finding.accepted_at,
        first_sent_at: now,
        acknowledged_at: now,
        updated_at: finding.updated_at,
        attempts: 1,
        failures: Attempts::default(),
        aws_request_id: None,
    }
}
