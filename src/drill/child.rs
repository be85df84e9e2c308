//! The product as a process of its own: started, heard, asked, killed.
//!
//! Guarantees: the child's environment and home are the drill's own, so that no configuration and
//! no credentials of this machine reach it; it is killed when this is dropped.
//!
//! Deliberately doesn't know: why it is killed, and what its status means.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use crate::{
    admin::status::Status,
    demo::world::{ACCOUNTS, REGIONS, World},
    simulator::{SECRET_ACCESS_KEY, access_key_id},
};

/// How often a child is asked how it is.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// An answer that takes longer isn't waited for.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Error lines that are kept of one life.
const ERRORS_MAX: usize = 20;
/// Bytes of the log of all lives that are kept.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// What all lives share: the binary, its configuration, its directory.
pub(super) struct Site {
    binary: PathBuf,
    directory: PathBuf,
    endpoint_url: String,
}

/// What has been heard of one life.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// From the start to the line that says that it runs.
    pub ready_after: Option<Duration>,
    /// What it found in its queues then.
    pub queued_at_start: u64,
    pub http_address: Option<SocketAddr>,
    /// Lines of level ERROR, and panics.
    pub errors: Vec<String>,
    /// From the start to the first version that a hub took in.
    pub delivered_after: Option<Duration>,
    /// The latest answer.
    pub status: Option<Status>,
    /// The most memory that it has had.
    pub rss_bytes_max: u64,
}

/// A running child.
pub(super) struct Life {
    child: Child,
    pub started_at: Instant,
    heard: watch::Receiver<Heard>,
    reader: Option<std::thread::JoinHandle<()>>,
    tasks: Vec<AbortHandle>,
}

#[derive(Deserialize)]
struct LogLine {
    level: String,
    message: Option<String>,
    queued: Option<u64>,
    page: Option<String>,
}

impl Site {
    /// Writes the configuration that all lives have.
    pub fn prepare(binary: &Path, directory: &Path, world: &World) -> io::Result<Self> {
        fs::write(directory.join("patchferry.toml"), configuration(directory))?;
        fs::create_dir(directory.join("home"))?;
        Ok(Self {
            binary: binary.into(),
            directory: directory.into(),
            endpoint_url: world.endpoint_url(),
        })
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory.join("daemon.log")
    }

    /// Starts the next life.
    pub fn start(&self, world: &World) -> io::Result<Life> {
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.join("home"))
            .env("AWS_ENDPOINT_URL", &self.endpoint_url)
            .env("AWS_ACCESS_KEY_ID", access_key_id(ACCOUNTS[0]))
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .env("AWS_REGION", REGIONS[0])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PATCHFERRY_CONFIG", self.directory.join("patchferry.toml"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is the drill's: it stops its child in order.
            .process_group(0);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut child = command.spawn()?;
        let started_at = Instant::now();
        let (sender, heard) = watch::channel(Heard::default());
        let reader = child.stderr.take().map(|stderr| {
            let sender = sender.clone();
            std::thread::spawn(move || listen(stderr, log, started_at, &sender))
        });
        let first = watch_first_delivery(world, started_at, sender.clone());
        let asking = tokio::spawn(ask(child.id(), sender));
        let tasks = vec![first.abort_handle(), asking.abort_handle()];
        Ok(Life { child, started_at, heard, reader, tasks })
    }
}

fn configuration(directory: &Path) -> String {
    let state_dir = directory.join("state").display().to_string();
    let regions = REGIONS.map(|region| format!("\"{region}\"")).join(", ");
    let lanes = ACCOUNTS.map(|account| {
        let role = match account {
            _ if account == ACCOUNTS[0] => String::new(),
            entered => format!("role_arn = \"arn:aws:iam::{entered}:role/patchferry\"\n"),
        };
        format!("[[lanes]]\naccount = \"{account}\"\nregions = [{regions}]\n{role}")
    });
    format!("state_dir = {state_dir:?}\n{COMMON}{}", lanes.concat())
}

