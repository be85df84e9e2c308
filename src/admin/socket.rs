//! The admin socket: one JSON request a line, one JSON response a line, over a Unix socket.
//!
//! Guarantees: the socket is 0600, and only its owner and root are answered; a request is at most
//! as long as its command allows; at most [`CONNECTIONS_MAX`] are open at a time, and nobody can
//! keep one open without asking; what a request has begun is ended, also by a shutdown, which is
//! heard between requests.
//!
//! Deliberately doesn't know: what is asked, and how it is answered ([`Admin`] does).

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    command::{Caller, Command, Refusal, Request, Response},
    commands,
    handler::Admin,
};

const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Operators, and their scripts; a further one waits.
const CONNECTIONS_MAX: usize = 32;
/// Linux takes no longer path for a socket (`sockaddr_un.sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 107;

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

/// Serves until shutdown, and until what was begun has ended.
pub async fn serve(listener: UnixListener, admin: Arc<Admin>, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (admin, shutdown) = (Arc::clone(&admin), shutdown.clone());
                connections.spawn(async move {
                    if let Err(error) = converse(stream, &admin, &shutdown).await {
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
    while connections.join_next().await.is_some() {}
}

async fn converse(
    stream: UnixStream,
    admin: &Admin,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let caller = Caller { uid: peer.uid(), pid: peer.pid() };
    if caller.uid != 0 && caller.uid != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = caller.uid, "an admin connection of another user was refused");
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        // One byte more tells that there would be more.
        let mut limited = (&mut reader).take(commands::REQUEST_BYTES_MAX as u64 + 1);
        let read = tokio::time::timeout(REQUEST_TIME_MAX, limited.read_until(b'\n', &mut line));
        let length = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            read = read => read??,
        };
        if length == 0 {
            return Ok(());
        }
        let mut text = admin.answer(&line, caller).await;
        text.push(b'\n');
        let written = writer.write_all(&text);
        tokio::time::timeout(REQUEST_TIME_MAX, written).await??;
        if length > commands::REQUEST_BYTES_MAX {
            // The rest of the line would be taken for the next request.
            return Ok(());
        }
    }
}

/// Has the daemon that listens at `path` carry out a command; `None` if none does.
pub async fn ask<C: Command>(
    path: &Path,
    command: &C,
) -> io::Result<Option<Result<C::Answer, Refusal>>> {
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
    let request = Request { command: C::NAME.to_string(), arguments: command };
    let mut text = serde_json::to_vec(&request)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream);
    tokio::time::timeout(C::ANSWER_TIME_MAX, reader.read_until(b'\n', &mut line)).await??;
    if line.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the daemon closed the connection without an answer",
        ));
    }
    Ok(Some(match serde_json::from_slice(&line)? {
        Response::Done(answer) => Ok(answer),
        Response::Refused(refusal) => Err(refusal),
    }))
}
