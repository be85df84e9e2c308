//! Connections that a handler can cut: before the answer, amid it, or with a reset.
//!
//! A cut is a number of bytes that may still be written. What HTTP is, this file doesn't know.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

const UNCUT: usize = usize::MAX;

#[derive(Debug)]
struct Cut {
    bytes_left: AtomicUsize,
    is_reset: AtomicBool,
}

/// A handler's grip on the connection that its request came by.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<Cut>);

impl Connection {
    /// Closes the connection once `bytes` more were written.
    pub(super) fn close_after(&self, bytes: usize) {
        self.0.bytes_left.store(bytes, Ordering::Release);
    }

    /// Resets the connection once `bytes` more were written.
    pub(super) fn reset_after(&self, bytes: usize) {
        self.0.is_reset.store(true, Ordering::Release);
        self.close_after(bytes);
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        Self(stream.io().cut.clone())
    }
}

/// Accepts connections that can be cut.
pub(super) struct CuttableListener(pub TcpListener);

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CuttableStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Without it, small answers wait for delayed acknowledgements; failing is no harm.
        let _ = stream.set_nodelay(true);
        let cut = Cut { bytes_left: AtomicUsize::new(UNCUT), is_reset: AtomicBool::new(false) };
        (CuttableStream { stream, cut: Arc::new(cut) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

pub(super) struct CuttableStream {
    stream: TcpStream,
    cut: Arc<Cut>,
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes_left = self.cut.bytes_left.load(Ordering::Acquire);
        if bytes_left == 0 {
            if self.cut.is_reset.load(Ordering::Acquire) {
                self.stream.set_zero_linger()?;
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let part = &buffer[..buffer.len().min(bytes_left)];
        let written = Pin::new(&mut self.stream).poll_write(context, part);
        if let Poll::Ready(Ok(bytes)) = written
            && bytes_left != UNCUT
        {
            self.cut.bytes_left.store(bytes_left - bytes, Ordering::Release);
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
