//! The same expressions, judged by a real Prometheus (Debian package `prometheus`) that scrapes a
//! served `/metrics`. Where there is none on the PATH the test says that it was skipped.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use patchferry::admin::{
    http::{Health, HttpState, StatusSource, serve},
    status::Status,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{metrics, queries};

struct NoStatus;

impl StatusSource for NoStatus {
    fn status(&self) -> Pin<Box<dyn Future<Output = Status> + Send + '_>> {
        Box::pin(std::future::pending())
    }
    fn health(&self) -> Health {
        Health::default()
    }
}

struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    async fn start(dir: &Path, target: SocketAddr) -> Self {
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: patchferry, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        // Prometheus can't report a port that it chose itself.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// `None` while there is no answer.
    async fn query(&self, expression: &str) -> Option<Value> {
        let body = format!("query={}", encoded(expression));
        let request = format!(
            "POST /api/v1/query HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Asks until Prometheus itself says that it has scraped three times.
    async fn scraped_thrice(&self) {
        let mut again = tokio::time::interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            let answer = self.query("sum_over_time(up[1m]) >= 3").await.unwrap_or_default();
            if answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty()) {
                return;
            }
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn is_installed() -> bool {
    let version = Command::new("prometheus").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn prometheus_accepts_every_expression_and_finds_something() {
    if !is_installed() {
        eprintln!("SKIPPED: there is no `prometheus` on the PATH (Debian: apt install prometheus)");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let state =
        HttpState { metrics: metrics(), source: Arc::new(NoStatus), allowed_hosts: Vec::new() };
    let server = tokio::spawn(serve(listener, state, shutdown.clone()));

    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(dir.path(), target).await;
    let ready = tokio::time::timeout(Duration::from_secs(60), prometheus.scraped_thrice()).await;
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(ready.is_ok(), "Prometheus didn't scrape: {log}");

    for query in queries() {
        let answer = prometheus.query(&query.expression).await.unwrap();
        assert_eq!(answer["status"], "success", "{}: {answer}", query.place);
        let result = answer["data"]["result"].as_array().unwrap();
        assert!(!result.is_empty(), "{}: {}", query.place, query.expression);
    }
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
