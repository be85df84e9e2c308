//! The HTTP server of the real binary: it only reads, and nobody can keep others from it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::{exits_with_zero, one_lane};
use crate::harness::child::{EAGER, Site};

/// More than the server holds at a time.
const IDLE_CONNECTIONS: usize = 70;
/// As long as Prometheus waits for its scrape.
const SCRAPE_TIME_MAX: Duration = Duration::from_secs(10);

/// The head of the answer to a request without a body.
fn head(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens there");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_change_something_is_not_allowed_wherever_it_is_sent() {
    let site = Site::new(one_lane(31, 5), Some(EAGER)).await;
    let daemon = site.start();
    let address = daemon.address();
    for path in ["/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/nowhere"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let head = head(&address, method, path);
            assert!(head.starts_with("http/1.1 405 "), "{method} {path}: {head}");
            assert!(
                head.contains("allow: get, head") || head.contains("allow: get,head"),
                "{head}"
            );
        }
    }
    assert!(head(&address, "HEAD", "/metrics").starts_with("http/1.1 200 "));
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_keep_prometheus_out() {
    let site = Site::new(one_lane(32, 5), Some(EAGER)).await;
    let daemon = site.start();
    let address = daemon.address();
    let mut idle: Vec<TcpStream> = (0..IDLE_CONNECTIONS)
        .map(|_| TcpStream::connect(&address).expect("the kernel takes it"))
        .collect();
    // Some have begun to ask.
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    }
    let mut scrape = TcpStream::connect(&address).unwrap();
    scrape.set_read_timeout(Some(SCRAPE_TIME_MAX)).unwrap();
    write!(scrape, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).expect("the scrape is answered in time");
    assert!(answer.contains("patchferry_build_info"), "{answer}");
    drop(idle);
    exits_with_zero(daemon);
}
