//! The simulated AWS: two accounts with two Regions each, and fleets that go on changing.
//!
//! Guarantees: the same seed gives the same fleets and the same order of changes; each round of
//! changes worsens at least one node of every lane, so that a lane that flows has something to say.
//! Where changes make events, most of them do ([`World::tell_and_lose`]): SSM's are best effort.
//!
//! Deliberately doesn't know: the product, and when what happens.

use std::{collections::VecDeque, io, time::Duration};

use fastrand::Rng;

use crate::simulator::{
    Control, Fault, FleetConfig, Scope, Service, SeverityCounts, SimLane, SimQueue, Simulator,
    SimulatorConfig,
};

/// Example account ids of AWS's documentation. The first one runs patchferry; it enters the
/// second by a role.
pub(crate) const ACCOUNTS: [&str; 2] = ["111122223333", "444455556666"];
pub(crate) const REGIONS: [&str; 2] = ["us-east-1", "eu-central-1"];
/// Its hubs fail in the middle.
pub(crate) const OUTAGE_REGION: &str = REGIONS[1];
/// Of the first account: the events of a Region, from both accounts.
const QUEUE_NAME: &str = "patch-events";
const LANES: usize = ACCOUNTS.len() * REGIONS.len();

/// What a call to a hub takes, as from within its Region.
const HUB_LATENCY_MIN: Duration = Duration::from_millis(20);
const HUB_LATENCY_MAX: Duration = Duration::from_millis(60);
/// Share of calls that are refused while others use up a lane's quota.
const THROTTLE_RATIO: f64 = 0.5;
/// Share of a lane's nodes that each round scans again.
const RESCAN_SHARE: f64 = 0.01;
/// Each round worsens one in as many nodes.
const NODES_PER_WORSENED: usize = 250;
/// A worsened node is patched when as many others have been worsened since.
const WORSENED_KEPT: usize = 6;
/// Share of the changes that `EventBridge` tells of.
const TOLD_SHARE: f64 = 0.95;
/// In one round of as many a lane loses a node and has another one switched off.
const ROUNDS_PER_LOSS: usize = 12;

/// One lane and the state of its changes.
pub(crate) struct WorldLane {
    pub sim: SimLane,
    pub nodes: usize,
    /// Scanned nodes in the order in which they are worsened, round and round.
    targets: VecDeque<String>,
    worsened: VecDeque<String>,
    rounds: usize,
}

/// See the module.
pub(crate) struct World {
    simulator: Simulator,
    pub control: Control,
    pub lanes: Vec<WorldLane>,
    /// Lane index and node of each whose finding the hub calls invalid.
    pub poisoned: Vec<(usize, String)>,
    /// Likewise, those that were terminated or deregistered while something was open.
    pub lost: Vec<(usize, String)>,
    /// Likewise, those that were switched off and still exist.
    pub stopped: Vec<(usize, String)>,
    loses: bool,
    rng: Rng,
}

