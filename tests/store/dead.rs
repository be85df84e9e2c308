//! Dead letters on their way back: where each kind goes, what it loses to, and what is remembered.

use std::{collections::HashSet, time::Duration};

use patchferry::{
    queue::{
        AcceptedNode, CompleteLetter, DeadFilter, Death, EPISODES_KEPT_MAX, PauseWhat, Queues,
        Readmission, Readmitted, Retention, Seen, Settlement, Validated, details,
    },
    record::{
        Clock, DeadLetter, Finding, Lane, Observation, PatchDetail, ReadNumber, Reason, Source,
        Stage, UnixMillis,
        dead_letter::DeadItem,
        observation::{PatchState, RawPatchState},
    },
    store::{
        Commit,
        keys::{Key, Table},
    },
};

use super::{model, moved_clock, open};

const NODE: &str = "i-00000001";
const ROOT_UID: u32 = 0;

struct Bench {
    state: tempfile::TempDir,
    clock: Clock,
    tick: Box<dyn Fn(i64)>,
    queues: Queues,
    lane: Lane,
}

impl Bench {
    async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let (clock, tick) = moved_clock();
        let queues = open(state.path(), clock.clone());
        let lane: Lane = "111122223333/us-east-1".parse().unwrap();
        queues.finish_read_back(&lane, Some(HashSet::new())).await.unwrap();
        Self { state, clock, tick: Box::new(tick), queues, lane }
    }

    fn observation(&self, read: u64, missing: i32) -> Observation {
        Observation {
            node: NODE.into(),
            read: ReadNumber(read),
            read_at: self.clock.now(),
            source: Source::Sweep,
            compliance: None,
            patch_state: Some(RawPatchState { missing, ..RawPatchState::default() }),
            node_info: None,
            patches: None,
            gone: None,
        }
    }

    fn finding(&self, read: u64, missing: i32) -> Finding {
        let now = self.clock.now();
        model::finding(&model::assess(&self.observation(read, missing), now), now)
    }

    /// Accepts an observation, and the ledger row that makes it known.
    async fn accept(&self, observation: Observation) {
        let seen = Seen {
            fingerprint: observation.read.0,
            policy: 0,
            non_compliant: true,
            accepted_at: observation.read_at,
        };
        let node = AcceptedNode { observation, seen: Some(seen), patches: Vec::new() };
        self.queues.accept(&self.lane, vec![node]).await.unwrap();
    }

    /// Has validate bury all that was observed.
    async fn bury_observed(&self) {
        let pages = self.queues.claim_observed(100).await.unwrap();
        let validated = pages.into_iter().map(|mut page| {
            let items = std::mem::replace(&mut page.items, Ok(Vec::new())).unwrap();
            let deaths = items.into_iter().map(|item| Death {
                node: item.observation.node.clone(),
                stage: Stage::Validate,
                reason: Reason::NegativeCount,
                message: "a count is negative".into(),
                item: DeadItem::Observation {
                    accepted_at: item.at,
                    observation: Box::new(item.observation),
                },
                count: 1,
            });
            let deaths = deaths.collect();
            (page, Validated { assessments: Vec::new(), deaths })
        });
        self.queues.settle_observed(validated.collect()).await.unwrap();
    }

    /// Has everything in the assessed queue buried by transform.
    async fn bury_assessed(&self) {
        let pages = self.queues.claim_assessed(100).await.unwrap();
        let buried = self.queues.settle_assessed(pages, true, |step, lane, assessment| {
            let death = Death {
                node: assessment.node.as_str().into(),
                stage: Stage::Transform,
                reason: Reason::Panicked,
                message: "it panicked".into(),
                item: DeadItem::Assessment(Box::new(assessment)),
                count: 1,
            };
            step.bury(lane, death)
        });
        buried.await.unwrap();
    }

    /// Has the hub call everything in the outbox invalid.
    async fn reject_all(&self) {
        let claim = self.queues.claim_outbox(&self.lane, None, 100, HashSet::new()).await.unwrap();
        let settlements = claim
            .findings
            .into_iter()
            .map(|(claimed, _)| Settlement::Rejected { claimed, message: "called invalid".into() });
        self.queues.settle_delivery(&self.lane, settlements.collect()).await.unwrap();
    }

    async fn readmit(&self, item: DeadItem, patches: Vec<PatchDetail>) -> Readmitted {
        let item = Readmission { lane: self.lane.clone(), item, patches };
        self.queues.readmit(vec![item]).await.unwrap()[0]
    }

    async fn redrive(&self) -> patchferry::queue::Redriven {
        let (redriven, next) =
            self.queues.redrive(DeadFilter::default(), None, ROOT_UID).await.unwrap();
        assert_eq!(next, None);
        redriven
    }

    async fn letters(&self) -> Vec<CompleteLetter> {
        self.queues.complete_dead_page(DeadFilter::default(), None).await.unwrap().letters
    }

    async fn assert_accounted(&self) {
        let accounting = self.queues.accounting();
        assert_eq!(accounting.imbalance(), 0, "{accounting:?}");
        let recount = self.queues.recount().await.unwrap();
        assert_eq!((recount.queued, recount.dead), (accounting.queued, accounting.dead));
    }

    /// Values of a table.
    async fn rows(&self, table: Table) -> usize {
        let prefix = Key::new(table);
        let rows = self.queues.store().read(move |reader| reader.page(&prefix, &prefix, 1_000));
        rows.await.unwrap().len()
    }
}

