//! An HTTP proxy on loopback, in front of the simulator: it forwards what is sent to it in the clear,
//! and opens the TLS of what asks for a tunnel, with certificates made for the test. It keeps what
//! it was asked for.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// No request's head is larger.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What the proxy does with what it is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Forwards,
    /// Closes every connection.
    Down,
    /// Answers in the service's place, in HTML.
    Answers(u16),
}

/// Certificates made for one test.
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// `None` where there is no OpenSSL 3 to make them with.
    pub fn make() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = patchferry test\n\
                      [ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
                      [leaf]\nbasicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\n\
                      subjectAltName = DNS:*.us-east-1.amazonaws.com, DNS:*.us-east-1.api.aws, \
                      DNS:*.cn-north-1.amazonaws.com.cn\n";
        std::fs::write(directory.path().join("openssl.cnf"), config).unwrap();
        let made = Self { directory };
        let ca = ["-extensions", "ca", "-keyout", "ca.key", "-out", "ca.pem"];
        let leaf = ["-extensions", "leaf", "-keyout", "leaf.key", "-out", "leaf.pem"];
        let by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key"];
        let whole = made.openssl(&ca) && made.openssl(&[&leaf[..], &by_ca[..]].concat());
        whole.then_some(made)
    }

    fn openssl(&self, arguments: &[&str]) -> bool {
        let made = Command::new("openssl")
            .current_dir(self.directory.path())
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-config", "openssl.cnf", "-days", "2"])
            .args(arguments)
            .output();
        made.is_ok_and(|made| made.status.success())
    }

    /// What whoever goes through the proxy has to trust.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn acceptor(&self) -> TlsAcceptor {
        let at = |name: &str| self.directory.path().join(name);
        let chain = CertificateDer::pem_file_iter(at("leaf.pem")).unwrap();
        let chain: Vec<_> = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(at("leaf.key")).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A running proxy. Dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    manner: Mutex<Manner>,
    asked: Mutex<Vec<String>>,
    target: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// In front of `endpoint_url`, which speaks plain HTTP.
    pub async fn start(endpoint_url: &str, certificates: Option<&Certificates>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manner: Mutex::new(Manner::Forwards),
            asked: Mutex::default(),
            target: endpoint_url.trim_start_matches("http://").parse().unwrap(),
            tls: certificates.map(Certificates::acceptor),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // How one connection ends is its client's to see.
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Self { address, shared, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// Hosts that were asked for, each once: `CONNECT host:port` or `host`.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.shared.asked.lock().unwrap().clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let (head, rest) = read_head(&mut client).await?;
    let (first, headers) = head.split_once("\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let tunnel = method == "CONNECT";
    let (host, path) = match target.strip_prefix("http://") {
        Some(target) => target.split_once('/').unwrap_or((target, "")),
        None => (target, ""),
    };
    let asked = if tunnel { format!("CONNECT {host}") } else { host.to_string() };
    shared.asked.lock().unwrap().push(asked);
    let manner = *shared.manner.lock().unwrap();
    match manner {
        Manner::Down => Ok(()),
        Manner::Answers(status) => {
            let body = "<html><body>The proxy says no.</body></html>";
            let answer = format!(
                "HTTP/1.1 {status} Proxy\r\nContent-Type: text/html\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes()).await?;
            client.shutdown().await
        }
        Manner::Forwards if tunnel => {
            let tls = shared.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            let mut opened = tls.accept(client).await?;
            let mut server = TcpStream::connect(shared.target).await?;
            copy_bidirectional(&mut opened, &mut server).await.map(drop)
        }
        Manner::Forwards => {
            let mut server = TcpStream::connect(shared.target).await?;
            // One request a connection: the next would come in absolute form as well.
            let head = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n{headers}");
            server.write_all(head.as_bytes()).await?;
            server.write_all(&rest).await?;
            copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
    }
}

/// A request's head, its last empty line included, and what came behind it.
async fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > HEAD_BYTES_MAX || client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A file in the form of AWS's `config` that names `ca` for the default profile.
pub fn profile_with(ca: &Path, directory: &Path) -> PathBuf {
    let path = directory.join("aws-config");
    std::fs::write(&path, format!("[default]\nca_bundle = {}\n", ca.display())).unwrap();
    path
}
