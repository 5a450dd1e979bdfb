//! A rogue server with a certificate that the client trusts, and without the secret, gets the bodyless probe and nothing else. What one
//! gets that has the secret, or learns from a request: what is meant for it.

use std::convert::Infallible;
use std::sync::Arc;

use ekm_otp::field::{AuthenticationInfo, Credential, CredentialKind, Presented};
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Authority, Derivation, Handshake, KeyId, Prk, Secret, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_client::{ConnectError, Connector, Key, Mutual, RequestError};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const PROOF: &str = "Authentication-Info: proof=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\r\n";

/// Of a server with a certificate that the client trusts, and of that client.
fn tls() -> (ServerConfig, ClientConfig) {
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
    (server, client)
}

/// Answers every request with `answer` and returns all that it received on its one connection.
async fn rogue(answer: String) -> (u16, ClientConfig, JoinHandle<String>) {
    let (port, client, received) = peer(|_| vec![answer]).await;
    (port, client, tokio::spawn(async { received.await.expect("the rogue").0 }))
}

/// Answers each request with one of `answers`, in this order, and those that are left with the last.
async fn peer(answers: impl FnOnce(&Handshake) -> Vec<String> + Send + 'static) -> (u16, ClientConfig, JoinHandle<(String, Handshake)>) {
    let (server, client) = tls();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    let received = tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.expect("a connection");
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.expect("a handshake");
        let handshake = Handshake::of_server(stream.get_ref().1, &TlsPolicy::default()).expect("a handshake");
        let answers = answers(&handshake);
        let mut received = Vec::new();
        let mut answered = 0;
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..n]);
            let requests = received.windows(4).filter(|w| w == b"\r\n\r\n").count();
            while answered < requests {
                let _ = stream.write_all(answers[answered.min(answers.len() - 1)].as_bytes()).await;
                answered += 1;
            }
        }
        (String::from_utf8(received).expect("text"), handshake)
    });
    (port, client, received)
}

fn secret() -> Secret {
    Secret::new(b"test data, used nowhere else ...".to_vec()).expect("a secret")
}

fn kid() -> KeyId {
    KeyId::new("client1").expect("a key id")
}

fn connector(port: u16, tls: ClientConfig) -> Connector {
    let origin = Authority::parse(&format!("localhost:{port}")).expect("an authority");
    Connector::new(tls, TlsPolicy::default(), origin, kid(), Key::Software(secret()))
}

/// What a server derives that has the secret.
fn prk(handshake: &Handshake) -> Prk {
    let derivation = Derivation::new(&handshake.ekm, &kid(), handshake.facts.server_name());
    let tag = secret().mac(derivation.mac_input());
    derivation.finish(tag)
}

/// The right answer to the probe.
fn proven(handshake: &Handshake) -> String {
    format!("HTTP/1.1 204 No Content\r\nAuthentication-Info: {}\r\n\r\n", AuthenticationInfo::write(&prk(handshake).server_proof()))
}

fn claims() -> ExtraClaims {
    ExtraClaims::new([("role".to_owned(), "admin".into())].into_iter().collect()).expect("a free name")
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

#[tokio::test]
async fn a_wrong_proof_is_an_error_also_after_a_right_one() {
    for kind in CredentialKind::ALL {
        let (port, tls, received) =
            peer(|handshake| vec![proven(handshake), format!("HTTP/1.1 200 OK\r\n{PROOF}Content-Length: 0\r\n\r\n")]).await;
        let mut connection = connector(port, tls).credential(kind).connect().await.expect("it has the secret");
        assert!(connection.is_proven());
        let get = |path: &str| Request::get(path).body(Full::from("")).expect("a request");
        assert!(matches!(connection.send(get("/first")).await, Err(RequestError::WrongProof)), "{kind}");
        assert!(connection.send(get("/second")).await.is_err(), "{kind}");
        drop(connection);
        assert!(!received.await.expect("the server").0.contains("/second"), "{kind}");
    }
}

#[tokio::test]
async fn the_probe_carries_no_claims_of_the_callers_own_and_the_request_after_it_does() {
    for kind in [CredentialKind::Jws, CredentialKind::Jwe] {
        let (port, tls, received) =
            peer(|handshake| vec![proven(handshake), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()]).await;
        let mut connection = connector(port, tls).credential(kind).connect().await.expect("it has the secret");
        let request = Request::get("/get").extension(claims()).body(Full::from("")).expect("a request");
        connection.send(request).await.expect("an answer");
        drop(connection);
        let (received, handshake) = received.await.expect("the server");
        let fields: Vec<&str> = received.lines().filter_map(|line| line.strip_prefix("authorization: ")).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let shown = |field: &str, target: &str| {
            let credential = Credential::read([field.as_bytes()]).expect("a credential");
            let (Presented::Jws(token) | Presented::Jwe(token)) = &credential.presented else { panic!("no token") };
            let payload = prk(&handshake).token_verifier(&kid()).verify(kind, token).expect("its token");
            let audience = format!("https://localhost:{port}");
            let request = SignedRequest { audience: &audience, method: "GET", target };
            payload.check(&request, now, std::time::Duration::from_secs(60)).expect("its claims").extra
        };
        assert_eq!(fields.len(), 2, "{received}");
        assert_eq!(shown(fields[0], WELL_KNOWN_PATH), ExtraClaims::default(), "{kind}");
        assert_eq!(shown(fields[1], "/get"), claims(), "{kind}");
    }
}

#[tokio::test]
async fn claims_beside_a_password_are_refused_and_nothing_leaves() {
    let (port, tls, received) = rogue("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let mut connection = connector(port, tls).mutual(Mutual::Prefer).connect().await.expect("a connection");
    let request = Request::get("/").extension(claims()).body(Full::from("")).expect("a request");
    assert!(matches!(connection.send(request).await, Err(RequestError::NoToken)));
    drop(connection);
    assert_eq!(received.await.expect("the rogue"), "");
}

#[tokio::test]
async fn a_target_leaves_in_origin_form() {
    // Over HTTP/2, which carries it as it is.
    let (mut server, client) = tls();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    let echo = service_fn(|request: Request<Incoming>| async move {
        let target = request.uri().path_and_query().expect("a target").as_str().to_owned();
        Ok::<_, Infallible>(Response::builder().header("target", target).body(Full::<Bytes>::default()).expect("a response"))
    });
    tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.expect("a connection");
        let stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.expect("a handshake");
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), echo).await
    });
    let mut connection = connector(port, client).mutual(Mutual::Prefer).connect().await.expect("a connection");
    let absolute = |target: &str| format!("https://localhost:{port}{target}").parse().expect("a URI");
    for (uri, target) in [
        (Uri::from(PathAndQuery::from_static("?x")), "/?x"),
        (absolute("?x"), "/?x"),
        (absolute(""), "/"),
        (absolute("/a//../b?x=/&%7e"), "/a//../b?x=/&%7e"),
    ] {
        let request = Request::get(uri).body(Full::from("")).expect("a request");
        assert_eq!(connection.send(request).await.expect("an answer").headers()["target"], target);
    }
}