#[tokio::test]
async fn an_observation_is_judged_again_and_the_next_sweep_looks_at_its_node_anew() {
    let bench = Bench::new().await;
    bench.accept(bench.observation(5, -1)).await;
    bench.bury_observed().await;
    assert_eq!(bench.queues.accounting().dead, 1);
    assert_eq!(bench.rows(Table::Seen).await, 1);
    let redriven = bench.redrive().await;
    assert_eq!((redriven.letters, redriven.observed_items, redriven.coalesced_items), (1, 1, 0));
    assert_eq!(bench.rows(Table::Seen).await, 0);
    let pages = bench.queues.claim_observed(10).await.unwrap();
    assert_eq!(pages[0].items.as_ref().unwrap()[0].observation, bench.observation(5, -1));
    bench.assert_accounted().await;
}

#[tokio::test]
async fn an_observation_loses_to_a_newer_one_of_a_node_that_has_no_finding() {
    let bench = Bench::new().await;
    bench.accept(bench.observation(5, -1)).await;
    bench.bury_observed().await;
    // A newer state was accepted and told the hub nothing, so that only `seen` knows of it.
    (bench.tick)(1_000);
    bench.accept(bench.observation(6, 0)).await;
    let pages = bench.queues.claim_observed(10).await.unwrap();
    let validated = pages.into_iter().map(|page| {
        let items = page.items.as_ref().unwrap();
        let assessments = items.iter().map(|it| model::assess(&it.observation, it.at)).collect();
        (page, Validated { assessments, deaths: Vec::new() })
    });
    bench.queues.settle_observed(validated.collect()).await.unwrap();
    let pages = bench.queues.claim_assessed(10).await.unwrap();
    let judged = bench.queues.settle_assessed(pages, true, |step, lane, it| {
        step.unchanged(lane, it.node.as_str(), it.read, None)
    });
    judged.await.unwrap();

    let redriven = bench.redrive().await;
    assert_eq!((redriven.observed_items, redriven.coalesced_items), (0, 1));
    assert_eq!(bench.rows(Table::Seen).await, 1);
    bench.assert_accounted().await;
}

#[tokio::test]
async fn an_assessment_goes_to_transform_and_waits_for_a_read_back_like_any_other() {
    let bench = Bench::new().await;
    let now = bench.clock.now();
    let assessment = model::assess(&bench.observation(5, 1), now);
    let item = DeadItem::Assessment(Box::new(assessment.clone()));
    assert_eq!(bench.readmit(item, Vec::new()).await, Readmitted::Assessed);
    bench.bury_assessed().await;
    bench.queues.begin_read_back(&bench.lane).await.unwrap();
    assert_eq!(bench.redrive().await.assessed_items, 1);
    let pages = bench.queues.claim_assessed(10).await.unwrap();
    let judged = bench.queues.settle_assessed(pages, true, |_, _, _| {
        panic!("nothing is judged in a lane that is being read back")
    });
    judged.await.unwrap();
    assert_eq!(bench.queues.accounting().queued.parked, 1);
    let record = bench.queues.node_record(&bench.lane, NODE).await.unwrap();
    assert!(record.parked && record.dead.is_empty());
    bench.assert_accounted().await;
}

