//! Several upstreams, upstreams that fail, and who may go to them.

mod proxied;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxied::upstream::{OK, Recorder, head, listen};
use proxied::{ALICE, BOB, Server, folder, soon, until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

/// An address at which nobody listens.
async fn nobody() -> String {
    listen().await.1
}

#[tokio::test]
async fn each_upstream_gets_its_turn_and_one_that_is_down_gets_none() {
    let (one, two) = (Recorder::start(OK).await, Recorder::start(OK).await);
    let down = nobody().await;
    let server = Server::start(&[&one.url(), &down, &two.url()], &[]);
    let mut client = server.connect(ALICE, false).await;
    let otp = client.otp.clone();
    for _ in 0..30 {
        client.send(&format!("POST / HTTP/1.1\r\nContent-Length: 2\r\nAuthorization: {otp}\r\n"), b"hi").await;
        assert_eq!(client.answer().await.status, 200);
    }
    let (one, two) = (one.requests().len(), two.requests().len());
    assert!(one + two == 30 && one >= 10 && two >= 10, "{one} {two}");
    until("a line", || server.log().matches("the upstream is left out for a while").count() == 1).await;
    // It comes back.
    let address = down.strip_prefix("http://").expect("an address");
    let back = Recorder::on(TcpListener::bind(address).await.expect("its port"), OK);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while back.requests().len() < 3 {
        assert!(std::time::Instant::now() < end, "it gets no requests");
        client.send(&format!("GET / HTTP/1.1\r\nAuthorization: {otp}\r\n"), b"").await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("a line", || server.log().contains("the upstream answers again")).await;
}

#[tokio::test]
async fn where_nobody_answers_it_is_503_and_nothing_is_told_of_the_inside() {
    let (one, two) = (nobody().await, nobody().await);
    let server = Server::start(&[&one, &two], &[]);
    for _ in 0..3 {
        let answer = server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await;
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")), "{answer:?}");
        assert_eq!(answer.text(), "the application cannot be reached; try again later\n");
        assert!(answer.field("authentication-info").is_some());
    }
    until("the reason in the log", || server.log().contains(&format!("upstream={two} error=it cannot be reached"))).await;
}

/// Reads a request, and leaves without an answer.
async fn leaves() -> Recorder {
    Recorder::start(b"").await
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let (bad, good) = (leaves().await, Recorder::start(OK).await);
    let server = Server::start(&[&bad.url(), &good.url()], &[]);
    let answer = server.ask(ALICE, "POST / HTTP/1.1\r\nContent-Length: 2\r\n", b"hi").await;
    assert_eq!((answer.status, answer.text().as_str()), (502, "the application did not answer properly\n"));
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 0));
    // Its turn again: what may be repeated is.
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status, 200);
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status, 200);
    assert_eq!((bad.requests().len(), good.requests().len()), (2, 2));
    // But not for ever.
    let server = Server::start(&[&bad.url()], &[]);
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status, 502);
    assert_eq!(bad.requests().len(), 3);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_fails_no_request() {
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let text = head(&mut stream).await;
            if text.starts_with("POST") {
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0; 2]).await.expect("a body");
            }
            stream.write_all(OK).await.expect("writing");
            // It says nothing, and closes.
            drop(stream);
        }
    });
    let server = Server::start(&[&url], &[]);
    let mut client = server.connect(ALICE, false).await;
    let otp = client.otp.clone();
    for at in 0..50 {
        client.send(&format!("POST / HTTP/1.1\r\nContent-Length: 2\r\nAuthorization: {otp}\r\n"), b"hi").await;
        assert_eq!(client.answer().await.status, 200, "{at}");
        // The other end's close is on its way: with no time at all, nobody can know.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_takes_too_long_is_504_and_one_that_falls_silent_is_broken_off() {
    let silent = listen().await;
    let server = Server::start(&[&silent.1], &["--response-timeout", "1"]);
    let answer = server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (504, "the application did not answer in time\n"));

    let (listener, url) = listen().await;
    let server = Server::start(&[&url], &["--idle-timeout", "1"]);
    let mut client = server.connect(ALICE, false).await;
    client.send(&format!("GET / HTTP/1.1\r\nAuthorization: {}\r\n", client.otp.clone()), b"").await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").await.expect("writing");
    let text = String::from_utf8_lossy(&client.rest().await).into_owned();
    assert!(text.ends_with("half"), "{text}");

    // A client that stops sending is the client's fault, and the upstream's request ends.
    let mut client = server.connect(ALICE, false).await;
    client.send(&format!("POST / HTTP/1.1\r\nContent-Length: 1000\r\nAuthorization: {}\r\n", client.otp.clone()), b"half").await;
    assert_eq!(client.answer().await.status, 408);
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    let mut got = Vec::new();
    let _ = soon("the end", tokio::io::AsyncReadExt::read_to_end(&mut upstream, &mut got)).await;
    assert!(got.ends_with(b"half"));
}

