//! A rogue server with a certificate that the client trusts, and without the secret, gets the bodyless probe and nothing else. What one
//! gets that has the secret, or learns from a request: what is meant for it.

mod common;
mod rogues;
mod sidecars;

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ekm_otp::field::{AuthenticationInfo, Credential, CredentialKind, Presented};
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Authority, Derivation, Handshake, KeyId, Prk, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_client::{Client, ConnectError, Connector, Mutual, RequestError};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rogues::interceptor::Interceptor;
use rogues::{MARKER, Rogue, Trust, every_trick, secret, tls};
use rustls::ClientConfig;
use sidecars::Sidecar;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const PROOF: &str = "Authentication-Info: proof=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\r\n";

/// Answers every request with `answer` and returns all that it received on its one connection.
async fn rogue(answer: String) -> (u16, ClientConfig, JoinHandle<String>) {
    let (port, client, received) = peer(|_| vec![answer]).await;
    (port, client, tokio::spawn(async { received.await.expect("the rogue").0 }))
}

/// Answers each request with one of `answers`, in this order, and those that are left with the last.
async fn peer(answers: impl FnOnce(&Handshake) -> Vec<String> + Send + 'static) -> (u16, ClientConfig, JoinHandle<(String, Handshake)>) {
    let (_, server, client) = tls();
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

fn kid() -> KeyId {
    KeyId::new("client1").expect("a key id")
}

fn connector(port: u16, tls: ClientConfig) -> Connector {
    let origin = Authority::parse(&format!("localhost:{port}")).expect("an authority");
    Connector::new(tls, TlsPolicy::default(), origin, kid(), secret())
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

/// Tries as many at a time: some end by a deadline only.
const AT_A_TIME: usize = 16;

/// Has `fall_for` meet every trick. Afterwards each rogue has got its probes and nothing else.
fn every_trick_yields_the_probe_alone(fall_for: impl Fn(&Trust, &Rogue) + Sync) {
    let trust = Arc::new(Trust::new());
    let rogues = Rogue::start(every_trick(), &trust);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(rogue) = rogues.get(next.fetch_add(1, Ordering::Relaxed)) {
                    fall_for(&trust, rogue);
                }
            });
        }
    });
    let probed = rogues.iter().filter(|rogue| rogue.got_nothing_but_the_probe() > 0).count();
    // The others close or speak before it could be sent.
    assert!(probed >= rogues.len() - 8, "{probed} of {} rogues saw a probe", rogues.len());
}

/// One attempt by the library, in a runtime of its own.
fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work);
}

#[test]
fn from_a_connector_a_rogue_gets_the_bodyless_probe_and_nothing_else() {
    every_trick_yields_the_probe_alone(|trust, rogue| {
        block_on(async {
            let connector = connector(rogue.port, trust.client.clone()).deadline(Duration::from_secs(1));
            let error = connector.connect().await.expect_err(rogue.trick.name);
            assert!(!matches!(error, ConnectError::Unreachable { .. } | ConnectError::Certificate(_)), "{}: {error:?}", rogue.trick.name);
        });
    });
}

#[test]
fn from_the_library_a_rogue_gets_the_bodyless_probe_and_nothing_else() {
    every_trick_yields_the_probe_alone(|trust, rogue| {
        block_on(async {
            let name = rogue.trick.name;
            let second = Duration::from_secs(1);
            let client = Client::new(format!("https://localhost:{}", rogue.port)).kid("client1").secret(secret());
            let client =
                client.tls_config(trust.client.clone()).connect_deadline(second).response_deadline(second).build().expect("a client");
            let path = format!("/{MARKER}");
            let post = Request::post(&path).header("x-private", MARKER).body(Full::<Bytes>::from(MARKER)).expect("a request");
            let fields = http::HeaderMap::new();
            let (got, posted, upgraded, connected) =
                tokio::join!(client.get(&path), client.send(post), client.upgrade(&path, "websocket", fields), client.connected());
            assert!(got.is_err() && posted.is_err() && upgraded.is_err() && connected.is_err(), "{name}");
            // Who tries again finds out again.
            assert!(client.get(&path).await.is_err(), "{name}");
        });
    });
}