#[tokio::test]
async fn a_finding_is_sent_as_a_newer_version_and_no_longer_marked_as_rejected() {
    let bench = Bench::new().await;
    let finding = bench.finding(5, 2);
    let item = DeadItem::Finding(Box::new(finding.clone()));
    assert_eq!(bench.readmit(item, Vec::new()).await, Readmitted::Outbox);
    bench.reject_all().await;
    let (before, _) = bench.queues.ledger(&bench.lane, NODE).await.unwrap();
    let before = before.unwrap();
    assert!(before.rejected);
    (bench.tick)(60_000);
    assert_eq!(bench.redrive().await.outbox_items, 1);
    let (after, _) = bench.queues.ledger(&bench.lane, NODE).await.unwrap();
    let after = after.unwrap();
    assert!(!after.rejected && after.revision > before.revision);
    assert_eq!(after.finding.updated_at.0, before.finding.updated_at.0 + 1);
    assert_eq!(after.finding.created_at, before.finding.created_at);
    let record = bench.queues.node_record(&bench.lane, NODE).await.unwrap();
    let waiting = record.waiting.expect("it waits for delivery");
    assert_eq!((waiting.revision, &waiting.finding), (after.revision, &after.finding));
    assert_eq!((waiting.attempts, waiting.since), (0, bench.clock.now()));
    bench.assert_accounted().await;
}

#[tokio::test]
async fn a_finding_loses_to_a_newer_version_and_to_itself() {
    let bench = Bench::new().await;
    let old = DeadItem::Finding(Box::new(bench.finding(5, 2)));
    assert_eq!(bench.readmit(old.clone(), Vec::new()).await, Readmitted::Outbox);
    assert_eq!(bench.readmit(old.clone(), Vec::new()).await, Readmitted::Coalesced, "it waits");
    bench.reject_all().await;
    (bench.tick)(60_000);
    let new = DeadItem::Finding(Box::new(bench.finding(6, 3)));
    assert_eq!(bench.readmit(new, Vec::new()).await, Readmitted::Outbox);
    let redriven = bench.redrive().await;
    assert_eq!((redriven.outbox_items, redriven.coalesced_items), (0, 1));
    assert_eq!(bench.queues.accounting().queued.outbox, 1);
    let accounting = bench.queues.accounting();
    assert_eq!((accounting.accepted, accounting.coalesced), (3, 2));
    bench.assert_accounted().await;
}

#[tokio::test]
async fn the_close_of_an_earlier_identity_is_sent_as_it_is_beside_the_nodes_finding() {
    let bench = Bench::new().await;
    let run = |command: &str| patchferry::record::FindingId::Operation {
        document: "AWS-RunPatchBaseline".into(),
        command: command.into(),
    };
    let mut current = bench.finding(6, 1);
    current.id = run("second");
    let item = DeadItem::Finding(Box::new(current));
    assert_eq!(bench.readmit(item, Vec::new()).await, Readmitted::Outbox);
    let mut close = bench.finding(5, 0);
    close.id = run("first");
    close.source = Source::Derived;
    let item = DeadItem::Finding(Box::new(close.clone()));
    assert_eq!(bench.readmit(item, Vec::new()).await, Readmitted::Outbox);
    bench.reject_all().await;
    assert_eq!(bench.letters().await.len(), 1, "the same node, stage and reason");
    let claim = |queues: Queues, lane: Lane| async move {
        queues.claim_outbox(&lane, None, 10, HashSet::new()).await.unwrap().findings
    };
    assert_eq!(bench.redrive().await.letters, 1);
    let sent = claim(bench.queues.clone(), bench.lane.clone()).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0.waiting.finding, close);
    bench.assert_accounted().await;
}