#[tokio::test]
async fn what_is_no_http_is_502() {
    for answer in [
        &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nok\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ] {
        let upstream = Recorder::start(answer).await;
        let server = Server::start(&[&upstream.url()], &[]);
        let answer = server.ask(ALICE, "POST / HTTP/1.1\r\nContent-Length: 0\r\n", b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (502, "the application did not answer properly\n"), "{answer:?}");
    }
}

#[tokio::test]
async fn who_is_verified_and_not_allowed_gets_403_with_the_proof() {
    let upstream = Recorder::start(OK).await;
    let site = format!("upstream = \"{}\"\nallow = [{{ client = \"ali.*\", claims = {{ role = \"admin|root\" }} }}]\n", upstream.url());
    let server = Server::configured(&site);
    for (kid, claims) in [(ALICE, None), (ALICE, Some(r#"{"role":"reader"}"#)), (BOB, Some(r#"{"role":"admin"}"#))] {
        let mut client = server.connect(kid, false).await;
        let field = claims.map_or(client.otp.clone(), |claims| client.token("/", 1, claims));
        client.send(&format!("GET / HTTP/1.1\r\nAuthorization: {field}\r\n"), b"").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (403, "this client is not allowed here\n"), "{kid} {claims:?}");
        assert!(answer.field("authentication-info").is_some(), "{answer:?}");
    }
    let mut client = server.connect(ALICE, false).await;
    let field = client.token("/", 1, r#"{"role":["reader","admin"]}"#);
    client.send(&format!("GET / HTTP/1.1\r\nAuthorization: {field}\r\n"), b"").await;
    assert_eq!((client.answer().await.status, upstream.requests().len()), (200, 1));
}

#[tokio::test]
async fn open_routes_let_in_who_is_not_verified_and_tell_the_app_so() {
    let upstream = Recorder::start(OK).await;
    let server = Server::configured(&format!("upstream = \"{}\"\nopen = [\"GET=^/healthz$\", \"GET=^/public/.*\"]\n", upstream.url()));
    let forged = "Ekm-Otp-Client: forged\r\nEkm_Otp_Client: forged\r\nX-Forwarded-For: forged\r\nX-HTTP-Method-Override: forged\r\n";
    for target in ["/healthz", "/healthz?a=%2f..//", "/public/a"] {
        let answer = server.ask_unverified(&format!("GET {target} HTTP/1.1\r\n{forged}")).await;
        assert_eq!((answer.status, answer.field("authentication-info")), (200, None), "{target}");
        let request = upstream.requests().pop().expect("a request");
        assert!(!request.contains("forged") && !request.to_ascii_lowercase().contains("ekm-otp"), "{request}");
        assert!(request.contains("x-forwarded-for: 127.0.0.1\r\n"), "{request}");
    }
    // A right credential is verified there, too.
    assert_eq!(server.ask(ALICE, "GET /healthz HTTP/1.1\r\n", b"").await.status, 200);
    assert!(upstream.requests().pop().is_some_and(|request| request.contains("\r\nekm-otp-client: alice\r\n")));
    let count = upstream.requests().len();
    for target in [
        "/",
        "/healthz/",
        "//healthz",
        "/healthz/../admin",
        "/public/../admin",
        "/public/..%2fadmin",
        "/public/%2e%2e/admin",
        "/public//admin",
        "/public/./a",
        "/public/a;x=/../b",
        "/public/a\\..\\b",
        "/public%2fa",
        "/x/healthz",
        "/HEALTHZ",
        "/public/%61",
    ] {
        assert_eq!(server.ask_unverified(&format!("GET {target} HTTP/1.1\r\n")).await.status, 401, "{target}");
    }
    assert_eq!(server.ask_unverified("POST /healthz HTTP/1.1\r\nContent-Length: 0\r\n").await.status, 401);
    assert_eq!(
        server.ask_unverified("GET /healthz HTTP/1.1\r\nAuthorization: Bearer x\r\n").await.status,
        401,
        "a wrong credential is refused"
    );
    assert_eq!(upstream.requests().len(), count);
}

#[tokio::test]
async fn an_upstream_may_be_a_unix_socket() {
    let folder = folder();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            stream.write_all(OK).await.expect("writing");
        }
    });
    let server = Server::start_in(folder, &[&format!("unix:{}", path.display())], &[]);
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.text(), "ok\n");
}

