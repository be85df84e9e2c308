//! The hub is compared with the ledger: whatever was done to it behind patchferry's back is found,
//! and repaired through the outbox.

mod people;
mod trouble;

use std::time::Duration;

use patchferry::{
    app::App,
    pipeline::reconcile::{Kind, ReconcileError, Report},
    record::UnixMillis,
    simulator::{
        Fault, FleetConfig, FleetNode, HubFinding, SeverityCounts, SimLane, SimulatorConfig,
    },
};

use crate::harness::{
    ACCOUNT, REGION, Rig, clock::MovableClock, finding_of, imports, lane as real_lane, metric,
    within,
};

/// Longer than any test moves the clock.
const LEASE: Duration = Duration::from_secs(400 * 86_400);
/// Longer than the hub may take to show what it was told.
const SETTLED: Duration = Duration::from_secs(16 * 60);

/// A rig whose fleet was told long ago.
pub struct Story {
    pub rig: Rig,
    pub app: App,
    pub lane: SimLane,
    pub clock: MovableClock,
}

async fn told(seed: u64) -> Story {
    let clock = MovableClock::default();
    let fleet = FleetConfig {
        nodes: 60,
        hybrid_share: 0.2,
        non_compliant_share: 0.6,
        never_scanned_share: 0.05,
    };
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet);
    let mut rig = Rig::with_clock(simulator, &clock).await.without_quota();
    // The clock is moved on purpose here: nobody was away.
    rig.config.shard.lease = LEASE;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    clock.advance(SETTLED);
    Story { rig, app, lane, clock }
}

impl Story {
    async fn try_reconcile(&self, repair: bool) -> Result<Report, ReconcileError> {
        let handle = self.app.lanes()[0].reconcile.clone();
        within(handle.reconcile(repair), "the hub to be compared").await
    }

    async fn reconcile(&self, repair: bool) -> Report {
        self.try_reconcile(repair).await.expect("a hub that can be read")
    }

    /// Nodes by what they are.
    fn nodes(&self, is: impl Fn(&FleetNode) -> bool) -> Vec<String> {
        let fleet = self.rig.control.fleet(&self.lane).into_iter();
        fleet.filter(|node| node.is_scanned && is(node)).map(|node| node.id).collect()
    }

    fn finding(&self, node: &str) -> HubFinding {
        finding_of(&self.rig.control, &self.lane, node).expect("the node has a finding")
    }

    /// Changes what the hub holds, by nobody that patchferry knows.
    fn tamper(&self, node: &str, change: impl FnOnce(&mut HubFinding)) {
        let mut finding = self.finding(node);
        change(&mut finding);
        self.rig.control.put_finding(&self.lane, finding);
    }

    fn accepted(&self) -> i64 {
        self.app.queues().accounting().accepted
    }

    async fn end(self) {
        self.rig.assert_true(&self.app).await;
        self.app.shutdown().await.unwrap();
    }
}

fn later(finding: &mut HubFinding, minutes: i64) {
    let updated_at = UnixMillis(finding.updated_at_ms + minutes * 60_000);
    finding.updated_at = updated_at.to_rfc3339();
}

fn archive(finding: &mut HubFinding) {
    finding.record_state = "ARCHIVED".into();
    finding.compliance_status = "PASSED".into();
    later(finding, 1);
}

/// What `of` is, as a finding of `node`.
fn as_of(of: &HubFinding, node: &str) -> HubFinding {
    let old = of.resource_id.rsplit('/').next().unwrap().to_string();
    let mut finding = of.clone();
    finding.id = finding.id.replace(&old, node);
    finding.resource_id = finding.resource_id.replace(&old, node);
    finding.json = finding.json.replace(&old, node);
    finding
}

