//! The server as a client meets it: what it answers, and what it refuses.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    admin::status::StoreStatus,
    metrics::{Accounting, BuildInfo},
    record::UnixMillis,
};

#[derive(Default)]
struct Fixed {
    health: Health,
    stuck: bool,
}

impl StatusSource for Fixed {
    fn status(&self) -> Pin<Box<dyn Future<Output = Status> + Send + '_>> {
        Box::pin(async {
            if self.stuck {
                std::future::pending::<()>().await;
            }
            Status {
                version: "1.2.3".into(),
                started_at_unix_ms: UnixMillis(0),
                at_unix_ms: UnixMillis(1000),
                dry_run: false,
                shard: None,
                lanes: Vec::new(),
                queues: Vec::new(),
                accounting: Accounting::default(),
                latency: None,
                dead_letters: Vec::new(),
                stubborn_findings: 0,
                ingest_paused: Vec::new(),
                pauses: Vec::new(),
                discovery: None,
                event_queues: Vec::new(),
                store: StoreStatus::default(),
            }
        })
    }

    fn health(&self) -> Health {
        self.health.clone()
    }
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(listen: &str, source: Fixed) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let state = HttpState {
            metrics: Metrics::new(BuildInfo { version: "1.2.3", revision: "abc" }),
            source: Arc::new(source),
            allowed_hosts: vec!["patch.example".into()],
        };
        let task = tokio::spawn(serve(listener, state, shutdown.clone()));
        Self { address, shutdown, task }
    }

    /// The whole answer, head and body.
    async fn ask(&self, request: &str) -> String {
        let to = SocketAddr::new([127, 0, 0, 1].into(), self.address.port());
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost")).await
    }
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn everything_is_served_with_headers_that_confine_it() {
    let server = Server::start("127.0.0.1:0", Fixed::default()).await;
    for (path, content_type, part) in [
        ("/", "text/html", "<title>patchferry</title>"),
        ("/page.js", "text/javascript", "refresh()"),
        ("/page.css", "text/css", "prefers-color-scheme: dark"),
        ("/metrics", "text/plain; version=0.0.4", "patchferry_build_info{version=\"1.2.3\""),
        ("/healthz", "application/json", "{\"status\":\"alive\",\"reasons\":[]}"),
        ("/readyz", "application/json", "{\"status\":\"ready\",\"reasons\":[]}"),
        ("/api/v1/status", "application/json", "\"accounting_imbalance\":0"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(code(&answer), "200", "{path}: {answer}");
        assert!(answer.contains(&format!("content-type: {content_type}")), "{answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        assert!(answer.contains(part), "{path}: {answer}");
    }
    assert_eq!(code(&server.get("/else").await), "404");
}

#[test]
fn the_page_names_nothing_that_is_elsewhere() {
    let page = [
        include_str!("../page/page.html"),
        include_str!("../page/page.css"),
        include_str!("../page/page.js"),
    ];
    for text in page {
        assert!(!text.contains("://") && !text.contains("innerHTML") && !text.contains("@import"));
    }
    let html = page[0];
    assert!(
        !html.contains("style=") && !html.contains("onclick"),
        "the policy forbids inline code"
    );
}

#[tokio::test]
async fn nothing_but_get_and_head_is_answered() {
    let server = Server::start("127.0.0.1:0", Fixed::default()).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = server.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: localhost")).await;
        assert_eq!(code(&answer), "405", "{method}");
        assert!(answer.contains("allow: GET, HEAD"));
    }
    let head = server.ask("HEAD /metrics HTTP/1.1\r\nHost: localhost").await;
    assert_eq!(code(&head), "200");
    assert!(!head.contains("patchferry_build_info"));
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_with_advice() {
    let server = Server::start("127.0.0.1:0", Fixed::default()).await;
    let port = server.address.port();
    for host in [
        "localhost",
        &format!("localhost:{port}"),
        &format!("127.0.0.1:{port}"),
        &format!("[::1]:{port}"),
        "Patch.Example",
        "patch.example.:8080",
    ] {
        let answer = server.ask(&format!("GET / HTTP/1.1\r\nHost: {host}")).await;
        assert_eq!(code(&answer), "200", "{host}");
    }
    for head in [
        "GET / HTTP/1.1\r\nHost: evil.example",
        "GET / HTTP/1.1\r\nHost: localhost.evil.example",
        "GET / HTTP/1.1\r\nHost: 10.1.2.3",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost",
        "GET / HTTP/1.1\r\nHost: ",
    ] {
        let answer = server.ask(head).await;
        assert_eq!(code(&answer), "421", "{head}: {answer}");
        assert!(answer.contains("http.allowed_hosts"), "{answer}");
        assert!(!answer.contains("<title>"));
    }
}

#[tokio::test]
async fn whoever_listens_everywhere_is_reached_by_any_address_but_no_foreign_name() {
    let server = Server::start("0.0.0.0:0", Fixed::default()).await;
    let by_address = server.ask("GET /metrics HTTP/1.1\r\nHost: 10.1.2.3:9464").await;
    assert_eq!(code(&by_address), "200");
    let by_name = server.ask("GET /metrics HTTP/1.1\r\nHost: evil.example").await;
    assert_eq!(code(&by_name), "421");
}

#[tokio::test]
async fn health_and_readiness_give_their_reasons() {
    let health = Health { not_alive: Vec::new(), not_ready: vec!["the store isn't open".into()] };
    let server = Server::start("127.0.0.1:0", Fixed { health, stuck: false }).await;
    assert_eq!(code(&server.get("/healthz").await), "200");
    let ready = server.get("/readyz").await;
    assert_eq!(code(&ready), "503");
    assert!(ready.ends_with("{\"status\":\"not ready\",\"reasons\":[\"the store isn't open\"]}"));

    let health = Health { not_alive: vec!["the committer hangs".into()], not_ready: Vec::new() };
    let server = Server::start("127.0.0.1:0", Fixed { health, stuck: false }).await;
    assert_eq!(code(&server.get("/healthz").await), "503");
    assert!(server.get("/readyz").await.contains("the committer hangs"));
}

#[tokio::test]
async fn a_status_that_never_comes_is_answered_all_the_same() {
    let source = Fixed { stuck: true, ..Fixed::default() };
    let response = status_within(Duration::from_millis(1), &source).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_server_ends_when_it_is_told_to() {
    let server = Server::start("127.0.0.1:0", Fixed::default()).await;
    assert_eq!(code(&server.get("/healthz").await), "200");
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
}