/// What is the same for all: quick sweeps, nothing of the real quota taken away.
const COMMON: &str = "\
[ingest]
poll_interval = \"1s\"
ssm_requests_per_second = 100
[deliver]
probe_interval = \"1s\"
[store]
min_free_bytes = \"16MiB\"
[http]
listen = \"127.0.0.1:0\"
[log]
format = \"json\"
";

impl Life {
    /// What has been heard until now.
    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// SIGKILL; everything heard of it.
    pub async fn kill(mut self) -> io::Result<Heard> {
        self.child.kill()?;
        Ok(self.wait().await?.1)
    }

    /// SIGTERM, and SIGKILL if it takes longer than `limit`: how it ended, and what was heard.
    pub async fn terminate(mut self, limit: Duration) -> io::Result<(Option<ExitStatus>, Heard)> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                return Ok((None, self.kill().await?));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.wait().await.map(|(status, heard)| (Some(status), heard))
    }

    async fn wait(mut self) -> io::Result<(ExitStatus, Heard)> {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        let reader = self.reader.take();
        // It is as good as dead: neither waits for long.
        let status = self.child.wait()?;
        let joined = tokio::task::spawn_blocking(move || reader.map(std::thread::JoinHandle::join));
        let _ = joined.await;
        Ok((status, self.heard()))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the child's log to its end; runs on a thread of its own.
fn listen(stderr: ChildStderr, mut log: File, started_at: Instant, heard: &watch::Sender<Heard>) {
    let mut kept = log.metadata().map_or(0, |metadata| metadata.len());
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        kept += line.len() as u64 + 1;
        if kept < LOG_BYTES_MAX {
            let _ = writeln!(log, "{line}");
        }
        let parsed = serde_json::from_str::<LogLine>(&line);
        heard.send_modify(|heard| match parsed {
            Ok(line) if line.message.as_deref() == Some("running") => {
                heard.ready_after = Some(started_at.elapsed());
                heard.queued_at_start = line.queued.unwrap_or(0);
                heard.http_address = line.page.as_deref().and_then(address_of);
            }
            Ok(LogLine { level, message, .. }) if level == "ERROR" => {
                note(&mut heard.errors, message.unwrap_or(line));
            }
            Ok(_) => {}
            // What isn't of the log is a panic's.
            Err(_) => note(&mut heard.errors, line),
        });
    }
}

fn note(errors: &mut Vec<String>, line: String) {
    if errors.len() < ERRORS_MAX {
        errors.push(line);
    }
}

fn address_of(page: &str) -> Option<SocketAddr> {
    page.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
}

fn watch_first_delivery(
    world: &World,
    started_at: Instant,
    heard: watch::Sender<Heard>,
) -> JoinHandle<()> {
    let control = world.control.clone();
    let before = control.stats_total().accepted;
    tokio::spawn(async move {
        control.wait_until(|control| control.stats_total().accepted > before).await;
        heard.send_modify(|heard| heard.delivered_after = Some(started_at.elapsed()));
    })
}

/// Asks for the status, over and over, and looks at the memory.
async fn ask(pid: u32, heard: watch::Sender<Heard>) {
    loop {
        tokio::time::sleep(ASK_INTERVAL).await;
        let address = heard.borrow().http_address;
        let rss_bytes = rss_bytes_max(pid);
        let status = match address {
            Some(address) => {
                tokio::time::timeout(ASK_MAX, get_status(address)).await.ok().flatten()
            }
            None => None,
        };
        heard.send_modify(|heard| {
            heard.rss_bytes_max = heard.rss_bytes_max.max(rss_bytes);
            heard.status = status.or(heard.status.take());
        });
    }
}

async fn get_status(address: SocketAddr) -> Option<Status> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request =
        format!("GET /api/v1/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}

/// The high-water mark of a process's memory, where the system tells it.
fn rss_bytes_max(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
