//! Clients whose HTTP answers are canned: the SDK runs unchanged, nothing leaves the process.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{
        ProvideCredentials, Result as Provided, SharedCredentialsProvider, error::CredentialsError,
        future,
    },
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

use crate::aws::{Aws, LaneClients};
use crate::record::Lane;

/// One canned answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Http { status: u16, error_type: Option<&'static str>, body: &'static str },
    Refused,
    TimedOut,
}

impl Answer {
    pub(super) fn json(status: u16, body: &'static str) -> Self {
        Self::Http { status, error_type: None, body }
    }

    pub(super) fn error(status: u16, code: &'static str, body: &'static str) -> Self {
        Self::Http { status, error_type: Some(code), body }
    }
}

type Answerer = dyn Fn(&str, &str) -> Answer + Send + Sync;

/// Answers by operation and body, and keeps the bodies it was sent.
#[derive(Clone)]
pub(super) struct Canned {
    answer: Arc<Answerer>,
    pub(super) sent: Arc<Mutex<Vec<(String, String)>>>,
}

impl std::fmt::Debug for Canned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Canned")
    }
}

impl Canned {
    /// `answer` gets what names the operation (the target header or the path), and the body.
    pub(super) fn new(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), sent: Arc::default() }
    }

    pub(super) fn always(answer: Answer) -> Self {
        Self::new(move |_, _| answer.clone())
    }

    pub(super) fn requests(&self) -> Vec<(String, String)> {
        self.sent.lock().unwrap().clone()
    }

    /// A lane's clients that talk to this, with credentials that are never checked.
    pub(super) async fn lane(&self) -> LaneClients {
        let credentials = Credentials::new("AKIDTEST", "secret", None, None, "test");
        self.aws(SharedCredentialsProvider::new(credentials)).await.lane(&lane(), None).await
    }

    pub(super) async fn aws(&self, credentials: SharedCredentialsProvider) -> Aws {
        Aws::from_config(self.config(credentials).await)
    }

    async fn config(&self, credentials: SharedCredentialsProvider) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-2"))
            .credentials_provider(credentials)
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .load()
            .await
    }
}

pub(super) fn lane() -> Lane {
    "111122223333/us-east-2".parse().unwrap()
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let path = request.uri().to_owned();
        let name = request.headers().get("x-amz-target").map_or(path, ToOwned::to_owned);
        let body = String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap();
        let answer = (self.answer)(&name, &body);
        self.sent.lock().unwrap().push((name, body));
        HttpConnectorFuture::ready(match answer {
            Answer::Http { status, error_type, body } => {
                let status = StatusCode::try_from(status).unwrap();
                let mut response = HttpResponse::new(status, SdkBody::from(body));
                response.headers_mut().insert("x-amzn-requestid", "request-1");
                if let Some(error_type) = error_type {
                    response.headers_mut().insert("x-amzn-errortype", error_type);
                }
                Ok(response)
            }
            Answer::Refused => Err(ConnectorError::io("connection refused".into())),
            Answer::TimedOut => Err(ConnectorError::timeout("connect timed out".into())),
        })
    }
}

/// A provider that fails in a given way.
#[derive(Debug)]
pub(super) struct NoCredentials(pub(super) fn() -> CredentialsError);

impl NoCredentials {
    fn provided(&self) -> Provided {
        Err((self.0)())
    }
}

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.provided())
    }
}
