//! The one HTTP client, and so the one connection pool, of all lanes.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured, in capitals or not. The
//! addresses at which a machine is told its own credentials are never asked through a proxy, which
//! would answer with its own, or read ours. Certificates are the system's (`SSL_CERT_FILE` is
//! honoured) and those of `AWS_CA_BUNDLE`, or of the profile's `ca_bundle`.

use std::{path::PathBuf, time::Duration};

use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        connector_metadata::ConnectorMetadata,
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::HttpRequest,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};

/// Every client uses this connect timeout and no read timeout: the SDK keeps one pool per pair
/// of the two, and requests have attempt timeouts anyway.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// Where a machine is told its credentials: EC2's instance metadata, ECS's and EKS's agents.
const METADATA_HOSTS: [&str; 5] =
    ["169.254.169.254", "[fd00:ec2::254]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// Why no HTTP client could be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    #[error("can't read the certificates that {named_by} names, `{}`", path.display())]
    Bundle { named_by: &'static str, path: PathBuf, source: std::io::Error },
    #[error("there is no certificate in `{}`, which {named_by} names: it is to be in PEM form", path.display())]
    NoCertificate { named_by: &'static str, path: PathBuf },
    #[error("can't use the certificates that AWS_CA_BUNDLE or the profile's ca_bundle names")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The value isn't repeated: it may hold a password.
    #[error(
        "{variable} isn't the URL of an HTTP proxy: give http://HOST:PORT or https://HOST:PORT"
    )]
    Proxy { variable: &'static str },
}

/// Certificates that are trusted beside the system's.
#[derive(Clone, Debug)]
pub(super) struct CaBundle {
    pub named_by: &'static str,
    pub path: PathBuf,
}

impl CaBundle {
    /// As the environment names it.
    pub fn from_env() -> Option<Self> {
        let path = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty())?;
        Some(Self { named_by: "AWS_CA_BUNDLE", path: path.into() })
    }
}

/// Shares the pools of its clients and skips their validation, which would build one more TLS
/// configuration for every client of every lane, to no effect.
#[derive(Debug)]
struct Pool {
    usual: SharedHttpClient,
    /// For hosts that are never asked through a proxy; `None`: there is no proxy.
    direct: Option<SharedHttpClient>,
}

impl HttpClient for Pool {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let usual = self.usual.http_connector(settings, components);
        match &self.direct {
            None => usual,
            Some(direct) => {
                let direct = direct.http_connector(settings, components);
                SharedHttpConnector::new(Fork { usual, direct })
            }
        }
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.usual.connector_metadata()
    }
}

/// Asks metadata hosts directly, and everybody else the usual way.
#[derive(Debug)]
struct Fork {
    usual: SharedHttpConnector,
    direct: SharedHttpConnector,
}

impl HttpConnector for Fork {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if is_metadata(request.uri()) {
            self.direct.call(request)
        } else {
            self.usual.call(request)
        }
    }
}

fn is_metadata(uri: &str) -> bool {
    let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    METADATA_HOSTS.iter().any(|host| {
        authority.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// The HTTP client as the environment describes it.
pub(super) fn client(bundle: Option<&CaBundle>) -> Result<SharedHttpClient, HttpSetupError> {
    let tls = tls_context(bundle)?;
    let direct = client_by(ProxyConfig::disabled(), &tls);
    if !has_proxy()? {
        return Ok(Pool { usual: direct, direct: None }.into_shared());
    }
    let usual = client_by(ProxyConfig::from_env(), &tls);
    Ok(Pool { usual, direct: Some(direct) }.into_shared())
}

/// An HTTP client that uses no proxy, whatever the environment says.
pub(super) fn direct_client() -> Result<SharedHttpClient, HttpSetupError> {
    let tls = tls_context(CaBundle::from_env().as_ref())?;
    let usual = client_by(ProxyConfig::disabled(), &tls);
    Ok(Pool { usual, direct: None }.into_shared())
}

/// Whether any proxy is named. What would be passed over in silence is an error: whoever sets a
/// proxy may have no other way out, or mustn't use it.
fn has_proxy() -> Result<bool, HttpSetupError> {
    let mut found = false;
    for variable in PROXY_VARIABLES {
        let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        if !value.to_str().is_some_and(is_proxy_url) {
            return Err(HttpSetupError::Proxy { variable });
        }
        found = true;
    }
    Ok(found)
}

/// `HOST:PORT`, or a URL of HTTP.
fn is_proxy_url(text: &str) -> bool {
    let rest = match text.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some(_) => return false,
        None => text,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or_default();
    !host.is_empty()
        && !host.starts_with(':')
        && !authority.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

fn client_by(proxy: ProxyConfig, tls: &TlsContext) -> SharedHttpClient {
    let tls = tls.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    })
}

fn tls_context(bundle: Option<&CaBundle>) -> Result<TlsContext, HttpSetupError> {
    let mut trusted = TrustStore::default();
    if let Some(CaBundle { named_by, path }) = bundle {
        let pem = std::fs::read(path).map_err(|source| HttpSetupError::Bundle {
            named_by,
            path: path.clone(),
            source,
        })?;
        // Otherwise nothing would be trusted beyond the system's, and nobody told.
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(HttpSetupError::NoCertificate { named_by, path: path.clone() });
        }
        trusted = trusted.with_pem_certificate(pem);
    }
    TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| HttpSetupError::Certificates(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_metadata_is_told_from_other_hosts() {
        for uri in [
            "http://169.254.169.254/latest/api/token",
            "http://169.254.169.254:80",
            "http://[fd00:ec2::254]/latest",
            "http://169.254.170.2/v2/credentials",
            "http://169.254.170.23/v1/credentials?x",
        ] {
            assert!(is_metadata(uri), "{uri}");
        }
        for uri in [
            "https://ssm.us-east-1.amazonaws.com/",
            "http://169.254.169.254.example.com/",
            "http://169.254.169.2540/",
            "http://example.com/169.254.169.254",
            "http://example.com/?http://169.254.169.254/",
        ] {
            assert!(!is_metadata(uri), "{uri}");
        }
    }

    #[test]
    fn only_what_names_an_http_proxy_is_taken_for_one() {
        for url in
            ["http://proxy:3128", "https://user:pa%40ss@proxy.example:443/", "proxy.example:3128"]
        {
            assert!(is_proxy_url(url), "{url}");
        }
        for url in
            ["socks5://proxy:1080", "http://", "http://:3128", "http://a b:1", "http://a/b", "@"]
        {
            assert!(!is_proxy_url(url), "{url}");
        }
    }
}