#[tokio::test]
async fn what_comes_from_outside_brings_its_patches_and_counts_as_accepted() {
    let bench = Bench::new().await;
    let (list, _) = model::patch_list(5);
    let patch = PatchDetail {
        state: PatchState::Missing,
        kb: "KB5".into(),
        title: "".into(),
        classification: "SecurityUpdates".into(),
        severity: "Critical".into(),
        cves: Vec::new(),
    };
    let mut finding = bench.finding(5, 2);
    finding.facts.patches = list;
    let item = DeadItem::Finding(Box::new(finding));
    assert_eq!(bench.readmit(item, vec![patch.clone(); 2]).await, Readmitted::Outbox);
    assert_eq!(bench.queues.accounting().accepted, 1);
    let claim = bench.queues.claim_outbox(&bench.lane, None, 1, HashSet::new()).await.unwrap();
    let (claimed, patches) = &claim.findings[0];
    assert_eq!(patches, &vec![patch.clone(); 2]);
    assert_eq!(claimed.waiting.finding.facts.patches.as_ref().unwrap().kept, 2);

    // It keeps them as a dead letter, and loses them when it is dropped.
    bench.reject_all().await;
    let letters = bench.letters().await;
    assert_eq!(letters[0].patches.len(), 2);
    let line = serde_json::to_string(&letters[0]).unwrap();
    assert_eq!(serde_json::from_str::<CompleteLetter>(&line).unwrap(), letters[0]);
    assert_eq!(bench.rows(Table::Details).await, details::chunks(&[patch]).len());
    let dead: Vec<DeadLetter> = letters.into_iter().map(|complete| complete.letter).collect();
    assert_eq!(bench.queues.drop_dead(dead).await.unwrap().letters, 1);
    assert_eq!(bench.rows(Table::Details).await, 0);

    let raw = DeadItem::Raw { kept: vec![1], total_bytes: 1 };
    assert_eq!(bench.readmit(raw, Vec::new()).await, Readmitted::Undecodable);
    assert_eq!(bench.queues.accounting().accepted, 1);
    bench.assert_accounted().await;
}

#[tokio::test]
async fn a_letter_that_another_item_has_joined_is_not_dropped_unseen() {
    let bench = Bench::new().await;
    bench.accept(bench.observation(5, -1)).await;
    bench.bury_observed().await;
    let seen = bench.queues.dead_letters(DeadFilter::default(), 10).await.unwrap();
    (bench.tick)(1_000);
    bench.accept(bench.observation(6, -2)).await;
    bench.bury_observed().await;
    let dropped = bench.queues.drop_dead(seen).await.unwrap();
    assert_eq!((dropped.letters, dropped.changed_letters), (0, 1));

    // It counts both, but holds only the newer: the older one is coalesced.
    let redriven = bench.redrive().await;
    assert_eq!((redriven.observed_items, redriven.coalesced_items), (1, 1));
    bench.assert_accounted().await;
}

#[tokio::test]
async fn damaged_letters_and_raw_ones_stay_until_they_are_dropped() {
    let bench = Bench::new().await;
    bench.accept(bench.observation(5, -1)).await;
    bench.bury_observed().await;
    // One bit of the letter's body flips on the disk.
    let prefix = Key::new(Table::Dead);
    let damage = bench.queues.store().read(move |reader| reader.page(&prefix, &prefix, 1));
    let (key, mut value) = damage.await.unwrap().remove(0);
    *value.last_mut().unwrap() ^= 1;
    let damaged = bench.queues.store().commit(Commit::durable(1), move |tx| tx.put(&key, value));
    damaged.await.unwrap();

    let redriven = bench.redrive().await;
    assert_eq!((redriven.letters, redriven.undecodable_letters), (0, 1));
    let letters = bench.queues.dead_letters(DeadFilter::default(), 10).await.unwrap();
    assert_eq!(letters[0].node.as_str(), NODE);
    assert!(letters[0].message.as_str().contains("itself is damaged"), "{:?}", letters[0]);
    assert_eq!(bench.queues.drop_dead(letters).await.unwrap().items, 1);
    let accounting = bench.queues.accounting();
    assert_eq!((accounting.dead, accounting.dropped), (0, 1));
    assert_eq!(bench.queues.dead_counts().values().sum::<i64>(), 0);
    bench.assert_accounted().await;
}

#[tokio::test]
async fn the_history_of_a_node_is_bounded_and_forgotten_with_its_receipts() {
    let bench = Bench::new().await;
    let item = DeadItem::Finding(Box::new(bench.finding(5, 2)));
    bench.readmit(item, Vec::new()).await;
    for _ in 0..EPISODES_KEPT_MAX + 3 {
        bench.reject_all().await;
        (bench.tick)(1_000);
        assert_eq!(bench.redrive().await.letters, 1);
    }
    bench.reject_all().await;
    let letters = bench.letters().await;
    let history = &letters[0].history;
    assert_eq!(history.len(), EPISODES_KEPT_MAX);
    assert!(history.is_sorted_by_key(|episode| episode.redriven_at));
    assert_eq!(history.last().unwrap().redriven_at, letters[0].letter.last_at);
    assert_eq!(history[0].message.as_str(), "called invalid");

    let retention = Retention { receipts_kept: Duration::from_secs(60) };
    (bench.tick)(61_000);
    bench.queues.forget_old(&bench.lane, retention).await.unwrap();
    assert_eq!(bench.rows(Table::DeadHistory).await, 1, "its letter is still there");
    let dead = letters.into_iter().map(|complete| complete.letter).collect();
    bench.queues.drop_dead(dead).await.unwrap();
    bench.queues.forget_old(&bench.lane, retention).await.unwrap();
    assert_eq!(bench.rows(Table::DeadHistory).await, 0);
}

