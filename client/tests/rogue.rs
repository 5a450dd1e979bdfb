//! A rogue server with a certificate that the client trusts, and without the secret, gets the bodyless probe and nothing else.

use std::sync::Arc;

use ekm_otp::{Authority, KeyId, Secret, TlsPolicy};
use ekm_otp_client::{ConnectError, Connector, Key, Mutual, RequestError};
use http::Request;
use http_body_util::Full;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const PROOF: &str = "Authentication-Info: proof=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\r\n";

/// Answers every request with `answer` and returns all that it received on its one connection.
async fn rogue(answer: String) -> (u16, ClientConfig, JoinHandle<String>) {
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
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    let received = tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.expect("a connection");
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.expect("a handshake");
        let mut received = Vec::new();
        let mut answered = 0;
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..n]);
            let requests = received.windows(4).filter(|w| w == b"\r\n\r\n").count();
            while answered < requests {
                let _ = stream.write_all(answer.as_bytes()).await;
                answered += 1;
            }
        }
        String::from_utf8(received).expect("text")
    });
    (port, client, received)
}

fn connector(port: u16, tls: ClientConfig) -> Connector {
    let origin = Authority::parse(&format!("localhost:{port}")).expect("an authority");
    let key = Key::Software(Secret::new(b"test data, used nowhere else ...".to_vec()).expect("a secret"));
    Connector::new(tls, TlsPolicy::default(), origin, KeyId::new("client1").expect("a key id"), key)
}

#[tokio::test]
async fn a_rogue_server_gets_the_bodyless_probe_and_nothing_else() {
    for (trick, answer) in [
        ("no_proof", "HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        ("forged_proof", format!("HTTP/1.1 204 No Content\r\n{PROOF}\r\n")),
        ("two_forged_proofs", format!("HTTP/1.1 204 No Content\r\n{PROOF}{PROOF}\r\n")),
        ("malformed_proof", "HTTP/1.1 204 No Content\r\nAuthentication-Info: proof=\r\n\r\n".to_owned()),
        ("success_with_a_body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()),
        ("early_hints_then_204", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        ("forged_proof_in_an_interim_answer", format!("HTTP/1.1 103 Early Hints\r\n{PROOF}\r\nHTTP/1.1 204 No Content\r\n\r\n")),
        ("redirect", "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("unauthorized", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: EKM-OTP realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("basic_challenge", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("not_found", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()),
    ] {
        let (port, tls, received) = rogue(answer).await;
        let error = connector(port, tls).connect().await.expect_err(trick);
        assert!(matches!(error, ConnectError::NotProven(_) | ConnectError::Refused { .. }), "{trick}: {error:?}");
        let received = received.await.expect("the rogue");
        assert!(received.starts_with("GET /.well-known/ekm-otp HTTP/1.1\r\n"), "{trick}: {received}");
        assert!(
            received.ends_with("\r\n\r\n") && received.matches("\r\n\r\n").count() == 1,
            "{trick}: more than one header section: {received}"
        );
        assert!(
            !received.to_ascii_lowercase().contains("content-length") && !received.to_ascii_lowercase().contains("transfer-encoding"),
            "{trick}"
        );
    }
}

#[tokio::test]
async fn without_the_mutual_round_a_rogue_gets_the_request_and_a_forged_proof_is_still_an_error() {
    // What `require` is for: the test above can fail.
    let (port, tls, received) = rogue("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()).await;
    let connector = connector(port, tls).mutual(Mutual::Prefer);
    let mut connection = connector.connect().await.expect("a connection");
    let request = Request::post("/private").body(Full::from("the body")).expect("a request");
    assert!(connection.send(request).await.is_ok());
    assert!(!connection.is_proven());
    drop(connection);
    let received = received.await.expect("the rogue");
    assert!(received.contains("POST /private") && received.ends_with("the body"), "{received}");

    let (port, tls, _) = rogue(format!("HTTP/1.1 200 OK\r\n{PROOF}Content-Length: 2\r\n\r\nok")).await;
    let mut connection = self::connector(port, tls).mutual(Mutual::Prefer).connect().await.expect("a connection");
    let request = Request::get("/").body(Full::from("")).expect("a request");
    assert!(matches!(connection.send(request).await, Err(RequestError::WrongProof)));
}

#[tokio::test]
async fn a_request_for_another_origin_never_leaves() {
    let (port, tls, received) = rogue("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let mut connection = connector(port, tls).mutual(Mutual::Prefer).connect().await.expect("a connection");
    for uri in
        ["https://elsewhere.test/", "http://localhost/", &format!("http://localhost:{port}/"), &format!("https://localhost:{}/", port ^ 1)]
    {
        let request = Request::get(uri).body(Full::from("")).expect("a request");
        assert!(matches!(connection.send(request).await, Err(RequestError::ForeignAuthority { .. })), "{uri}");
    }
    let request = Request::get("/").header("authorization", "Bearer x").body(Full::from("")).expect("a request");
    assert!(matches!(connection.send(request).await, Err(RequestError::ReservedField(_))));
    drop(connection);
    assert_eq!(received.await.expect("the rogue"), "");
}

#[tokio::test]
async fn a_server_that_never_answers_ends_at_the_deadline() {
    // No complete answer: the rogue's text has no end of its header section.
    let (port, tls, _received) = rogue("HTTP/1.1 204 No Content\r\n".to_owned()).await;
    let deadline = std::time::Duration::from_millis(300);
    let error = connector(port, tls).deadline(deadline).connect().await.expect_err("there is no answer");
    assert!(matches!(error, ConnectError::Deadline { phase: "the probe", .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_with_a_wrong_proof_is_not_used_again() {
    let (port, tls, received) = rogue(format!("HTTP/1.1 200 OK\r\n{PROOF}Content-Length: 0\r\n\r\n")).await;
    let mut connection = connector(port, tls).mutual(Mutual::Prefer).connect().await.expect("a connection");
    let get = |path: &str| Request::get(path).body(Full::from("")).expect("a request");
    assert!(matches!(connection.send(get("/first")).await, Err(RequestError::WrongProof)));
    assert!(connection.send(get("/second")).await.is_err());
    drop(connection);
    assert!(!received.await.expect("the rogue").contains("/second"));
}
