//! The real binary as a child process against a simulator in this one: start it, kill it, ask it.
//!
//! A [`Site`] is what outlives the child: the simulator, the configuration, the state directory.
//! The child's environment holds nothing but what is given here. Everything blocks: a test that
//! uses this needs a runtime whose workers drive the simulator meanwhile.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use patchferry::{
    app,
    queue::Accounting,
    record::Clock,
    simulator::{Control, SECRET_ACCESS_KEY, Simulator, SimulatorConfig, access_key_id},
    store::SpaceLimits,
};
use serde_json::Value;

use super::{ACCOUNT, REGION};

/// A child that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a child is asked anew that tells no event of its own.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How often something is done while a line is waited for.
const MEANWHILE: Duration = Duration::from_millis(300);

/// A daemon that sweeps every second and that nothing but the hub's quota holds back.
pub const EAGER: &str = "\
[ingest]
poll_interval = \"1s\"
ssm_requests_per_second = 100
[deliver]
probe_interval = \"1s\"
[store]
min_free_bytes = \"1MiB\"
[http]
listen = \"127.0.0.1:0\"
[log]
format = \"json\"
";

/// A simulator, a configuration file and a place for the state.
pub struct Site {
    pub simulator: Simulator,
    pub control: Control,
    pub environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
}

impl Site {
    /// `config` is the whole configuration file; `None`: there is none.
    pub async fn new(mut simulator: SimulatorConfig, config: Option<&str>) -> Self {
        simulator.callers.push(ACCOUNT.into());
        simulator.quotas.ssm = None;
        let simulator = Simulator::start(simulator).await.expect("the simulator starts");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let control = simulator.control();
        let site = Self { simulator, control, environment: Vec::new(), directory };
        fs::create_dir(site.home()).expect("a home directory");
        if let Some(config) = config {
            site.configure(config);
        }
        site
    }

    /// Replaces the configuration file.
    pub fn configure(&self, config: &str) {
        fs::write(self.config_path(), config).expect("the configuration is written");
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.path().join("patchferry.toml")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// The binary with `arguments`, in a clean environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchferry"));
        self.prepare(&mut command);
        command.args(arguments);
        command
    }

    /// Sets `command`'s environment.
    pub fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("AWS_ENDPOINT_URL", self.simulator.endpoint_url())
            .env("AWS_ACCESS_KEY_ID", access_key_id(ACCOUNT))
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .env("AWS_REGION", REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PATCHFERRY_STATE_DIR", self.state_dir())
            .current_dir(self.path());
        if self.config_path().exists() {
            command.env("PATCHFERRY_CONFIG", self.config_path());
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let spawned = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.expect("the binary starts");
        let out = drain(child.stdout.take());
        let err = drain(child.stderr.take());
        let status = wait(&mut child, PATIENCE).unwrap_or_else(|| {
            let _ = child.kill();
            panic!("`patchferry {}` did not end within {PATIENCE:?}", arguments.join(" "))
        });
        let join = |reader: JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
        Output { status, stdout: join(out), stderr: join(err) }
    }

    /// Starts the daemon without waiting for anything.
    pub fn spawn(&self) -> Daemon {
        Daemon::spawn(self.command(&["run"]))
    }

    /// Starts the daemon and waits until it runs.
    pub fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.running();
        daemon
    }

    /// Starts the daemon with more in its environment.
    pub fn spawn_with(&self, name: &str, value: &str) -> Daemon {
        let mut command = self.command(&["run"]);
        command.env(name, value);
        Daemon::spawn(command)
    }

    /// The hub is what the fleet is, and no rule of AWS was broken.
    pub fn assert_hub_true(&self) {
        assert_eq!(self.control.differences_total(), Vec::<String>::new());
        assert_eq!(self.control.stats_total().violations(), Vec::<String>::new());
    }

    /// See [`assert_accounted`].
    pub async fn assert_accounted(&self) -> Accounting {
        assert_accounted(&self.state_dir()).await
    }

