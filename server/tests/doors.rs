//! Where the server listens: addresses, names, Unix and virtual machines' sockets; and whom a load balancer names.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use common::client::{Dialler, Http, Key};
use common::pki::{Pki, replace};
use common::server::{Server, command};
use common::{HOST, SOON};
use ekm_otp::{Handshake, ServerName, TlsPolicy};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsConnector;

/// A site before this application, with one key; and more settings.
fn site(folder: &Path, pki: &Pki, upstream: &str, listen: &str, more: &str) -> String {
    pki.issue_to(folder, "server", &[HOST]);
    replace(&folder.join("registry.toml"), &Key::numbered(1).entry());
    format!(
        "listen = {listen}\nsecrets = \"registry.toml\"\nserver_names = [\"{HOST}\"]\ncertificate = \"server.pem\"\n\
         private_key = \"server.key\"\nupstream = \"{upstream}\"\n{more}\n"
    )
}

/// The status of `GET /get`, over this connection.
async fn status<IO: AsyncRead + AsyncWrite + Unpin>(pki: &Pki, io: IO, key: &Key) -> String {
    let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
    let mut stream = TlsConnector::from(Arc::clone(&pki.client(b"http/1.1"))).connect(name, io).await.expect("a TLS connection");
    let sni = ServerName::from_host(HOST).expect("a name");
    let handshake = Handshake::of_client(stream.get_ref().1, sni, &TlsPolicy::default()).expect("a handshake");
    let request =
        format!("GET /get HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nAuthorization: {}\r\n\r\n", key.credential(&handshake));
    stream.write_all(request.as_bytes()).await.expect("writing");
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("no answer").expect("an answer");
    String::from_utf8_lossy(&answer[9..12]).into_owned()
}

/// A server that must not start. What it says.
fn refused(folder: &Path, config: &str) -> String {
    replace(&folder.join("refused.toml"), config);
    let output = command(folder, "refused.toml").output().expect("the server");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[tokio::test]
async fn it_listens_on_addresses_names_and_sockets_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pki, key) = (Pki::new(), Key::numbered(1));
    // Other machines cannot be had in a test: that the kernel takes the vsock address is all that is seen of it here.
    let listen = "[\"127.0.0.1:0\", \"localhost:0\", \"unix:tls.sock\", \"vsock:48443\"]";
    let config = site(folder.path(), &pki, "demo", listen, "socket_mode = \"0600\"");
    let mut server = Server::start(folder.path(), "server", &config);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("listening")).expect("the line");
    assert!(line.contains(",unix:") && line.contains(",vsock:48443"), "{line}");

    let path = folder.path().join("tls.sock");
    assert_eq!(std::fs::metadata(&path).expect("the socket").permissions().mode() & 0o777, 0o600);
    assert_eq!(status(&pki, UnixStream::connect(&path).await.expect("a connection"), &key).await, "200");
    let mut by_tcp = Dialler::new(&pki, server.address, HOST).open(Http::Two, &key).await.expect("a connection");
    assert_eq!(by_tcp.get("/get").await.expect("an answer").0, 200);
    // The name's: the second address in the line (and a third, where it has an IPv6 address).
    let addresses = line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next()).expect("addresses");
    let of_name = addresses.split(',').skip(1).find(|address| address.starts_with("127.0.0.1:")).expect("localhost's");
    let tcp = tokio::net::TcpStream::connect(of_name).await.expect("TCP");
    assert_eq!(status(&pki, tcp, &key).await, "200");

    // The place is taken, and stays so.
    let told = refused(folder.path(), &config.replace("\"127.0.0.1:0\", \"localhost:0\", ", "").replace(", \"vsock:48443\"", ""));
    assert!(told.contains("cannot listen on unix:") && told.contains("another process listens there"), "{told}");
    assert_eq!(status(&pki, UnixStream::connect(&path).await.expect("a connection"), &key).await, "200");

    // Waiting for the process holds up this runtime: nobody would hear that the connection is to end.
    by_tcp.ended.abort();
    let _ = (&mut by_tcp.ended).await;
    server.signal("TERM");
    assert!(server.ended().success());
    assert!(!path.exists(), "the socket's file is left behind");
}

#[tokio::test]
async fn behind_a_load_balancer_the_application_hears_of_the_real_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pki, key) = (Pki::new(), Key::numbered(1));
    let application = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = format!("http://{}", application.local_addr().expect("an address"));
    let config = site(folder.path(), &pki, &upstream, "\"127.0.0.1:0\"", "proxy_protocol_from = [\"127.0.0.1\"]");
    let server = Server::start(folder.path(), "server", &config);
    let heard = tokio::spawn(async move {
        let (mut stream, _) = application.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a request"));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("writing");
        String::from_utf8(head).expect("ASCII").to_lowercase()
    });
    let balancer = Dialler::new(&pki, server.address, HOST);
    let mut tcp = balancer.tcp().await.expect("TCP");
    tcp.write_all(b"PROXY TCP4 192.0.2.77 10.0.0.1 4660 443\r\n").await.expect("writing");
    assert_eq!(status(&pki, tcp, &key).await, "200");
    let head = heard.await.expect("a request");
    assert!(head.contains("\r\nx-forwarded-for: 192.0.2.77\r\n"), "{head}");
    // From another address the header is refused, and without it that is a client like any.
    let stranger = balancer.from("127.0.0.2".parse().expect("an address"));
    let mut tcp = stranger.tcp().await.expect("TCP");
    tcp.write_all(b"PROXY TCP4 192.0.2.78 10.0.0.1 4660 443\r\n").await.expect("writing");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, tcp.read_to_end(&mut answer)).await.expect("the connection goes on");
    assert_eq!(answer.first(), Some(&0x15), "an alert");
    stranger.tls(Http::One).await.expect("a TLS connection");
}

#[test]
fn each_mistake_about_doors_is_told_with_what_to_write_instead() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new();
    let listen = "[\"127.0.0.1:0\", \"nowhere\", \"unix:\"]";
    let more = "proxy_protocol_from = [\"10.0.0.0/8\", \"10.0.0.0/99\"]\nsocket_mode = \"rw\"\nmax_header_bytes = 1";
    let told = refused(folder.path(), &site(folder.path(), &pki, "demo", listen, more));
    for expected in [
        "\"nowhere\" is nothing to listen on",
        "vsock:CID:PORT",
        "\"unix:\"",
        "\"10.0.0.0/99\" is no load balancer",
        "octal",
        "8192 to 1048576",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains("10.0.0.0/8\""), "{told}");
}
