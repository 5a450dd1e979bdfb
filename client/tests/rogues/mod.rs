//! Servers with a certificate that the client trusts, and without the secret. They write down every byte that reaches them inside TLS.

pub mod h1;
pub mod h2;
pub mod interceptor;

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ekm_otp::field::AuthenticationInfo;
use ekm_otp::{Derivation, Ekm, KeyId, Secret, ServerName, TlsPolicy};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What stands in all that is to stay with the client.
pub const MARKER: &str = "not-for-rogues";

/// What a rogue does, and in which order.
#[derive(Clone)]
pub enum Step {
    /// Reads until a whole probe has come.
    Probe,
    /// Says this.
    Say(Vec<u8>),
    /// Says this again and again, with so much time between, until the other side has gone.
    Again(Vec<u8>, Duration),
    /// Says the password that it was shown as if it were its proof (HTTP/1.1).
    Reflect,
    /// Closes the connection, as TLS has it.
    Close,
    /// Closes it without a word.
    Drop,
}

/// One way to behave. Where its steps end, it reads on until the other side has gone.
#[derive(Clone)]
pub struct Trick {
    pub name: &'static str,
    pub steps: Vec<Step>,
    /// What it agrees to speak.
    pub alpn: Option<&'static str>,
}

impl Trick {
    pub fn is_h2(&self) -> bool {
        self.alpn == Some("h2")
    }
}

pub fn every_trick() -> Vec<Trick> {
    h1::tricks().into_iter().chain(h2::tricks()).collect()
}

/// A proof of this form, and of no connection at all.
pub const FORGED: &str = "proof=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"";

/// The right proof, of another connection of the same client to the real server.
pub fn proof_of_another_connection() -> String {
    let (ekm, kid) = (Ekm::from_bytes([7; 48]), KeyId::new("client1").expect("a key id"));
    let derivation = Derivation::new(&ekm, &kid, &ServerName::from_host("localhost").expect("a name"));
    let tag = secret().mac(derivation.mac_input());
    AuthenticationInfo::write(&derivation.finish(tag).server_proof()).to_string()
}

pub fn secret() -> Secret {
    Secret::new(b"test data, used nowhere else ...".to_vec()).expect("a secret")
}

/// A certificate for localhost, and the TLS of a server that has it and of a client that trusts it.
pub fn tls() -> (rcgen::CertifiedKey<rcgen::KeyPair>, ServerConfig, ClientConfig) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a private key");
    let provider = || TlsPolicy::default().provider(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("certificate and key");
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (certified, server, client)
}

/// A certificate for localhost, who trusts it, and a client's secret in a file.
pub struct Trust {
    folder: tempfile::TempDir,
    server: ServerConfig,
    pub client: ClientConfig,
}

impl Trust {
    pub fn new() -> Self {
        let (certified, server, client) = tls();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), certified.cert.pem()).expect("writing");
        crate::common::write_private(&folder.path().join("secret"), &secret().encode_base64());
        Self { folder, server, client }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// TLS on this connection.
    async fn accept(&self, tcp: TcpStream, alpn: Option<&str>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut server = self.server.clone();
        server.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // It hopes for early data: what comes with the first flight of a resumed session.
        server.max_early_data_size = 16 * 1024;
        TlsAcceptor::from(Arc::new(server)).accept(tcp).await
    }
}

/// What one connection brought, after TLS.
type Received = Arc<Mutex<Vec<u8>>>;

/// All connections, each with what is given away when it ends.
type Connections = Arc<Mutex<Vec<(Received, Arc<()>)>>>;

/// A rogue that plays one trick on each connection.
pub struct Rogue {
    pub port: u16,
    pub trick: Trick,
    connections: Connections,
}

