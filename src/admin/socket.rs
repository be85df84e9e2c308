//! The admin socket: one JSON request a line, one JSON response a line, over a Unix socket.
//!
//! Guarantees: the socket is 0600, and only its owner and root are answered; a request is at most
//! [`REQUEST_BYTES_MAX`] long; nobody can keep a connection open without asking.
//!
//! Deliberately doesn't know: how a request is answered ([`Handler`] does).

use std::{
    future::Future,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::{
    queue,
    record::{DeadLetter, Lane, Reason, Stage},
};

pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// A daemon that takes longer to answer is stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Linux takes no longer path for a socket (`sockaddr_un.sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Status,
    DeadLetters { filter: DeadLetterFilter, limit: usize },
}

/// Which dead letters; `None` is all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeadLetterFilter {
    pub lane: Option<Lane>,
    pub node: Option<String>,
    pub stage: Option<Stage>,
    pub reason: Option<Reason>,
}

impl From<DeadLetterFilter> for queue::DeadFilter {
    fn from(filter: DeadLetterFilter) -> Self {
        let DeadLetterFilter { lane, node, stage, reason } = filter;
        Self { lane, node, stage, reason }
    }
}

/// What comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Status(Box<Status>),
    DeadLetters(Vec<DeadLetter>),
    Failed(String),
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}

/// Where a daemon with this state directory listens.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// Binds the socket. The caller holds the store's lock, so one that is there is a dead one's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let text =
            format!("its path is over {SOCKET_PATH_BYTES_MAX} bytes: use a shorter state_dir");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until shutdown.
pub async fn serve<H: Handler>(
    listener: UnixListener,
    handler: Arc<H>,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &*handler).await {
                        tracing::debug!(%error, "an admin connection ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, handler: &impl Handler) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("uid {peer}")));
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(REQUEST_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        let length = tokio::time::timeout(REQUEST_TIME_MAX, read).await??;
        if length == 0 {
            return Ok(());
        }
        let response = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => handler.handle(request).await,
            Err(error) => Response::Failed(format!("the request makes no sense: {error}")),
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
    }
}

/// Asks the daemon that listens at `path`; `None` if none does.
pub async fn ask(path: &Path, request: &Request) -> io::Result<Option<Response>> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream);
    tokio::time::timeout(ANSWER_TIME_MAX, reader.read_until(b'\n', &mut line)).await??;
    if line.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the daemon closed the connection without an answer",
        ));
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
