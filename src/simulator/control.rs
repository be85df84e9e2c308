//! The handle by which tests and the demo turn the simulated world and read what is true in it.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use tokio::{sync::watch, time::Instant};

use super::{
    config::{Quotas, SimLane},
    denials::Lacking,
    evolution::{NoSuchNode, Rescan, missing_patches},
    faults::{Fault, Scope},
    fleet::{Fleet, Nonsense, SeverityCounts},
    hub::HubFinding,
    oracle::{self, FleetNode},
    queue_control::Presences,
    stats::Stats,
    world::{LaneWorld, World, lock},
};

/// A handle on a running simulator; cheap to clone. Methods that name a lane panic if the simulator
/// was started without it.
#[derive(Clone)]
pub struct Control(pub(super) Arc<World>);

/// Faults.
impl Control {
    /// Lays a fault on a scope until cleared; `None` clears the scope.
    pub fn set_fault(&self, scope: Scope, fault: Option<Fault>) {
        match fault {
            Some(fault) => lock(&self.0.faults).set(scope, fault, None),
            None => lock(&self.0.faults).clear(&scope),
        }
        self.0.note_change();
    }

    /// Lays a fault on the next `calls` calls of a scope.
    pub fn set_fault_for_calls(&self, scope: Scope, fault: Fault, calls: u32) {
        lock(&self.0.faults).set(scope, fault, Some(calls));
        self.0.note_change();
    }

    /// Heals everything but poison.
    pub fn clear_faults(&self) {
        lock(&self.0.faults).clear_all();
        self.0.note_change();
    }

    /// Findings for these nodes fail with `InvalidInput`; replaces the earlier list.
    pub fn poison<S: Into<String>>(&self, lane: &SimLane, nodes: impl IntoIterator<Item = S>) {
        let nodes: BTreeSet<String> = nodes.into_iter().map(Into::into).collect();
        lock(&self.lane(lane).poison).findings = nodes;
        self.0.note_change();
    }

    /// Calls with a finding for one of these nodes fail with `InvalidInputException`; replaces the
    /// earlier list.
    pub fn poison_call<S: Into<String>>(&self, lane: &SimLane, nodes: impl IntoIterator<Item = S>) {
        let nodes: BTreeSet<String> = nodes.into_iter().map(Into::into).collect();
        lock(&self.lane(lane).poison).calls = nodes;
        self.0.note_change();
    }

    /// Changes a lane's quotas from now on: lower ones are what a shared quota leaves.
    pub fn set_quotas(&self, lane: &SimLane, quotas: &Quotas) {
        lock(&self.lane(lane).buckets).set_quotas(quotas, Instant::now());
    }

    /// The account opts out of the lane's Region, or in again: no service there takes its
    /// credentials meanwhile.
    pub fn set_region_off(&self, lane: &SimLane, is_off: bool) {
        let mut off = lock(&self.0.regions_off);
        let _ = if is_off { off.insert(lane.clone()) } else { off.remove(lane) };
        drop(off);
        self.0.note_change();
    }

    /// An account of the organization changes its state; `None`: it leaves.
    pub fn set_account_state(&self, account: &str, state: Option<&str>) {
        let accounts = &mut lock(&self.0.organization).accounts;
        match state {
            Some(state) => accounts.insert(account.to_string(), state.to_string()),
            None => accounts.remove(account),
        };
    }

    /// Sessions handed out from now on last so long, whatever is asked for; `None`: as asked.
    pub fn set_session_seconds(&self, seconds: Option<i64>) {
        *lock(&self.0.session_seconds) = seconds;
    }

    /// All sessions that `AssumeRole` has handed out expire now.
    pub fn expire_sessions(&self) {
        self.0.sessions_valid_from_ms.store(self.0.now_ms() + 1, Ordering::Relaxed);
    }

    /// From now on an account's identities may not do something, such as `ssm:DescribeInstancePatches`.
    pub fn deny(&self, account: &str, action: &str) {
        self.deny_for_lack(account, action, Lacking::Identity);
    }

    /// The same, and AWS blames another policy than the identity's own.
    pub fn deny_for_lack(&self, account: &str, action: &str, lacking: Lacking) {
        lock(&self.0.denials).deny(account, action, lacking);
        self.0.note_change();
    }

    /// Takes all denials back.
    pub fn allow_all(&self) {
        lock(&self.0.denials).allow_all();
        self.0.note_change();
    }

    /// Whether AWS's own integration shows among the enabled products.
    pub fn set_aws_integration_enabled(&self, is_enabled: bool) {
        *lock(&self.0.aws_integration_enabled) = is_enabled;
    }
}

/// The fleet's changes.
impl Control {
    /// Scans about `fraction` of a lane's scanned nodes again.
    pub fn rescan(&self, lane: &SimLane, fraction: f64) -> Rescan {
        self.change_fleet(lane, |fleet, now_ms| fleet.rescan(fraction, now_ms))
    }