    /// Of a daemon that doesn't run: nothing is unaccounted for, by the counters and by a count
    /// of what is stored; nothing is queued; nothing was set aside, and sled made no blob.
    pub async fn assert_store_true(&self) -> Accounting {
        let accounting = self.assert_accounted().await;
        assert_eq!(accounting.queued.total(), 0, "{accounting:?}");
        accounting
    }

    /// What `status --json` says.
    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        assert!(output.status.success(), "status failed: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("status --json prints JSON")
    }
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

/// A running child. Dropping it kills it.
pub struct Daemon {
    child: Child,
    log: Arc<(Mutex<Lines>, Condvar)>,
    reader: Option<JoinHandle<()>>,
    page: Option<String>,
}

impl Daemon {
    pub fn spawn(mut command: Command) -> Self {
        let spawned =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the binary starts");
        let stderr = child.stderr.take().expect("its standard error is a pipe");
        let log = Arc::new((Mutex::new(Lines::default()), Condvar::new()));
        let shared = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().lines.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().ended = true;
            shared.1.notify_all();
        });
        Self { child, log, reader: Some(reader), page: None }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is positive")
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().lines.join("\n")
    }

    /// The first JSON line for which `holds`, now or later; `None` if the child ends without.
    pub fn wait_for_line(&self, holds: impl Fn(&Value) -> bool) -> Option<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut lines = self.log.0.lock().unwrap();
        loop {
            for line in &lines.lines[seen..] {
                if let Ok(line) = serde_json::from_str::<Value>(line)
                    && holds(&line)
                {
                    return Some(line);
                }
            }
            seen = lines.lines.len();
            if lines.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no such line within {PATIENCE:?}:\n{}",
                lines.lines.join("\n")
            );
            lines = self.log.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for a line, JSON or not, that contains `text`; `false` if the child ends without.
    pub fn wait_for_text(&self, text: &str) -> bool {
        self.wait_for_text_while(text, || ())
    }

    /// As [`Daemon::wait_for_text`], doing `meanwhile` a few times a second.
    pub fn wait_for_text_while(&self, text: &str, mut meanwhile: impl FnMut()) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let lines = self.log.0.lock().unwrap();
                let said = |lines: &Lines| lines.lines.iter().any(|line| line.contains(text));
                let (lines, _) = self
                    .log
                    .1
                    .wait_timeout_while(lines, MEANWHILE, |lines| !said(lines) && !lines.ended)
                    .unwrap();
                if said(&lines) || lines.ended {
                    return said(&lines);
                }
                let late = Instant::now() >= deadline;
                assert!(!late, "no `{text}` in time:\n{}", lines.lines.join("\n"));
            }
            meanwhile();
        }
    }

    /// Waits for the line that says that it runs, and returns it.
    pub fn running(&mut self) -> Value {
        let line = self.wait_for_line(|line| line["message"] == "running");
        let line = line.unwrap_or_else(|| panic!("it ended before it ran:\n{}", self.log()));
        self.page = line["page"].as_str().map(str::to_string);
        line
    }

    /// Where its HTTP server listens.
    pub fn address(&self) -> String {
        let page = self.page.as_deref().expect("it listens, and has said where");
        page.trim_start_matches("http://").trim_end_matches('/').to_string()
    }

    /// Asks for `path` over HTTP, as host `host` if one is given: status code and body.
    pub fn get_as(&self, path: &str, host: Option<&str>) -> (u16, String) {
        let address = self.address();
        let host = host.unwrap_or(&address);
        let mut stream = TcpStream::connect(&address).expect("it listens there");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (code, body.to_string())
    }

    pub fn get(&self, path: &str) -> String {
        let (code, body) = self.get_as(path, None);
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/api/v1/status")).expect("the status is JSON")
    }

    /// The value of one series in `/metrics`.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or_else(|| panic!("there is no {series} in\n{metrics}"))
    }

    /// Asks for the status until `holds`.
    pub fn wait_for_status(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "waited {PATIENCE:?} for {what}: {status:#}\n{}", self.log());
            // Another process tells of no event.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Asks `/healthz` until `holds` of its status code and body; `false` if the child ends first.
    pub fn wait_for_health(&mut self, what: &str, holds: impl Fn(u16, &str) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.ends_within(Duration::ZERO).is_some() {
                return false;
            }
            let (code, body) = self.get_as("/healthz", None);
            if holds(code, &body) {
                return true;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}: {code} {body}");
            // Another process tells of no event.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Waits until two more sweeps of each lane have ended (one that was under way may have
    /// passed what has changed since) and nothing is queued any more.
    pub fn settle(&self) -> Value {
        for _ in 0..2 {
            let before = last_sweeps(&self.status());
            self.wait_for_status("another complete sweep", |status| {
                last_sweeps(status).iter().zip(&before).all(|(now, before)| now > before)
            });
        }
        self.wait_for_status("everything to be settled", |status| queued(status) == 0)
    }

    /// SIGTERM, then what [`Daemon::wait`] gives.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    /// SIGKILL; what it had logged.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("it runs");
        let (status, log) = self.wait_mut();
        assert_eq!(status.signal(), Some(9), "it ended before it was killed ({status}):\n{log}");
        log
    }

    /// Waits for its end: how it ended, and what it had logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        self.wait_mut()
    }

    /// How it ended, if it ends by itself in this time.
    pub fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, time)
    }

    fn wait_mut(&mut self) -> (ExitStatus, String) {
        let Some(status) = wait(&mut self.child, PATIENCE) else {
            panic!("it did not end within {PATIENCE:?}:\n{}", self.log())
        };
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        (status, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the child's log:\n{}", self.log());
        }
    }
}

