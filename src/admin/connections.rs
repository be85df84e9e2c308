//! A listener that holds a limited number of connections at a time, none of them for nothing.
//!
//! Guarantees: whoever opens connections here can't take the file descriptors that delivery
//! needs; further ones wait until one closes. A connection that is answered nothing for
//! [`QUIET_MAX`] is closed, whether it asks nothing, asks slowly, or doesn't take its answer.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

/// Prometheus, a browser or two, probes; and room.
const CONNECTIONS_MAX: usize = 64;
/// Longer than an answer takes, and shorter than Prometheus waits for one (10 s), also if it has to
/// wait until idle connections are closed.
const QUIET_MAX: Duration = Duration::from_secs(7);

pub(super) struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    quiet_max: Duration,
}

impl Limited {
    pub fn new(listener: TcpListener) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, permits, quiet_max: QUIET_MAX }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (stream, from) = Listener::accept(&mut self.listener).await;
        let quiet_max = self.quiet_max;
        let deadline = Box::pin(tokio::time::sleep(quiet_max));
        (Connection { stream, quiet_max, deadline, _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that counts until it is dropped, and ends itself when it has been quiet too long.
pub(super) struct Connection {
    stream: TcpStream,
    quiet_max: Duration,
    /// Moved with every byte that is answered: what is asked, byte by byte, doesn't count.
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        if matches!(written, Poll::Ready(Ok(1..))) {
            let deadline = Instant::now() + self.quiet_max;
            self.deadline.as_mut().reset(deadline);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_connection_too_many_waits_until_another_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut limited = Limited::new(listener);
        let (mut clients, mut accepted) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS_MAX {
            clients.push(TcpStream::connect(address).await.unwrap());
            accepted.push(limited.accept().await);
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        assert!(limited.accept().now_or_never().is_none());
        accepted.pop();
        accepted.push(limited.accept().await);
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_or_only_asks_is_closed() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut limited = Limited::new(listener);
        limited.quiet_max = Duration::from_millis(50);
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = limited.accept().await;
        let asking = tokio::spawn(async move {
            while client.write_all(b"G").await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        let mut asked = Vec::new();
        let ended = connection.read_to_end(&mut asked).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        asking.await.unwrap();
    }
}
