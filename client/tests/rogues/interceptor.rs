//! A proxy that ends TLS with a certificate of its own CA, which the client trusts, and relays every byte to the real server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ekm_otp::TlsPolicy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Connections = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

pub struct Interceptor {
    pub port: u16,
    is_h2: Arc<AtomicBool>,
    connections: Connections,
}

impl Interceptor {
    /// In front of the server at this port. Its CA is left as `interceptor.pem` in the folder.
    pub fn start(server_certificate: &Path, server_port: u16, folder: &Path) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "The company's proxy");
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new([String::from("localhost")]).expect("parameters").signed_by(&key, &ca).expect("a certificate");
        std::fs::write(folder.join("interceptor.pem"), ca.pem()).expect("writing");

        let provider = || TlsPolicy::default().provider(rustls::crypto::aws_lc_rs::default_provider());
        let inbound = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
            .expect("certificate and key");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server_certificate).expect("a certificate")).expect("a root");
        let outbound = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();

        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let (is_h2, connections) = (Arc::new(AtomicBool::new(true)), Connections::default());
        let (speaks_h2, recorded) = (Arc::clone(&is_h2), Arc::clone(&connections));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a socket");
                while let Ok((tcp, _)) = listener.accept().await {
                    let (mut inbound, mut outbound, received) = (inbound.clone(), outbound.clone(), Arc::default());
                    let alpn = if speaks_h2.load(Ordering::SeqCst) { "h2" } else { "http/1.1" };
                    inbound.alpn_protocols = vec![alpn.into()];
                    outbound.alpn_protocols = vec![alpn.into()];
                    recorded.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&received));
                    tokio::spawn(async move { relay(tcp, inbound, outbound, server_port, received).await });
                }
            });
        });
        Self { port, is_h2, connections }
    }

    /// What it agrees to speak from now on.
    pub fn speak(&self, alpn: &str) {
        self.is_h2.store(alpn == "h2", Ordering::SeqCst);
    }

    /// Each connection brought one header section, which it relayed. Returns how many did.
    pub fn got_nothing_but_probes(&self) -> usize {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for received in connections.iter() {
            let received = received.lock().unwrap_or_else(PoisonError::into_inner);
            let is_h2 = received.starts_with(b"PRI * HTTP/2");
            let judge = if is_h2 { super::h2::is_probe_or_nothing } else { super::h1::is_probe_or_nothing };
            judge("the interceptor", &received);
        }
        connections.len()
    }
}

async fn relay(
    tcp: TcpStream,
    inbound: ServerConfig,
    outbound: ClientConfig,
    server_port: u16,
    received: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    let inbound = TlsAcceptor::from(Arc::new(inbound)).accept(tcp).await?;
    let tcp = TcpStream::connect(("127.0.0.1", server_port)).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let outbound = TlsConnector::from(Arc::new(outbound)).connect(name, tcp).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (split(inbound), split(outbound));
    let there = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
            to_server.write_all(&buffer[..read]).await?;
            to_server.flush().await?;
        }
        to_server.shutdown().await
    };
    let back = async {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(there, back).map(drop)
}