impl Rogue {
    /// Starts one for each trick, all in a thread of their own.
    pub fn start(tricks: Vec<Trick>, trust: &Arc<Trust>) -> Vec<Self> {
        let (mut rogues, mut listeners) = (Vec::new(), Vec::new());
        for trick in tricks {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            let rogue = Self { port: listener.local_addr().expect("an address").port(), trick, connections: Arc::default() };
            listeners.push((listener, rogue.trick.clone(), Arc::clone(&rogue.connections)));
            rogues.push(rogue);
        }
        let trust = Arc::clone(trust);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for (listener, trick, connections) in listeners {
                    let (listener, trust) = (TcpListener::from_std(listener).expect("a socket"), Arc::clone(&trust));
                    tokio::spawn(async move {
                        while let Ok((tcp, _)) = listener.accept().await {
                            let (received, is_open) = (Received::default(), Arc::new(()));
                            connections.lock().unwrap_or_else(PoisonError::into_inner).push((Arc::clone(&received), Arc::clone(&is_open)));
                            let (trust, trick) = (Arc::clone(&trust), trick.clone());
                            tokio::spawn(async move {
                                let _is_open = is_open;
                                if let Ok(mut tls) = trust.accept(tcp, trick.alpn).await {
                                    if let Some(mut early) = tls.get_mut().1.early_data() {
                                        let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
                                        received.extend_from_slice(b"early data");
                                        early.read_to_end(&mut received).expect("early data");
                                    }
                                    let _ = play(tls, &trick, &received).await;
                                }
                            });
                        }
                    });
                }
                std::future::pending::<()>().await;
            });
        });
        rogues
    }

    /// All that it ever got, a connection each, once whoever fell for it has gone.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            if connections.iter().all(|(_, is_open)| Arc::strong_count(is_open) == 1) {
                return connections.iter().map(|(received, _)| received.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect();
            }
            drop(connections);
            assert!(Instant::now() < end, "{}: its connections never end", self.trick.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it got is the bodyless probe, once for each connection at most. Returns how many probes came.
    pub fn got_nothing_but_the_probe(&self) -> usize {
        let received = self.received();
        assert!(!received.is_empty(), "{}: nobody came", self.trick.name);
        for bytes in &received {
            let judge = if self.trick.is_h2() { h2::is_probe_or_nothing } else { h1::is_probe_or_nothing };
            judge(self.trick.name, bytes);
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains(MARKER), "{}: {text}", self.trick.name);
        }
        received.iter().filter(|bytes| !bytes.is_empty()).count()
    }
}

async fn play(mut tls: TlsStream<TcpStream>, trick: &Trick, received: &Received) -> std::io::Result<()> {
    for step in &trick.steps {
        match step {
            Step::Probe => {
                let is_whole = if trick.is_h2() { h2::holds_a_probe } else { h1::holds_a_probe };
                while !is_whole(&received.lock().unwrap_or_else(PoisonError::into_inner)) {
                    if read(&mut tls, received).await? == 0 {
                        return Ok(());
                    }
                }
            }
            Step::Say(bytes) => say(&mut tls, bytes).await?,
            Step::Again(bytes, pause) => {
                while say(&mut tls, bytes).await.is_ok() {
                    // What comes meanwhile counts, too.
                    if let Ok(Ok(0)) = tokio::time::timeout(*pause, read(&mut tls, received)).await {
                        return Ok(());
                    }
                }
            }
            Step::Reflect => {
                let text = String::from_utf8_lossy(&received.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
                let password = text.split("otp=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a password").to_owned();
                say(&mut tls, format!("HTTP/1.1 204 No Content\r\nAuthentication-Info: proof=\"{password}\"\r\n\r\n").as_bytes()).await?;
            }
            Step::Close => {
                tls.shutdown().await?;
            }
            Step::Drop => return Ok(()),
        }
    }
    while read(&mut tls, received).await? > 0 {}
    Ok(())
}

async fn say(tls: &mut TlsStream<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    tls.write_all(bytes).await?;
    tls.flush().await
}

async fn read(tls: &mut TlsStream<TcpStream>, received: &Received) -> std::io::Result<usize> {
    let mut buffer = vec![0; 16 * 1024];
    let read = tls.read(&mut buffer).await?;
    received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
    Ok(read)
}
