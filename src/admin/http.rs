//! The read-only HTTP server: metrics, health, status.
//!
//! Guarantees: nothing that is asked here changes anything; only GET and HEAD are answered; a
//! request for a host name that isn't ours is refused, so that a page in somebody's browser can't
//! read this by DNS rebinding; an answer takes at most [`ANSWER_TIME_MAX`]; the page loads nothing
//! from elsewhere.
//!
//! Deliberately doesn't know: TLS and passwords. Whoever wants these puts a proxy in front.

use std::{
    future::{Future, ready},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::metrics::Metrics;

/// A status that takes longer says that something is stuck.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests under way may end in this time after the shutdown began.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// Where the server's answers come from.
pub trait StatusSource: Send + Sync + 'static {
    fn status(&self) -> Pin<Box<dyn Future<Output = Status> + Send + '_>>;
    /// Must answer at once, whatever is stuck.
    fn health(&self) -> Health;
}

/// Empty lists: all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the process should be restarted: the committer missed its deadline, the store failed.
    pub not_alive: Vec<String>,
    /// Why it doesn't serve yet: store not open, lanes not known, stages not running.
    pub not_ready: Vec<String>,
}

/// What the server serves.
#[derive(Clone)]
pub struct HttpState {
    pub metrics: Arc<Metrics>,
    pub source: Arc<dyn StatusSource>,
    /// Names, lower case and without port, beside the listen address and localhost.
    pub allowed_hosts: Vec<String>,
}

/// Serves until `shutdown`, then lets requests under way end.
pub async fn serve(
    listener: tokio::net::TcpListener,
    state: HttpState,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let listen = listener.local_addr()?;
    let server = axum::serve(listener, router(state, listen))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        result = server => result,
        () = drained => Ok(()),
    }
}

fn router(state: HttpState, listen: SocketAddr) -> Router {
    let hosts = Arc::new(Hosts { listen: listen.ip(), names: state.allowed_hosts.clone() });
    let html = include_str!("page/page.html");
    let css = include_str!("page/page.css");
    let js = include_str!("page/page.js");
    Router::new()
        .route("/", get(move || ready(asset("text/html; charset=utf-8", html))))
        .route("/page.css", get(move || ready(asset("text/css; charset=utf-8", css))))
        .route("/page.js", get(move || ready(asset("text/javascript; charset=utf-8", js))))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/status", get(status))
        .fallback(not_found)
        .with_state(state)
        .layer(middleware::from_fn(move |request, next| guard(Arc::clone(&hosts), request, next)))
}

fn asset(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type)], content)
}

async fn not_found() -> Response {
    let routes = "there are /, /metrics, /healthz, /readyz and /api/v1/status\n";
    (StatusCode::NOT_FOUND, routes).into_response()
}

async fn metrics(State(state): State<HttpState>) -> Response {
    // Thousands of series and /proc: not on a thread that others wait for.
    match tokio::task::spawn_blocking(move || state.metrics.render()).await {
        Ok(text) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no metrics\n").into_response(),
    }
}

async fn status(State(state): State<HttpState>) -> Response {
    status_within(ANSWER_TIME_MAX, state.source.as_ref()).await
}

async fn status_within(limit: Duration, source: &dyn StatusSource) -> Response {
    match tokio::time::timeout(limit, source.status()).await {
        Ok(status) => {
            ([(header::CONTENT_TYPE, "application/json")], status.to_json()).into_response()
        }
        Err(_) => verdict("ok", &[format!("no status within {limit:?}")]),
    }
}

async fn healthz(State(state): State<HttpState>) -> Response {
    verdict("alive", &state.source.health().not_alive)
}

async fn readyz(State(state): State<HttpState>) -> Response {
    let health = state.source.health();
    verdict("ready", &[health.not_alive, health.not_ready].concat())
}

#[derive(Serialize)]
struct Verdict<'a> {
    status: String,
    reasons: &'a [String],
}

/// 200 without reasons, else 503 with them.
fn verdict(wanted: &str, reasons: &[String]) -> Response {
    let (code, status) = match reasons {
        [] => (StatusCode::OK, wanted.to_string()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("not {wanted}")),
    };
    (code, axum::Json(Verdict { status, reasons })).into_response()
}

/// Refuses what isn't ours to answer, and marks every answer as what it is.
async fn guard(hosts: Arc<Hosts>, request: Request, next: Next) -> Response {
    let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let advice = "read-only: GET and HEAD are answered; to change something use the \
                      command line on the machine itself\n";
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], advice).into_response()
    } else if let Err(host) = hosts.check(request.uri(), request.headers()) {
        let advice = format!(
            "this server doesn't answer for {host:?}: use its address, or add the name to \
             http.allowed_hosts\n"
        );
        (StatusCode::MISDIRECTED_REQUEST, advice).into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

const SECURITY_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The names that this server answers for.
struct Hosts {
    listen: IpAddr,
    names: Vec<String>,
}

impl Hosts {
    /// # Errors
    /// The host that was asked for and isn't ours, shortened.
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let named = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let in_uri = uri.authority().map_or(named, axum::http::uri::Authority::as_str);
        if hosts.next().is_none() && self.is_ours(named) && self.is_ours(in_uri) {
            return Ok(());
        }
        Err(named.chars().take(80).collect())
    }

    fn is_ours(&self, host_and_port: &str) -> bool {
        let host = without_port(host_and_port).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            // No name that an attacker controls is an address. Where we listen on all of them,
            // any may be ours.
            return self.listen.is_unspecified() || ip == self.listen || ip.is_loopback();
        }
        host == "localhost" || self.names.iter().any(|name| name == host)
    }
}

fn without_port(host_and_port: &str) -> &str {
    match host_and_port.rfind(']') {
        Some(end) if host_and_port.starts_with('[') => &host_and_port[..=end],
        _ => host_and_port.rsplit_once(':').map_or(host_and_port, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests;