impl World {
    pub async fn start(seed: u64, nodes: usize) -> io::Result<Self> {
        let mut config = SimulatorConfig::new(seed);
        config.callers.push(ACCOUNTS[0].into());
        // AWS publishes no quota for SSM's reads, and a demo has no hour to wait for them.
        config.quotas.ssm = None;
        let places = ACCOUNTS.iter().flat_map(|account| REGIONS.map(|region| (*account, region)));
        for (index, (account, region)) in places.enumerate() {
            let share = nodes / LANES + usize::from(index < nodes % LANES);
            config = config.lane(account, region, FleetConfig::of(share));
        }
        for region in REGIONS {
            config = config.queue(ACCOUNTS[0], region, QUEUE_NAME);
        }
        let sims: Vec<(SimLane, usize)> =
            config.lanes.iter().map(|(lane, fleet)| (lane.clone(), fleet.nodes)).collect();
        let simulator = Simulator::start(config).await?;
        let control = simulator.control();
        let latency = Fault::Latency { min: HUB_LATENCY_MIN, max: HUB_LATENCY_MAX };
        control.set_fault(Scope::of(Service::SecurityHub), Some(latency));
        let mut rng = Rng::with_seed(seed);
        let lanes = sims
            .into_iter()
            .map(|(sim, nodes)| {
                let fleet = control.fleet(&sim);
                let mut targets: Vec<String> =
                    fleet.into_iter().filter(|node| node.is_scanned).map(|node| node.id).collect();
                rng.shuffle(&mut targets);
                WorldLane {
                    sim,
                    nodes,
                    targets: targets.into(),
                    worsened: VecDeque::new(),
                    rounds: 0,
                }
            })
            .collect();
        let (poisoned, lost, stopped) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { simulator, control, lanes, poisoned, lost, stopped, loses: false, rng })
    }

    /// From now on changes make events, and nodes are switched off and vanish.
    pub fn tell_and_lose(&mut self) {
        self.control.emit_changes(Some(TOLD_SHARE));
        self.loses = true;
    }

    /// The queues that events come from.
    pub fn queues(&self) -> Vec<SimQueue> {
        REGIONS.iter().flat_map(|region| self.control.queues(region)).collect()
    }

    pub fn endpoint_url(&self) -> String {
        self.simulator.endpoint_url()
    }

    pub fn is_hit_by_outage(&self, lane: usize) -> bool {
        self.lanes[lane].sim.region() == OUTAGE_REGION
    }

    /// One round of changes; in the Region of the outage `outage_rounds` rounds.
    pub fn change(&mut self, outage_rounds: usize) {
        for index in 0..self.lanes.len() {
            let rounds = if self.is_hit_by_outage(index) { outage_rounds } else { 1 };
            for _ in 0..rounds {
                self.change_lane(index);
            }
        }
    }

    fn change_lane(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        lane.rounds += 1;
        let loses = self.loses && lane.rounds.is_multiple_of(ROUNDS_PER_LOSS);
        self.control.rescan(&lane.sim, RESCAN_SHARE);
        for _ in 0..(lane.nodes / NODES_PER_WORSENED).max(1) {
            let Some(node) = lane.targets.pop_front() else { return };
            worsen(&self.control, &lane.sim, &node, &mut self.rng);
            lane.worsened.push_back(node);
            if lane.worsened.len() > WORSENED_KEPT
                && let Some(node) = lane.worsened.pop_front()
            {
                // The nodes are the fleet's own, and none is ever removed.
                let _ = self.control.make_compliant(&lane.sim, &node);
                lane.targets.push_back(node);
            }
        }
        if loses {
            self.lose(index);
        }
    }

    /// Of two nodes that are non-compliant, one is gone for good and one is switched off.
    fn lose(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if let Some(node) = lane.worsened.pop_front() {
            // The nodes are the fleet's own, and none is removed from it.
            let _ = self.control.terminate_node(&lane.sim, &node);
            let _ = self.control.forget_compliance(&lane.sim, &node);
            self.lost.push((index, node));
        }
        if let Some(node) = lane.worsened.pop_front() {
            let _ = self.control.stop_node(&lane.sim, &node);
            self.stopped.push((index, node));
        }
    }

    /// From now on the hub calls the finding of one more node, which has just got worse, invalid;
    /// `None` if all of the lane's nodes are taken.
    pub fn poison_one(&mut self, index: usize) -> Option<String> {
        let lane = &mut self.lanes[index];
        let node = lane.targets.pop_back()?;
        let of_lane = self.poisoned.iter().filter(|(its, _)| *its == index);
        let nodes: Vec<String> = of_lane.map(|(_, node)| node).chain([&node]).cloned().collect();
        self.control.poison(&lane.sim, nodes);
        worsen(&self.control, &lane.sim, &node, &mut self.rng);
        self.poisoned.push((index, node.clone()));
        Some(node)
    }

    /// All poisoned nodes get worse once more: whoever missed it has something to send.
    pub fn worsen_poisoned(&mut self) {
        for (lane, node) in &self.poisoned {
            worsen(&self.control, &self.lanes[*lane].sim, node, &mut self.rng);
        }
    }

    /// The lane whose quota is used up by others for a while: not one that the outage hits.
    pub fn throttled_lane(&self) -> usize {
        let is_flowing = |index: &usize| !self.is_hit_by_outage(*index);
        (0..self.lanes.len()).rev().find(is_flowing).unwrap_or(0)
    }

    pub fn set_throttled(&self, is_throttled: bool) {
        let fault = is_throttled.then_some(Fault::Throttle { ratio: THROTTLE_RATIO });
        self.set_hub_fault(self.throttled_lane(), fault);
    }

    pub fn set_outage(&self, is_out: bool) {
        for index in (0..self.lanes.len()).filter(|index| self.is_hit_by_outage(*index)) {
            self.set_hub_fault(index, is_out.then_some(Fault::Outage));
        }
    }

    /// In place of all faults that lie on the lane's hub.
    pub fn set_hub_fault(&self, lane: usize, fault: Option<Fault>) {
        let scope = Scope::of(Service::SecurityHub).lane(&self.lanes[lane].sim);
        self.control.set_fault(scope.clone(), None);
        if fault.is_some() {
            self.control.set_fault(scope, fault);
        }
    }

    /// The hub forgets an open finding, which no correct hub does.
    pub fn forget_finding(&self) {
        let lane = &self.lanes[0].sim;
        let is_victim = |id: &str| !self.poisoned.iter().any(|(_, node)| id.contains(node));
        let open = self.control.hub(lane).into_iter();
        let victim =
            open.filter(|finding| finding.record_state == "ACTIVE").find(|it| is_victim(&it.id));
        if let Some(victim) = victim {
            self.control.delete_finding(lane, &victim.id);
        }
    }
}

/// A new scan that is sure to say something new: levels and counts are drawn.
fn worsen(control: &Control, lane: &SimLane, node: &str, rng: &mut Rng) {
    let missing = rng.u32(1..=60);
    let mut severities = SeverityCounts::default();
    match rng.u8(0..4) {
        0 => severities.critical = 1,
        1 => severities.high = 1,
        2 => severities.medium = 1,
        _ => severities.low = 1,
    }
    // The nodes are the fleet's own, and none is ever removed.
    let _ = control.make_non_compliant(lane, node, missing, severities);
}