/// An https upstream that asks for a certificate. Its own is for `app.test`, and it is reached by the name `localhost`, unless `names` says so.
async fn https_upstream(folder: &std::path::Path, name: &str, protocols: &[&[u8]]) -> String {
    let ours = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let theirs = rcgen::generate_simple_self_signed(["door".to_owned()]).expect("a certificate");
    fs::write(folder.join("ca.pem"), ours.cert.pem()).expect("writing");
    fs::write(folder.join("door.pem"), theirs.cert.pem()).expect("writing");
    proxied::write_private(&folder.join("door.key"), &theirs.signing_key.serialize_pem());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(theirs.cert.der().clone()).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("a verifier");
    let chain = vec![CertificateDer::from_pem_slice(ours.cert.pem().as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(ours.signing_key.serialize_pem().as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).expect("a configuration");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::new(bytes::Bytes::from(format!(
                        "{:?}\n",
                        request.version()
                    )))))
                });
                let http2 = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                tokio::spawn(http2.serve_connection(hyper_util::rt::TokioIo::new(stream), service));
                continue;
            }
            head(&mut stream).await;
            stream.write_all(OK).await.expect("writing");
            let _ = stream.shutdown().await;
        }
    });
    url.replace("http://127.0.0.1", "https://localhost")
}

#[tokio::test]
async fn an_https_upstream_is_believed_by_its_own_ca_and_shown_a_certificate() {
    let certificate = ["--upstream-certificate", "door.pem", "--upstream-private-key", "door.key"];
    let ca = ["--upstream-ca", "ca.pem"];
    for (name, protocols, flags, expected) in [
        ("localhost", &[&b"http/1.1"[..]][..], [&ca[..], &certificate].concat(), "ok\n"),
        ("localhost", &[], [&ca[..], &certificate].concat(), "ok\n"),
        ("localhost", &[b"h2", b"http/1.1"], [&ca[..], &certificate].concat(), "HTTP/2.0\n"),
        ("localhost", &[b"h2", b"http/1.1"], [&ca[..], &certificate, &["--upstream-protocol", "h1"]].concat(), "ok\n"),
        ("localhost", &[b"http/1.1"], ca.to_vec(), "the application did not answer properly\n"),
        ("other.test", &[b"http/1.1"], [&ca[..], &certificate].concat(), "the application did not answer properly\n"),
        (
            "localhost",
            &[b"http/1.1"],
            [&["--upstream-ca", "server.pem"][..], &certificate].concat(),
            "the application did not answer properly\n",
        ),
    ] {
        let folder = folder();
        let url = https_upstream(folder.path(), name, protocols).await;
        let server = Server::start_in(folder, &[&url], &flags);
        assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.text(), expected, "{name} {flags:?}");
    }
}

/// `0` is a name here, which the resolver turns into 0.0.0.0.
#[tokio::test]
async fn plain_http_leaves_the_machine_only_where_told_so_even_by_name() {
    let server = Server::start(&["http://0:1"], &[]);
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status, 502);
    until("why", || server.log().contains("its name leads to 0.0.0.0:1, which is not this machine's loopback")).await;
    let server = Server::start(&["http://0:1"], &["--unsafe-upstream"]);
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status, 503);
    for upstream in ["http://192.0.2.1:80", "http://[2001:db8::1]"] {
        let folder = folder();
        let refused = Command::new(env!("CARGO_BIN_EXE_ekm-otp-server"))
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--certificate",
                "server.pem",
                "--private-key",
                "server.key",
                "--secrets",
                "secrets.toml",
            ])
            .args(["--server-name", "proxy.test", "--upstream", upstream])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the server");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(64) && told.contains("--unsafe-upstream"), "{told}");
    }
}

/// An upstream that folds names as CGI has it, and is not ours: Python's WSGI server.
#[tokio::test]
async fn an_app_behind_pythons_wsgi_server_sees_the_verified_client_only() {
    let app = "import sys, json\nfrom wsgiref.simple_server import make_server, WSGIRequestHandler\n\
               class Quiet(WSGIRequestHandler):\n    def log_message(self, *a): pass\n\
               def app(environ, start):\n    start('200 OK', [('Content-Type', 'application/json')])\n    \
               return [json.dumps({k: v for k, v in environ.items() if k.startswith('HTTP_')}).encode()]\n\
               s = make_server('127.0.0.1', 0, app, handler_class=Quiet)\nprint(s.server_port, flush=True)\ns.serve_forever()\n";
    let mut python =
        Command::new("python3").args(["-c", app]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3 (Debian: python3)");
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(python.stdout.take().expect("its output")), &mut port).expect("a port");
    let server = Server::start(&[&format!("http://127.0.0.1:{}", port.trim())], &["--identity-client", "X-Forwarded-User"]);
    let forged = "X-Forwarded-User: forged\r\nX_Forwarded_User: forged\r\nX_Forwarded-User: forged\r\nEkm_Otp_Key_Id: forged\r\nHttp_X_Forwarded_User: a\r\n";
    let answer = server.ask(ALICE, &format!("GET / HTTP/1.1\r\n{forged}"), b"").await;
    let _ = python.kill();
    let _ = python.wait();
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&seen["HTTP_X_FORWARDED_USER"], &seen["HTTP_EKM_OTP_KEY_ID"]), (&"alice".into(), &ALICE.into()), "{seen}");
    assert!(!answer.text().contains("forged"), "{seen}");
}