fn of_a_run(of: &HubFinding) -> HubFinding {
    let node = of.resource_id.rsplit('/').next().unwrap();
    let id = format!(
        "arn:aws:patchmanager:{REGION}:{ACCOUNT}:instance/{node}/document/AWS-RunPatchBaseline/\
         run-command/d710f5bd-04e3-47b4-82f6-df4e0123abcd"
    );
    HubFinding { id, ..of.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_difference_is_found_told_and_repaired_once() {
    let story = told(141).await;
    let open = story.nodes(|node| node.is_non_compliant);
    let compliant = story.nodes(|node| !node.is_non_compliant);
    let healed = open[7].clone();
    story.rig.control.make_compliant(&story.lane, &healed).unwrap();
    story.rig.sweep_and_settle(&story.app).await;
    story.clock.advance(SETTLED);

    let control = &story.rig.control;
    assert!(control.delete_finding(&story.lane, &story.finding(&open[0]).id));
    story.tamper(&open[1], archive);
    story.tamper(&open[2], |finding| {
        let other = if finding.severity_label == "LOW" { "HIGH" } else { "LOW" };
        finding.severity_label = other.into();
    });
    story.tamper(&open[3], |finding| later(finding, 600));
    story.tamper(&open[4], |finding| later(finding, -600));
    story.tamper(&healed, |finding| {
        finding.record_state = "ACTIVE".into();
        finding.compliance_status = "FAILED".into();
        later(finding, 5);
    });
    let model = story.finding(&open[5]);
    control.put_finding(&story.lane, as_of(&model, &compliant[0]));
    control.put_finding(&story.lane, of_a_run(&story.finding(&open[6])));

    let (hub, accepted) = (control.hub(&story.lane), story.accepted());
    let found = story.reconcile(false).await;
    let counts = Kind::ALL.map(|kind| found.count(kind));
    assert_eq!(counts, [2, 2, 3, 1], "{:#?}", found.differences);
    assert_eq!((control.hub(&story.lane), story.accepted()), (hub, accepted), "only told");

    let repaired = story.reconcile(true).await;
    assert_eq!((repaired.differences.len(), repaired.repaired.done), (8, 8));
    assert_eq!(repaired.repaired.sent, 7, "a finding of an unknown node is never closed blindly");
    story.rig.sweep_and_settle(&story.app).await;
    story.rig.assert_true(&story.app).await;
    assert_eq!(story.finding(&compliant[0]).record_state, "ARCHIVED", "seen to be compliant");
    let active = control.hub(&story.lane).into_iter().filter(|it| it.record_state == "ACTIVE");
    assert_eq!(active.count(), open.len() - 1);
    for kind in ["missing", "orphaned", "drifted", "duplicate"] {
        let series = |what: &str| {
            metric(&story.app, &format!("patchferry_reconcile_{what}_total{{kind=\"{kind}\"}}"))
        };
        assert_eq!(series("differences"), 2 * series("repairs"), "found twice, repaired once");
    }

    story.clock.advance(SETTLED);
    let (hub, accepted) = (control.hub(&story.lane), story.accepted());
    let again = story.reconcile(true).await;
    assert!(again.differences.is_empty(), "{:#?}", again.differences);
    story.rig.settle(&story.app).await;
    assert_eq!((control.hub(&story.lane), story.accepted()), (hub, accepted), "repaired twice");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_or_was_told_just_now_is_left_alone() {
    let story = told(142).await;
    let open = story.nodes(|node| node.is_non_compliant);
    let severities = SeverityCounts { critical: 3, ..SeverityCounts::default() };
    story.rig.control.make_non_compliant(&story.lane, &open[0], 9, severities).unwrap();
    story.rig.sweep_and_settle(&story.app).await;
    story.rig.control.set_fault(imports(), Some(Fault::Outage));
    story.rig.control.make_non_compliant(&story.lane, &open[1], 9, severities).unwrap();
    story.rig.sweep(&story.app).await;
    story
        .rig
        .wait_for(&story.app, "it to wait", |queues, _| {
            let queued = queues.accounting().queued;
            queued.total() == 1 && queued.outbox + queued.delayed == 1
        })
        .await;
    for node in &open[..3] {
        assert!(story.rig.control.delete_finding(&story.lane, &story.finding(node).id));
    }
    let found = story.reconcile(true).await;
    let nodes: Vec<&str> = found.differences.iter().map(|it| it.finding.node.as_str()).collect();
    assert_eq!((nodes, found.moving), (vec![open[2].as_str()], 2));
    story.rig.control.clear_faults();
    story.rig.settle(&story.app).await;
    story.clock.advance(SETTLED);
    assert_eq!(story.reconcile(true).await.count(Kind::Missing), 1, "the fresh one, later");
    story.rig.sweep_and_settle(&story.app).await;
    story.end().await;
}

/// One thing that may happen to a hub.
fn tamper_somehow(story: &Story, rng: &mut fastrand::Rng, snapshots: &[HubFinding]) {
    let control = &story.rig.control;
    let hub = control.hub(&story.lane);
    let Some(mut finding) = rng.choice(&hub).cloned() else { return };
    let fleet = control.fleet(&story.lane);
    match rng.u8(0..8) {
        0 => drop(control.delete_finding(&story.lane, &finding.id)),
        1 => {
            archive(&mut finding);
            control.put_finding(&story.lane, finding);
        }
        2 => {
            finding.record_state = "ACTIVE".into();
            finding.compliance_status = "FAILED".into();
            later(&mut finding, rng.i64(-500..500));
            control.put_finding(&story.lane, finding);
        }
        3 => {
            later(&mut finding, rng.i64(-500..500));
            control.put_finding(&story.lane, finding);
        }
        4 => control.put_finding(&story.lane, of_a_run(&finding)),
        5 => {
            let scanned: Vec<_> = fleet.iter().filter(|node| node.is_scanned).collect();
            let node = &rng.choice(&scanned).unwrap().id;
            control.put_finding(&story.lane, as_of(&finding, node));
        }
        6 => {
            if let Some(old) = rng.choice(snapshots) {
                control.put_finding(&story.lane, old.clone());
            }
        }
        _ => {
            finding.severity_label = "MEDIUM".into();
            control.put_finding(&story.lane, finding);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_a_hub_it_ends_with_what_the_fleet_is() {
    let story = told(143).await;
    let mut rng = fastrand::Rng::with_seed(143);
    let mut snapshots = Vec::new();
    for round in 0..4 {
        snapshots.extend(story.rig.control.hub(&story.lane));
        story.rig.control.rescan(&story.lane, 0.2);
        if round % 2 == 0 {
            story.rig.sweep_and_settle(&story.app).await;
        }
        story.clock.advance(SETTLED);
        for _ in 0..30 {
            tamper_somehow(&story, &mut rng, &snapshots);
        }
        story.rig.sweep_and_settle(&story.app).await;
        story.clock.advance(SETTLED);
        story.reconcile(true).await;
        story.rig.sweep_and_settle(&story.app).await;
        story.clock.advance(SETTLED);
        // What was adopted, and what stood beside it, is judged by now.
        story.reconcile(true).await;
        story.rig.sweep_and_settle(&story.app).await;
        story.rig.assert_accounted(&story.app).await;
        let differences = active_differences(&story);
        assert!(differences.is_empty(), "round {round}: {differences:#?}");
    }
    story.clock.advance(SETTLED);
    let left = story.reconcile(false).await;
    assert!(left.differences.is_empty(), "{:#?}", left.differences);
    story.rig.assert_rules_kept();
    story.app.shutdown().await.unwrap();
}

/// Nodes that the hub shows as non-compliant and aren't, or the other way round, or twice.
fn active_differences(story: &Story) -> Vec<String> {
    let mut active = story.rig.control.hub(&story.lane);
    active.retain(|finding| finding.record_state == "ACTIVE");
    let mut shown: Vec<String> = active
        .iter()
        .map(|finding| finding.resource_id.rsplit('/').next().unwrap().to_string())
        .collect();
    shown.sort();
    let mut differences = Vec::new();
    for pair in shown.windows(2).filter(|pair| pair[0] == pair[1]) {
        differences.push(format!("{} is shown twice", pair[0]));
    }
    let open = story.nodes(|node| node.is_non_compliant);
    differences
        .extend(shown.iter().filter(|it| !open.contains(it)).map(|it| format!("{it} is shown")));
    differences.extend(
        open.iter().filter(|it| !shown.contains(it)).map(|it| format!("{it} is not shown")),
    );
    differences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_finding_per_run_there_is_nothing_to_compare() {
    let mut rig = Rig::one_lane(144, 10).await;
    rig.config.finding.identity = patchferry::config::Identity::Operation;
    let app = rig.start().await;
    let handle = app.lanes()[0].reconcile.clone();
    let refused = within(handle.reconcile(true), "an answer").await.unwrap_err();
    assert!(matches!(refused, ReconcileError::OnePerRun), "{refused}");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_compared_by_itself_and_when_is_remembered_over_restarts() {
    let story = told(145).await;
    let Story { mut rig, app, lane, clock } = story;
    let due = app.queues().lane_care(&real_lane(&lane)).await.unwrap().due.expect("it was drawn");
    let app = rig.restart(app).await;
    let again = app.queues().lane_care(&real_lane(&lane)).await.unwrap().due;
    assert_eq!(again, Some(due), "a restart draws no other time");
    app.shutdown().await.unwrap();

    rig.config.reconcile.interval = Duration::from_secs(1);
    let lost = rig.control.hub(&lane).into_iter().find(|it| it.record_state == "ACTIVE").unwrap();
    assert!(rig.control.delete_finding(&lane, &lost.id));
    clock.advance(SETTLED);
    let app = rig.start().await;
    rig.wait_for(&app, "it to be told again", |_, control| {
        control.hub(&lane).iter().any(|it| it.id == lost.id)
    })
    .await;
    let mut status = app.lanes()[0].reconciled.clone();
    within(status.wait_for(|status| status.last_complete_at.is_some()), "the status")
        .await
        .unwrap();
    assert!(app.status().await.lanes[0].last_reconcile_unix_ms.is_some());
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
