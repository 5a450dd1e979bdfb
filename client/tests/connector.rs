//! The connector with a key in a TPM, against the server's binary: what one more connection costs, and what a lost TPM does.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{Bench, Server};
use ekm_otp::{Authority, KeyId, TlsPolicy};
use ekm_otp_client::{ConnectError, Connector};
use ekm_otp_swtpm::Tap;
use ekm_otp_tpm::{KeyFile, TpmHandle};
use http::{Request, StatusCode};
use http_body_util::Empty;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

const TPM2_CC_HMAC: u32 = 0x0000_0155;

async fn connector(bench: &Bench, server: &Server, tcti: &str) -> Connector {
    let policy = TlsPolicy::default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(bench.path("server.pem")).expect("a certificate")).expect("a root");
    let tls = ClientConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tpm = TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread");
    let file = KeyFile::from_pem(&std::fs::read_to_string(bench.path("client1.pem")).expect("reading")).expect("a key file");
    let key = tpm.load(file);
    key.prepare().await.expect("loading");
    let origin = Authority::parse(&format!("localhost:{}", server.port)).expect("an authority");
    Connector::new(tls, policy, origin, KeyId::new("client1").expect("a key id"), key)
}

async fn get(connector: &Connector) -> Result<StatusCode, ConnectError> {
    let mut connection = connector.connect().await?;
    let request = Request::get("/get").body(Empty::new()).expect("a request");
    Ok(connection.send(request).await.expect("an answer").status())
}

#[tokio::test]
async fn one_more_connection_costs_one_tpm_command() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let tap = Tap::on(&bench.swtpm);
    let connector = connector(&bench, &server, &tap.tcti()).await;
    let _ = tap.take();
    for _ in 0..3 {
        assert_eq!(get(&connector).await.expect("a connection"), StatusCode::OK);
        assert_eq!(tap.take().commands, [TPM2_CC_HMAC]);
    }
    drop(connector);
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_tpm_that_dies_between_two_connections_is_told_and_the_next_works_once_it_is_back() {
    let mut bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let connector = connector(&bench, &server, &bench.swtpm.tcti()).await;
    assert_eq!(get(&connector).await.expect("a connection"), StatusCode::OK);
    bench.swtpm.kill();
    let error = get(&connector).await.expect_err("there is no TPM");
    assert!(matches!(error, ConnectError::Key(_)) && error.to_string().contains("cannot reach the TPM"), "{error}");
    bench.swtpm.restart();
    assert_eq!(get(&connector).await.expect("a connection"), StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_that_ends_tls_is_refused_and_told_as_such() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let policy = TlsPolicy::default();
    let provider = || policy.provider(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_file(bench.path("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(bench.path("server.key")).expect("a private key");
    // It has the server's own certificate and relays every byte.
    let inbound = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(policy.versions())
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("certificate and key");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let outbound = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(policy.versions())
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy_port = tcp.local_addr().expect("an address").port();
    let server_port = server.port;
    tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.expect("a connection");
        let mut inbound = tokio_rustls::TlsAcceptor::from(Arc::new(inbound)).accept(stream).await.expect("a handshake");
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await.expect("the server");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let mut outbound = tokio_rustls::TlsConnector::from(Arc::new(outbound)).connect(name, stream).await.expect("a handshake");
        let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
    });

    let through_the_proxy = Authority::parse(&format!("127.0.0.1:{proxy_port}")).expect("an authority");
    let connector = connector(&bench, &server, &bench.swtpm.tcti()).await.dial(&through_the_proxy);
    let error = connector.connect().await.expect_err("the binding is broken");
    assert!(matches!(error, ConnectError::Intercepted { .. }) && error.to_string().contains("TLS ends somewhere in between"), "{error}");
}

#[tokio::test]
async fn a_credential_is_retired_once_its_socket_is_closed() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let connector = connector(&bench, &server, &bench.swtpm.tcti()).await;
    // proc(5), net/tcp: the client's ends that are established (01), by the port that they lead to. One that this process has no descriptor of is closed here: another
    // test's child, which has not yet started its program, may still hold it.
    let remote = format!(":{:04X} 01 ", server.port);
    let is_open = || {
        let own: Vec<_> = fs::read_dir("/proc/self/fd").expect("a list").filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
        let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default());
        let mut inodes = tables
            .iter()
            .flat_map(|table| table.lines())
            .filter(|line| line.contains(&remote))
            .filter_map(|line| line.split_whitespace().nth(9));
        inodes.any(|inode| own.iter().any(|link| *link == Path::new(&format!("socket:[{inode}]"))))
    };
    for _ in 0..20 {
        let connection = connector.connect().await.expect("a connection");
        assert!(is_open());
        assert!(connection.retire().await.is_some());
        assert!(!is_open(), "it is still open");
    }
}