#[tokio::test]
async fn pages_of_letters_lead_through_all_of_them_and_filters_choose() {
    let bench = Bench::new().await;
    let mut deaths = Vec::new();
    for number in 0..1_203 {
        let mut observation = bench.observation(number, -1);
        observation.node = format!("i-{number:08x}").as_str().into();
        deaths.push(AcceptedNode { observation, seen: None, patches: Vec::new() });
    }
    bench.queues.accept(&bench.lane, deaths).await.unwrap();
    bench.bury_observed().await;
    let (mut from, mut nodes, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = bench.queues.dead_page(DeadFilter::default(), from).await.unwrap();
        nodes.extend(page.letters.into_iter().map(|letter| letter.node));
        pages += 1;
        // As it comes back from whoever asked.
        let cursor = serde_json::to_string(&page.next).unwrap();
        from = serde_json::from_str(&cursor).unwrap();
        if from.is_none() {
            break;
        }
    }
    assert_eq!((nodes.len(), pages), (1_203, 3));
    assert!(nodes.is_sorted());

    let count =
        async |filter: DeadFilter| bench.queues.dead_letters(filter, 10_000).await.unwrap().len();
    let now = bench.clock.now();
    let of = DeadFilter::default;
    assert_eq!(count(DeadFilter { node: Some("i-00000007".into()), ..of() }).await, 1);
    let lane = Some(bench.lane.clone());
    let node = Some("i-00000008".into());
    assert_eq!(count(DeadFilter { lane: lane.clone(), node, ..of() }).await, 1);
    assert_eq!(count(DeadFilter { lane, ..of() }).await, 1_203);
    let other = Some("111122223333/us-east-2".parse().unwrap());
    assert_eq!(count(DeadFilter { lane: other, ..of() }).await, 0);
    assert_eq!(count(DeadFilter { stage: Some(Stage::Deliver), ..of() }).await, 0);
    assert_eq!(count(DeadFilter { reason: Some(Reason::NegativeCount), ..of() }).await, 1_203);
    assert_eq!(count(DeadFilter { died_before: Some(now), ..of() }).await, 0);
    assert_eq!(count(DeadFilter { died_since: Some(now), ..of() }).await, 1_203);
    let redriven = bench.queues.redrive(of(), None, ROOT_UID).await.unwrap().0;
    assert_eq!(redriven.observed_items, 500, "a page");
    bench.assert_accounted().await;
}

#[tokio::test]
async fn pauses_and_dead_letters_are_there_after_a_reopening() {
    let bench = Bench::new().await;
    bench.accept(bench.observation(5, -1)).await;
    bench.bury_observed().await;
    let letters = bench.letters().await;
    let other: Lane = "111122223333/us-east-2".parse().unwrap();
    let pause = |what, lane| bench.queues.pause(what, lane, 7, "why".into());
    assert!(pause(PauseWhat::Delivery, None).await.unwrap());
    assert!(pause(PauseWhat::Ingest, Some(other.clone())).await.unwrap());
    assert!(!pause(PauseWhat::Delivery, None).await.unwrap(), "it was paused already");

    let Bench { state, clock, tick, queues, lane } = bench;
    queues.close().await.unwrap();
    tick(60_000);
    let queues = open(state.path(), clock.clone());
    let bench = Bench { state, clock, tick, queues, lane };
    assert_eq!(bench.letters().await, letters);
    let (here, there) = (bench.queues.lane(&bench.lane), bench.queues.lane(&other));
    let paused = here.delivery_paused().expect("all lanes' delivery is paused");
    assert_eq!((paused.by_uid, paused.reason.as_str()), (7, "why"));
    assert_eq!(paused.since, UnixMillis(bench.clock.now().0 - 60_000));
    assert!(there.delivery_paused().is_some() && there.ingest_paused().is_some());
    assert!(here.ingest_paused().is_none());
    assert!(bench.queues.resume(PauseWhat::Ingest, Some(other.clone())).await.unwrap());
    there.ingest_resumed().await;
    assert!(!bench.queues.resume(PauseWhat::Delivery, Some(other)).await.unwrap());
    assert!(there.delivery_paused().is_some(), "that of all lanes is still in force");
}