/// nginx as the upstream: keep-alive, ranges, chunked answers and uploads of somebody else's making.
#[tokio::test]
async fn nginx_serves_behind_the_proxy() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let at = folder.path().display();
    fs::write(folder.path().join("file"), vec![b'x'; 3_000_000]).expect("writing");
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr warn; events {{}}\nhttp {{ access_log off; client_body_temp_path {at}; \
         proxy_temp_path {at}; fastcgi_temp_path {at}; uwsgi_temp_path {at}; scgi_temp_path {at}; server {{ listen 127.0.0.1:{port}; root {at}; \
         location = /who {{ return 200 $http_ekm_otp_client; }} }} }}\n"
    );
    fs::write(folder.path().join("nginx.conf"), text).expect("writing");
    let mut nginx = Command::new("nginx")
        .args(["-p", &at.to_string(), "-c", "nginx.conf", "-e", "stderr"])
        .stdin(Stdio::null())
        .spawn()
        .expect("nginx (Debian: nginx-light)");
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(std::time::Instant::now() < end, "nginx does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let server = Server::start(&[&format!("http://127.0.0.1:{port}")], &[]);
    let mut client = server.connect(ALICE, false).await;
    let otp = client.otp.clone();
    let mut ask = async |head: &str| {
        client.send(&format!("{head}Authorization: {otp}\r\n"), b"").await;
        client.answer().await
    };
    assert_eq!(ask("GET /who HTTP/1.1\r\n").await.text(), "alice");
    assert_eq!(ask("GET /file HTTP/1.1\r\n").await.body.len(), 3_000_000);
    let part = ask("GET /file HTTP/1.1\r\nRange: bytes=5-9\r\n").await;
    assert_eq!((part.status, part.field("content-range"), part.body.len()), (206, Some("bytes 5-9/3000000"), 5));
    assert_eq!(ask("GET /missing HTTP/1.1\r\n").await.status, 404);
    let _ = nginx.kill();
    let _ = nginx.wait();
    assert_eq!(ask("GET /who HTTP/1.1\r\n").await.status, 503);
}

#[tokio::test]
async fn an_upstreams_connection_is_used_again() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let mut client = server.connect(ALICE, false).await;
    let otp = client.otp.clone();
    for _ in 0..20 {
        client.send(&format!("POST / HTTP/1.1\r\nContent-Length: 2\r\nAuthorization: {otp}\r\n"), b"hi").await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!((upstream.requests().len(), upstream.connections.load(Ordering::SeqCst)), (20, 1));
}

/// It accepts, and never begins TLS.
#[tokio::test]
async fn who_waits_for_a_connection_that_fails_fails_with_it() {
    let silent = listen().await;
    let server = Server::start(
        &[&silent.1.replace("http://127.0.0.1", "https://localhost")],
        &["--connect-timeout", "1", "--upstream-ca", "server.pem"],
    );
    let server = &server;
    let ask = async || server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status;
    // One after the other they would take longer than the helper waits.
    let statuses = futures_util::future::join_all((0..60).map(|_| ask())).await;
    assert!(statuses.iter().all(|status| *status == 504), "{statuses:?}");
}

#[test]
fn an_empty_list_of_allowed_clients_is_a_mistake_and_allows_nobody() {
    let folder = folder();
    let text = "server_names = [\"proxy.test\"]\ncertificate = \"server.pem\"\nprivate_key = \"server.key\"\nsecrets = \"secrets.toml\"\nupstream = \"demo\"\nallow = []\n";
    fs::write(folder.path().join("server.toml"), text).expect("writing");
    let refused = Command::new(env!("CARGO_BIN_EXE_ekm-otp-server"))
        .args(["run", "--listen", "127.0.0.1:0", "--config", "server.toml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("the server");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && told.contains("names nobody"), "{told}");
}