#[test]
fn from_the_command_a_rogue_gets_the_bodyless_probe_and_nothing_else() {
    every_trick_yields_the_probe_alone(|trust, rogue| {
        let url = format!("https://localhost:{}/{MARKER}", rogue.port);
        let field = format!("X-Private: {MARKER}");
        let credential = ["--kid", "client1", "--secret-file", "secret", "--ca", "ca.pem"];
        let got = common::client()
            .args(["post", &url, "--timeout", "1", "-L", "-H", &field, "-d", MARKER])
            .args(credential)
            .current_dir(trust.folder())
            .output();
        let got = got.expect("the client");
        let told = common::text(&got.stderr);
        assert!(matches!(got.status.code(), Some(1 | 69 | 77)), "{}: {:?} {told}", rogue.trick.name, got.status);
        assert!(got.stdout.is_empty() && !told.contains("panicked"), "{}: {told}", rogue.trick.name);
    });
}

/// What a local program asks a sidecar for; the answer comes from the sidecar alone, and says that there is no way on.
fn is_told_that_there_is_no_way(sidecar: &Sidecar, request: &str, name: &str) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", sidecar.port)).expect("a connection");
    stream.set_read_timeout(Some(sidecars::SOON)).expect("a limit");
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("writing");
    let mut answer = Vec::new();
    // It may be reset behind the answer: nobody has read the request's body.
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    let answer = common::text(&answer);
    assert!(["HTTP/1.1 502 ", "HTTP/1.1 503 ", "HTTP/1.1 504 "].iter().any(|status| answer.starts_with(status)), "{name}: {answer}");
}

#[test]
fn from_a_sidecar_a_rogue_gets_the_bodyless_probe_and_nothing_else() {
    every_trick_yields_the_probe_alone(|trust, rogue| {
        let name = rogue.trick.name;
        let mut proxy = common::client();
        proxy.args(["proxy", "--to", &format!("https://localhost:{}", rogue.port), "--timeout", "1"]);
        proxy.args(["--kid", "client1", "--secret-file", "secret", "--ca", "ca.pem"]).current_dir(trust.folder());
        let sidecar = Sidecar::of(&mut proxy);
        let fields = format!("Host: 127.0.0.1:{}\r\nConnection: close\r\nCookie: a={MARKER}\r\nX-Private: {MARKER}", sidecar.port);
        let length = MARKER.len();
        is_told_that_there_is_no_way(
            &sidecar,
            &format!("POST /{MARKER} HTTP/1.1\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{MARKER}"),
            name,
        );
        let upgrade = fields.replace("Connection: close", "Connection: Upgrade\r\nUpgrade: websocket");
        let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        // The answer to it may leave the connection open.
        let upgrade = format!("GET /{MARKER} HTTP/1.1\r\n{upgrade}\r\n{key}\r\n\r\nGET / HTTP/1.1\r\n{fields}\r\n\r\n");
        is_told_that_there_is_no_way(&sidecar, &upgrade, name);
        assert!(!sidecar.log().contains("panicked"), "{name}: {}", sidecar.log());
    });
}

/// As a company's proxy or a virus scanner does it: the client trusts its CA, it ends TLS and relays every byte to the real server.
#[test]
fn a_proxy_that_intercepts_tls_with_a_trusted_ca_is_named_and_gets_the_probe_alone() {
    let bench = common::Bench::new();
    bench.create_key();
    let server = common::Server::start(&bench, &[]);
    let interceptor = Interceptor::start(&bench.path("server.pem"), server.port, bench.swtpm.dir());
    let url = format!("https://localhost:{}/{MARKER}", interceptor.port);
    for http in ["h2", "http/1.1"] {
        interceptor.speak(http);
        let got = bench.client(&["get", &url, "--kid", "client1", "--key-file", "client1.pem", "--ca", "interceptor.pem"]);
        assert_eq!(got.status.code(), Some(77), "{}", common::text(&got.stderr));
        assert!(common::text(&got.stderr).contains("TLS ends somewhere in between"), "{}", common::text(&got.stderr));
    }
    let sidecar = Sidecar::start(&bench, interceptor.port, &["--kid", "client1", "--key", "client1.pem", "--ca", "interceptor.pem"]);
    let got = Command::new("curl").args(["-s", "-i", &sidecar.url(&format!("/{MARKER}"))]).output().expect("curl");
    let told = common::text(&got.stdout);
    assert!(told.starts_with("HTTP/1.1 50") && told.contains("TLS ends somewhere in between"), "{told}");
    assert!(sidecar.log().contains("TLS ends somewhere in between"), "{}", sidecar.log());
    drop(sidecar);
    let probes = interceptor.got_nothing_but_probes();
    assert!(probes >= 3, "{probes}");
    let (_, log) = server.end("TERM");
    assert_eq!(log.matches("the credential was made for another connection").count(), probes, "{log}");
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
    let deadline = Duration::from_millis(300);
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
            payload.check(&request, now, Duration::from_secs(60)).expect("its claims").extra
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
    let (_, mut server, client) = tls();
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