    /// A new scan finds nothing missing.
    pub fn make_compliant(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, now_ms| fleet.scan_node(node, Vec::new(), now_ms))
    }

    /// A new scan finds `missing` patches missing, of these levels; the rest are unspecified.
    pub fn make_non_compliant(
        &self,
        lane: &SimLane,
        node: &str,
        missing: u32,
        severities: SeverityCounts,
    ) -> Result<(), NoSuchNode> {
        let problems = missing_patches(missing, severities);
        self.change_fleet(lane, |fleet, now_ms| fleet.scan_node(node, problems, now_ms))
    }

    /// From a new scan on, SSM's answers about the node make no sense; `None` mends it.
    pub fn corrupt_node(
        &self,
        lane: &SimLane,
        node: &str,
        nonsense: Option<Nonsense>,
    ) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, now_ms| fleet.corrupt_node(node, nonsense, now_ms))
    }

    /// The node is off: `DescribeInstanceInformation` leaves an EC2 node out and has lost a hybrid one;
    /// its compliance data remain.
    pub fn stop_node(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| fleet.stop_node(node))
    }

    /// The node is on again.
    pub fn start_node(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| fleet.start_node(node))
    }

    /// The node never comes back: an EC2 node is terminated (and for a while still told of as such), a
    /// hybrid one deregistered. Its compliance data remain until they are forgotten.
    pub fn terminate_node(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| fleet.terminate_node(node))
    }

    /// SSM tells nothing more of the node's last scan, until it is scanned again.
    pub fn forget_compliance(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| fleet.forget_compliance(node))
    }

    /// SSM tells of the node's last scan again.
    pub fn remember_compliance(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| fleet.remember_compliance(node))
    }

    /// The node is no more, nor are its compliance data.
    pub fn remove_node(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| fleet.remove_node(node))
    }

    pub(super) fn change_fleet<T>(
        &self,
        lane: &SimLane,
        change: impl FnOnce(&mut Fleet, i64) -> T,
    ) -> T {
        let now_ms = self.0.now_ms();
        let (before, changed) = {
            let mut fleet = lock(&self.lane(lane).fleet);
            let before = Presences::noted(&self.0, &fleet);
            (before, change(&mut fleet, now_ms))
        };
        self.tell_changes(lane, &before);
        self.0.note_change();
        changed
    }
}

/// What people and time do to the hub.
impl Control {
    /// A person sets `Workflow.Status` of the findings with this Id; false if there is none.
    pub fn set_workflow(&self, lane: &SimLane, finding_id: &str, status: &str) -> bool {
        let mut hub = lock(&self.lane(lane).hub);
        let set = |finding: &mut HubFinding| finding.workflow_status = status.to_string();
        hub.with_id(finding_id).map(set).count() > 0
    }

    /// The findings with this Id have aged out; false if there is none.
    pub fn delete_finding(&self, lane: &SimLane, finding_id: &str) -> bool {
        let findings = &mut lock(&self.lane(lane).hub).findings;
        let before = findings.len();
        findings.retain(|(id, _), _| id != finding_id);
        findings.len() < before
    }

    /// The hub holds exactly this, whatever it held under that Id and product: what another
    /// provider's import, or a mishap, has left. Its JSON is made to say what its fields do.
    pub fn put_finding(&self, lane: &SimLane, finding: HubFinding) {
        lock(&self.lane(lane).hub).put(finding);
        self.0.note_change();
    }

    /// Takes findings of this product too, beside those of the lane's default one.
    pub fn enable_product(&self, lane: &SimLane, product_arn: &str) {
        lock(&self.lane(lane).products).insert(product_arn.to_string());
    }

    /// The hub was switched off and on again: it holds nothing.
    pub fn empty_hub(&self, lane: &SimLane) {
        lock(&self.lane(lane).hub).findings.clear();
        self.0.note_change();
    }
}

/// The truth.
impl Control {
    pub fn lanes(&self) -> Vec<SimLane> {
        self.0.lanes.keys().cloned().collect()
    }

    /// The nodes of a lane, by id.
    pub fn fleet(&self, lane: &SimLane) -> Vec<FleetNode> {
        lock(&self.lane(lane).fleet).nodes.values().map(FleetNode::of).collect()
    }

    /// The findings of a lane's hub, by Id and product.
    pub fn hub(&self, lane: &SimLane) -> Vec<HubFinding> {
        lock(&self.lane(lane).hub).findings.values().cloned().collect()
    }

    /// Where a lane's hub doesn't hold what its fleet is, a sentence each; empty if all is well.
    /// For findings with one identity per node.
    pub fn differences(&self, lane: &SimLane) -> Vec<String> {
        let lane = self.lane(lane);
        let (fleet, hub, poison) = (lock(&lane.fleet), lock(&lane.hub), lock(&lane.poison));
        oracle::differences(&fleet, &hub, &poison)
    }

    /// Differences of all lanes.
    pub fn differences_total(&self) -> Vec<String> {
        let of_lane = |lane: &SimLane| {
            self.differences(lane).into_iter().map(|text| format!("{lane} {text}")).collect()
        };
        self.0.lanes.keys().flat_map(|lane| -> Vec<String> { of_lane(lane) }).collect()
    }

    pub fn stats(&self, lane: &SimLane) -> Stats {
        lock(&self.lane(lane).stats).clone()
    }

    /// All lanes' counts, and those of calls that belong to no lane.
    pub fn stats_total(&self) -> Stats {
        let mut total = lock(&self.0.stray).clone();
        for lane in self.0.lanes.values() {
            total.add(&lock(&lane.stats));
        }
        total
    }

    /// The most requests to STS that were under way at a time.
    pub fn most_sts_requests_at_once(&self) -> u64 {
        lock(&self.0.sts_requests).1
    }

    /// Imports that have arrived and aren't answered yet, in all lanes.
    pub fn imports_in_flight(&self) -> u64 {
        let lanes = self.0.lanes.values();
        lanes.map(|lane| lane.imports_in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Starts `import_requests_since_mark` anew, in all lanes.
    pub fn mark(&self) {
        for lane in self.0.lanes.values() {
            lock(&lane.stats).import_requests_since_mark = 0;
        }
    }

    /// Fires when a request has arrived, when it was handled, and when this handle changed something.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Waits until something holds; looks again whenever [`Self::changed`] fires.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.changed();
        loop {
            changes.borrow_and_update();
            if holds(self) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn lane(&self, lane: &SimLane) -> &LaneWorld {
        self.0.lanes.get(lane).expect("the simulator was started with the lane that is asked for")
    }
}
