//! Any interleaving of two owners of one lane, over real queues and a plain hub: owners read,
//! judge and send in any order, lose answers, and take the lane from each other with whatever is
//! in their queues. No version that the hub takes tells of an older event than the one before, and
//! once all is quiet the hub holds what is true.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use patchferry::{
    app,
    pipeline::transform::{Decision, Identity, Ledger, Policy, decide},
    queue::{AcceptedNode, Decided, HubState, Queues, Settlement, Validated},
    record::{
        Assessment, Attempts, Clock, Facts, Finding, Lane, Observation, PatchCounts, ReadNumber,
        Receipt, RenderPolicy, Severity, Source, UnixMillis, Verdict,
    },
    store::SpaceLimits,
};
use proptest::prelude::*;

const NODES: usize = 3;
const BEGIN_MS: i64 = 1_790_000_000_000;
/// Each step takes a second, so every event has a time of its own.
const STEP_MS: i64 = 1_000;

#[derive(Clone, Debug)]
enum Step {
    /// A node is scanned: so many patches are missing.
    Scan { node: usize, missing: u32 },
    /// The owner reads a node.
    Observe { node: usize },
    /// The owner judges what it has read.
    Judge,
    /// The owner sends what waits; with `is_heard` it learns what came of it.
    Send { is_heard: bool },
    /// The owner tells unchanged findings again.
    Refresh { node: usize },
    /// The other owner takes the lane.
    Handover,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..NODES, 0_u32..4).prop_map(|(node, missing)| Step::Scan { node, missing }),
        4 => (0..NODES).prop_map(|node| Step::Observe { node }),
        3 => Just(Step::Judge),
        2 => any::<bool>().prop_map(|is_heard| Step::Send { is_heard }),
        1 => (0..NODES).prop_map(|node| Step::Refresh { node }),
        1 => Just(Step::Handover),
    ];
    prop::collection::vec(step, 10..60)
}

fn name(node: usize) -> String {
    format!("i-0fe0fe0fe0fe0000{node}")
}

/// What is true, and what the hub holds.
struct World {
    now_ms: Arc<AtomicI64>,
    /// When each node was last scanned, and what was missing.
    truth: [(UnixMillis, u32); NODES],
    hub: BTreeMap<String, Finding>,
}

impl World {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.now_ms.load(Ordering::SeqCst))
    }

    /// An import, by AWS's rule: only what is newer is taken.
    fn import(&mut self, finding: &Finding) -> Result<(), TestCaseError> {
        let node = finding.node.to_string();
        if let Some(held) = self.hub.get(&node) {
            if finding.updated_at <= held.updated_at {
                return Ok(());
            }
            let (new, old) = (finding.last_observed_at, held.last_observed_at);
            prop_assert!(new >= old, "{node} went back from {old} to {new}: {finding:?}");
        }
        self.hub.insert(node, finding.clone());
        Ok(())
    }

    /// As far as `GetFindings` tells.
    fn held(&self) -> Vec<HubState> {
        let told = |finding: &Finding| Finding {
            facts: Facts::default(),
            last_observed_at: finding.updated_at,
            source: Source::Derived,
            accepted_at: UnixMillis(0),
            ..finding.clone()
        };
        self.hub.values().map(|finding| HubState { finding: told(finding) }).collect()
    }
}

struct Owner {
    queues: Queues,
    lane: Lane,
    /// What each read gave.
    reads: HashMap<ReadNumber, (UnixMillis, u32)>,
    _state: tempfile::TempDir,
}

impl Owner {
    fn new(now_ms: &Arc<AtomicI64>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let now_ms = Arc::clone(now_ms);
        let clock = Clock::custom(move || UnixMillis(now_ms.load(Ordering::SeqCst)));
        let limits = SpaceLimits { live_bytes_max: 1 << 30, free_bytes_min: 0 };
        let queues = app::open_queues(state.path(), limits, clock).unwrap();
        let lane = "111122223333/us-east-1".parse().unwrap();
        Self { queues, lane, reads: HashMap::new(), _state: state }
    }

    async fn take_over(&self, world: &World) {
        self.queues.begin_read_back(&self.lane).await.unwrap();
        let states = world.held();
        let found: HashSet<String> =
            states.iter().map(|state| state.finding.node.to_string()).collect();
        for state in states {
            self.queues.adopt(&self.lane, vec![state]).await.unwrap();
        }
        self.queues.finish_read_back(&self.lane, Some(found)).await.unwrap();
    }

    async fn observe(&mut self, node: usize, world: &World) {
        let read = self.queues.next_read(&self.lane).await.unwrap();
        self.reads.insert(read, world.truth[node]);
        let observation = Observation {
            node: name(node).as_str().into(),
            read,
            read_at: world.now(),
            source: Source::Sweep,
            compliance: None,
            patch_state: None,
            node_info: None,
            patches: None,
            gone: None,
        };
        let accepted = AcceptedNode { observation, seen: None, patches: Vec::new() };
        self.queues.accept(&self.lane, vec![accepted]).await.unwrap();
    }

