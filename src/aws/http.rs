//! The one HTTP client, and so the one connection pool, of all lanes.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured (with a proxy for plain
//! HTTP, `NO_PROXY` must name the instance metadata address, as for every SDK). Certificates
//! are the system's (`SSL_CERT_FILE` is honoured) and those of `AWS_CA_BUNDLE`.

use std::time::Duration;

use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        connector_metadata::ConnectorMetadata,
        http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector},
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};

/// Every client uses this connect timeout and no read timeout: the SDK keeps one pool per pair
/// of the two, and requests have attempt timeouts anyway.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Why no HTTP client could be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    #[error("can't read the certificates that AWS_CA_BUNDLE names, `{path}`")]
    Bundle { path: String, source: std::io::Error },
    #[error("can't use the certificates that AWS_CA_BUNDLE names")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Shares the pool of `inner` and skips its validation, which would build one more TLS
/// configuration for every client of every lane, to no effect.
#[derive(Debug)]
struct Pool {
    inner: SharedHttpClient,
}

impl HttpClient for Pool {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.inner.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

/// The HTTP client as the environment describes it.
pub(super) fn client() -> Result<SharedHttpClient, HttpSetupError> {
    let proxied = PROXY_VARIABLES.iter().any(|name| std::env::var_os(name).is_some());
    let proxy = if proxied { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
    client_by(proxy)
}

/// An HTTP client that uses no proxy, whatever the environment says.
pub(super) fn direct_client() -> Result<SharedHttpClient, HttpSetupError> {
    client_by(ProxyConfig::disabled())
}

fn client_by(proxy: ProxyConfig) -> Result<SharedHttpClient, HttpSetupError> {
    let tls = tls_context()?;
    let inner = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    });
    Ok(Pool { inner }.into_shared())
}

fn tls_context() -> Result<TlsContext, HttpSetupError> {
    let mut trusted = TrustStore::default();
    if let Ok(path) = std::env::var("AWS_CA_BUNDLE")
        && !path.is_empty()
    {
        let pem = std::fs::read(&path)
            .map_err(|source| HttpSetupError::Bundle { path: path.clone(), source })?;
        trusted = trusted.with_pem_certificate(pem);
    }
    TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| HttpSetupError::Certificates(error.into()))
}
