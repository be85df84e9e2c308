//! The simulator in a process of its own: this program, started again, told what to do by lines.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use patchferry::{
    record::Lane,
    simulator::{
        Control, Fault, FleetConfig, Quotas, Scope, Service, SeverityCounts, SimEvent, SimQueue,
        Simulator, SimulatorConfig, access_key_id,
    },
};

/// The environment variable that makes this program a simulator: `lanes nodes share quota`.
pub const SERVE: &str = "PATCHFERRY_BENCH_SIMULATOR";
pub const ACCOUNT: &str = "111122223333";
/// The queue of each Region.
pub const QUEUE: &str = "events";

/// The n-th lane's Region.
pub fn region(index: usize) -> String {
    format!("us-east-{}", index + 1)
}

/// The URL of a Region's queue.
pub fn queue_url(index: usize) -> String {
    SimQueue::new(ACCOUNT, &region(index), QUEUE).url()
}

/// What the simulator has seen.
pub struct Seen {
    pub imports: f64,
    pub accepted: f64,
    pub over_quota: f64,
    /// Of all services.
    pub requests: f64,
}

/// A simulator that runs elsewhere.
pub struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub url: String,
    pub access_key_id: String,
    pub lanes: Vec<Lane>,
}

impl Peer {
    /// Starts it with `lanes` fleets of `nodes`, `share` of them non-compliant.
    pub fn start(lanes: usize, nodes: usize, share: f64, quota: bool) -> Self {
        let this = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(this)
            .env(SERVE, format!("{lanes} {nodes} {share} {quota}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulator starts");
        let orders = child.stdin.take().expect("it was piped");
        let mut answers = BufReader::new(child.stdout.take().expect("it was piped"));
        let url = read_line(&mut answers);
        let lane = |index| format!("{ACCOUNT}/{}", region(index)).parse().expect("a lane");
        Self {
            child,
            orders,
            answers,
            url,
            access_key_id: access_key_id(ACCOUNT),
            lanes: (0..lanes).map(lane).collect(),
        }
    }

    /// Gives an order and waits until it is carried out.
    pub fn tell(&mut self, order: &str) {
        let _ = self.converse(order);
    }

    pub fn ask(&mut self, order: &str) -> Seen {
        let answer = self.converse(order);
        let numbers: Vec<f64> =
            answer.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [imports, accepted, over_quota, requests] = numbers[..] else {
            panic!("`{order}` was answered `{answer}`");
        };
        Seen { imports, accepted, over_quota, requests }
    }

    fn converse(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("the simulator listens");
        read_line(&mut self.answers)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("the simulator answers");
    line.trim().to_string()
}

/// Is the simulator until its orders end.
pub fn serve(parameters: &str) {
    let fields: Vec<&str> = parameters.split_whitespace().collect();
    let [lanes, nodes, share, quota] = fields[..] else { panic!("`{parameters}`") };
    let fleet = FleetConfig {
        nodes: nodes.parse().expect("a number of nodes"),
        hybrid_share: 0.1,
        non_compliant_share: share.parse().expect("a share"),
        never_scanned_share: 0.0,
    };
    let mut config = SimulatorConfig::new(1);
    for index in 0..lanes.parse().expect("a number of lanes") {
        config = config.lane(ACCOUNT, &region(index), fleet);
        config = config.queue(ACCOUNT, &region(index), QUEUE);
    }
    config.quotas = if quota == "true" { Quotas::default() } else { Quotas::UNLIMITED };
    config.quotas.ssm = None;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let simulator = runtime.block_on(Simulator::start(config)).expect("the simulator starts");
    println!("{}", simulator.endpoint_url());
    let control = simulator.control();
    for order in std::io::stdin().lock().lines() {
        let Ok(order) = order else { break };
        println!("{}", obey(&control, &order));
    }
}

fn obey(control: &Control, order: &str) -> String {
    let hub = Scope::of(Service::SecurityHub).operation("BatchImportFindings");
    let (verb, argument) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "outage" => control.set_fault(hub, Some(Fault::Outage)),
        "heal" => control.clear_faults(),
        "latency" => {
            let time = Duration::from_millis(argument.parse().expect("milliseconds"));
            control.set_fault(hub, Some(Fault::Latency { min: time, max: time }));
        }
        "break" => {
            let lane = &control.lanes()[0];
            let index: usize = argument.parse().expect("a node's index");
            let node = &control.fleet(lane)[index].id;
            let levels = SeverityCounts { high: 1, ..SeverityCounts::default() };
            control.make_non_compliant(lane, node, 1, levels).expect("the node is there");
        }
        "tell" => {
            let lane = &control.lanes()[0];
            let index: usize = argument.parse().expect("a node's index");
            let node = control.fleet(lane)[index].id.clone();
            control.emit(lane, &node, &SimEvent::PatchCompliance);
        }
        "stats" => {
            let stats = control.stats_total();
            let requests: u64 = stats.requests.values().sum();
            let numbers = [stats.import_requests, stats.accepted, stats.over_quota, requests];
            return numbers.map(|number| number.to_string()).join(" ");
        }
        other => panic!("no such order: {other}"),
    }
    "done".into()
}