/// Opens the store in `state_dir`, which no daemon holds: the accounting balances and agrees with
/// a count of what is stored; nothing was set aside, and sled made no blob.
pub async fn assert_accounted(state_dir: &Path) -> Accounting {
    assert_eq!(leftovers(state_dir), Vec::<String>::new());
    let limits = SpaceLimits { live_bytes_max: 1 << 30, free_bytes_min: 0 };
    let path = state_dir.to_path_buf();
    let opened =
        tokio::task::spawn_blocking(move || app::open_queues(&path, limits, Clock::system()));
    let queues = opened.await.expect("no panic").expect("the store opens");
    let recount = queues.recount().await.expect("a readable store");
    let accounting = recount.accounting;
    assert_eq!(accounting.imbalance(), 0, "{accounting:?}");
    assert!(recount.agrees(), "{recount:?}");
    queues.close().await.expect("the store closes");
    assert_eq!(leftovers(state_dir), Vec::<String>::new());
    accounting
}

/// Stores that were set aside, and what sled put beside its log.
fn leftovers(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir).expect("a state directory").flatten();
    entries
        .filter(|entry| {
            let blobs = fs::read_dir(entry.path().join("blobs"));
            entry.file_name().to_string_lossy().starts_with("quarantine")
                || blobs.is_ok_and(|mut blobs| blobs.next().is_some())
        })
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// How many rounds of something: as many as `variable` says, or `default`.
pub fn rounds(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

/// Tells of what a passing test has measured, on the terminal itself.
pub fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Items in all queues, from a status.
pub fn queued(status: &Value) -> u64 {
    let queues = status["queues"].as_array().expect("a status has queues");
    queues.iter().filter_map(|queue| queue["items"].as_u64()).sum()
}

fn last_sweeps(status: &Value) -> Vec<i64> {
    let lanes = status["lanes"].as_array().expect("a status has lanes");
    lanes.iter().map(|lane| lane["last_complete_sweep_unix_ms"].as_i64().unwrap_or(0)).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tells of a test that can't be carried out here, on the terminal itself: what a passing test
/// prints is swallowed otherwise.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn drain(source: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            let _ = source.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        // The standard library has no wait with a time limit.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}