    async fn judge(&self, refresh_after: Duration) {
        let pages = self.queues.claim_observed(100).await.unwrap();
        let validated = pages.into_iter().map(|page| {
            let items = page.items.as_ref().unwrap();
            let assess = |accepted: &patchferry::queue::Accepted| {
                self.assess(&accepted.observation, accepted.at)
            };
            let assessments = items.iter().map(assess).collect();
            (page, Validated { assessments, deaths: Vec::new() })
        });
        self.queues.settle_observed(validated.collect()).await.unwrap();
        let pages = self.queues.claim_assessed(100).await.unwrap();
        let policy = Policy {
            identity: Identity::Node,
            resolve: true,
            refresh_after,
            render: RenderPolicy::default(),
        };
        let settled = self.queues.settle_assessed(pages, true, move |step, lane, assessment| {
            let node = assessment.node.as_str();
            let (desired, acked) = (step.desired(lane, node)?, step.acked(lane, node)?);
            let ledger = Ledger {
                lane,
                desired: desired.as_ref(),
                acked: acked.as_ref(),
                floor_unknown: false,
            };
            match decide(ledger, &assessment, &policy, step.now()) {
                Decision::Superseded => step.superseded(lane, node, None),
                Decision::Outdated => step.outdated(lane, node, None),
                Decision::Nothing => step.unchanged(lane, node, assessment.read, None),
                Decision::Send { finding, digest, .. } => {
                    let decided = Decided {
                        finding: *finding,
                        read: assessment.read,
                        digest,
                        coalesces: true,
                    };
                    step.send(lane, desired.as_ref(), decided)
                }
            }
        });
        settled.await.unwrap();
    }

    fn assess(&self, observation: &Observation, accepted_at: UnixMillis) -> Assessment {
        let (scanned_at, missing) = self.reads[&observation.read];
        let verdict =
            if missing == 0 { Verdict::Compliant } else { Verdict::NonCompliant(Severity::High) };
        Assessment {
            node: observation.node.as_str().parse().unwrap(),
            read: observation.read,
            read_at: observation.read_at,
            accepted_at,
            source: observation.source,
            verdict,
            facts: Facts {
                operation_end: Some(scanned_at),
                counts: PatchCounts { missing, ..PatchCounts::default() },
                ..Facts::default()
            },
        }
    }

    async fn send(&self, is_heard: bool, world: &mut World) -> Result<(), TestCaseError> {
        let claim = self.queues.claim_outbox(&self.lane, None, 100, HashSet::new()).await.unwrap();
        let mut settlements = Vec::new();
        for (claimed, _) in claim.findings {
            let finding = &claimed.waiting.finding;
            world.import(finding)?;
            let receipt = Receipt {
                revision: claimed.waiting.revision,
                change: finding.change,
                state: finding.state,
                severity: finding.severity,
                operation_end: finding.facts.operation_end,
                accepted_at: finding.accepted_at,
                first_sent_at: world.now(),
                acknowledged_at: world.now(),
                updated_at: finding.updated_at,
                attempts: 1,
                failures: Attempts::default(),
                aws_request_id: None,
            };
            settlements.push(Settlement::Acknowledged { claimed, receipt });
        }
        if is_heard {
            self.queues.settle_delivery(&self.lane, settlements).await.unwrap();
        }
        Ok(())
    }

    async fn assert_accounted(&self) -> Result<(), TestCaseError> {
        let recount = self.queues.recount().await.unwrap();
        prop_assert_eq!(recount.accounting.imbalance(), 0);
        prop_assert!(recount.agrees(), "{recount:?}");
        Ok(())
    }
}

const NEVER: Duration = Duration::from_secs(86_400 * 365);

async fn story(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let now_ms = Arc::new(AtomicI64::new(BEGIN_MS));
    let mut world = World {
        now_ms: Arc::clone(&now_ms),
        truth: [(UnixMillis(BEGIN_MS - STEP_MS), 1); NODES],
        hub: BTreeMap::new(),
    };
    let mut owners = [Owner::new(&now_ms), Owner::new(&now_ms)];
    let mut at_work = 0;
    owners[at_work].take_over(&world).await;
    for step in steps {
        now_ms.fetch_add(STEP_MS, Ordering::SeqCst);
        match step {
            Step::Scan { node, missing } => world.truth[node] = (world.now(), missing),
            Step::Observe { node } => owners[at_work].observe(node, &world).await,
            Step::Judge => owners[at_work].judge(NEVER).await,
            Step::Send { is_heard } => owners[at_work].send(is_heard, &mut world).await?,
            Step::Refresh { node } => {
                owners[at_work].observe(node, &world).await;
                owners[at_work].judge(Duration::ZERO).await;
            }
            Step::Handover => {
                at_work = 1 - at_work;
                owners[at_work].take_over(&world).await;
            }
        }
    }
    // The last owner reads everything once more, as it does after a read-back.
    now_ms.fetch_add(STEP_MS, Ordering::SeqCst);
    for node in 0..NODES {
        owners[at_work].observe(node, &world).await;
    }
    owners[at_work].judge(NEVER).await;
    owners[at_work].send(true, &mut world).await?;
    for node in 0..NODES {
        let (scanned_at, missing) = world.truth[node];
        let held = world.hub.get(&name(node));
        let is_open = held.is_some_and(|finding| finding.state.is_open());
        prop_assert_eq!(is_open, missing > 0, "{} is not what it is: {:?}", name(node), held);
        if let Some(held) = held.filter(|_| is_open) {
            prop_assert_eq!(held.facts.counts.missing, missing);
            prop_assert!(held.last_observed_at <= scanned_at);
        }
    }
    for owner in owners {
        owner.assert_accounted().await?;
        owner.queues.close().await.unwrap();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn whatever_two_owners_do_in_turn_the_newest_state_wins(steps in steps()) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(story(steps))?;
    }
}
