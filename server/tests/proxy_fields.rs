//! What an app behind the proxy is told, and by whom: nobody but the proxy says who a client is.

mod proxied;

use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Method, Request};
use proxied::upstream::{OK, Recorder};
use proxied::{ALICE, BOB, Server, soon};

/// Names that an app could take for ours.
const FORGED: [&str; 24] = [
    "Ekm-Otp-Client",
    "EKM-OTP-CLIENT",
    "ekm_otp_client",
    "Ekm_Otp-Client",
    "Ekm.Otp.Client",
    "ekm~otp~client",
    "Ekm-Otp-Key-Id",
    "Ekm_Otp_Key_Id",
    "Ekm-Otp-Claims",
    "ekm_otp_claims",
    "Ekm-Otp-Role",
    "Client-Cert",
    "Client_Cert",
    "Client-Cert-Chain",
    "Forwarded",
    "X-Forwarded-For",
    "X_Forwarded_For",
    "X-Forwarded_Proto",
    "X-Forwarded-Host",
    "X-Forwarded-User",
    "X-Real-IP",
    "X_Real_IP",
    "X-Original-URL",
    "Proxy",
];

fn forged_fields() -> String {
    FORGED.iter().map(|name| format!("{name}: forged\r\n")).collect()
}

/// The request's fields, as (lower-case name, value).
fn fields(request: &str) -> Vec<(String, String)> {
    let head = request.split("\r\n\r\n").next().expect("a head");
    let lines = head.lines().skip(1).map(|line| line.split_once(": ").unwrap_or((line, "")));
    lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

fn field<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn forged_identity_fields_never_reach_the_upstream() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let head =
        format!("POST /a?b=%2F HTTP/1.1\r\n{}Connection: Ekm-Otp-Client, host, x-forwarded-for\r\nContent-Length: 2\r\n", forged_fields());
    let answer = server.ask(ALICE, &head, b"hi").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    assert!(answer.field("authentication-info").is_some(), "the server proves itself: {answer:?}");
    let request = upstream.request();
    assert!(!request.contains("forged") && !request.to_ascii_lowercase().contains("authorization"), "{request}");
    let got = fields(&request);
    assert_eq!(field(&got, "ekm-otp-client"), ["alice"]);
    assert_eq!(field(&got, "ekm-otp-key-id"), [ALICE]);
    assert_eq!(field(&got, "ekm-otp-claims"), Vec::<&str>::new(), "there was no token");
    let host = format!("proxy.test:{}", server.port);
    assert_eq!(field(&got, "host"), [&host], "Connection does not nominate Host");
    assert_eq!(field(&got, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(field(&got, "x-forwarded-proto"), ["https"]);
    assert_eq!(field(&got, "x-forwarded-host"), [&host]);
    assert_eq!(field(&got, "forwarded"), [format!("for=127.0.0.1;host=\"{host}\";proto=https")]);
}

#[tokio::test]
async fn forged_identity_fields_never_reach_the_upstream_by_http_2() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let (mut sender, otp, authority) = server.connect(BOB, true).await.http2().await;
    let mut request = Request::get(format!("https://{authority}/")).header("authorization", otp);
    for name in FORGED {
        request = request.header(name.to_ascii_lowercase(), "forged");
    }
    let request =
        request.header("cookie", "a=1").header("cookie", "b=2").body(Empty::new().map_err(|e| match e {}).boxed()).expect("a request");
    let answer = soon("an answer", sender.send_request(request)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let request = upstream.request();
    assert!(!request.contains("forged"), "{request}");
    let got = fields(&request);
    assert_eq!(field(&got, "ekm-otp-client"), ["B%C3%B6b%2C%20%22the%20100%25%20builder%22"]);
    assert_eq!(field(&got, "host"), [&authority]);
    assert_eq!(field(&got, "cookie"), ["a=1; b=2"], "crumbs are joined");
}

#[tokio::test]
async fn forged_identity_fields_in_trailers_never_reach_the_upstream() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum, {}\r\n", FORGED.join(", "));
    let body = format!("2\r\nhi\r\n0\r\nX-Checksum: 1\r\n{}Authorization: forged\r\n\r\n", forged_fields());
    assert_eq!(server.ask(ALICE, &head, body.as_bytes()).await.status, 200);
    let request = upstream.request();
    assert!(request.to_ascii_lowercase().ends_with("\r\n2\r\nhi\r\n0\r\nx-checksum: 1\r\n\r\n"), "{request}");
    assert!(!request.contains("forged"), "{request}");
    assert_eq!(field(&fields(&request), "trailer"), ["X-Checksum"]);

    let (mut sender, otp, authority) = server.connect(ALICE, true).await.http2().await;
    let mut trailers = HeaderMap::new();
    for name in FORGED.iter().chain(&["x-checksum"]) {
        trailers.insert(hyper::header::HeaderName::from_bytes(name.as_bytes()).expect("a name"), "forged".parse().expect("a value"));
    }
    let frames = [Ok(Frame::data("hi".into())), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let request = Request::builder().method(Method::POST).uri(format!("https://{authority}/")).header("authorization", otp);
    let request = request.header("trailer", "x-checksum").body(body).expect("a request");
    assert_eq!(soon("an answer", sender.send_request(request)).await.expect("an answer").status(), 200);
    let request = upstream.requests().pop().expect("a request");
    assert!(request.to_ascii_lowercase().ends_with("0\r\nx-checksum: forged\r\n\r\n"), "{request}");
    assert_eq!(request.matches("forged").count(), 1, "{request}");
}

#[tokio::test]
async fn the_identity_fields_names_are_settings_and_their_spellings_are_taken_away() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &["--identity-client", "Remote-User", "--identity-kid", "X-Key"]);
    let head =
        "GET / HTTP/1.1\r\nRemote_User: forged\r\nremote-user: forged\r\nX_KEY: forged\r\nX.Key: forged\r\nEkm-Otp-Client: forged\r\n";
    assert_eq!(server.ask(ALICE, head, b"").await.status, 200);
    let request = upstream.request();
    let got = fields(&request);
    assert!(!request.contains("forged"), "{request}");
    assert_eq!((field(&got, "remote-user"), field(&got, "x-key"), field(&got, "ekm-otp-client")), (vec!["alice"], vec![ALICE], vec![]));
}

#[tokio::test]
async fn the_claims_of_a_token_are_one_structured_field() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let mut connection = server.connect(ALICE, false).await;
    let token = connection.token("/x", 1, r#"{"role":"admin","note":"1 = \"one\", é","list":[1,null]}"#);
    connection.send(&format!("GET /x HTTP/1.1\r\nEkm-Otp-Claims: :Zm9yZ2Vk:\r\nAuthorization: {token}\r\n"), b"").await;
    assert_eq!(connection.answer().await.status, 200);
    let got = fields(&upstream.request());
    let [value] = field(&got, "ekm-otp-claims")[..] else { panic!("{got:?}") };
    // RFC 9651 §3.3.5: bytes between colons, as base64.
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value.trim_matches(':')).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(claims, serde_json::json!({ "role": "admin", "note": "1 = \"one\", \u{e9}", "list": [1, null] }));
}

#[tokio::test]
async fn the_target_is_handed_on_byte_for_byte_in_origin_form() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let absolute = format!("https://proxy.test:{}", server.port);
    for (sent, got) in [
        ("/a//b/../c/./%2e%2E/%2f?q=%zz&&=;'|!*", "/a//b/../c/./%2e%2E/%2f?q=%zz&&=;'|!*"),
        ("/", "/"),
        (&*format!("{absolute}/x?y"), "/x?y"),
        (&*format!("{absolute}?y"), "/?y"),
        (&*absolute, "/"),
    ] {
        let count = upstream.requests().len();
        assert_eq!(server.ask(ALICE, &format!("GET {sent} HTTP/1.1\r\n"), b"").await.status, 200, "{sent}");
        let requests = upstream.requests();
        assert_eq!((requests.len(), requests[count].lines().next()), (count + 1, Some(&*format!("GET {got} HTTP/1.1"))), "{sent}");
    }
    assert_eq!(server.ask(ALICE, "OPTIONS * HTTP/1.1\r\n", b"").await.status, 200);
    assert!(upstream.requests().pop().is_some_and(|request| request.starts_with("OPTIONS * HTTP/1.1\r\n")), "{:?}", upstream.requests());
}

#[tokio::test]
async fn what_an_upstream_says_in_our_name_is_taken_away() {
    let upstream = Recorder::start(
        b"HTTP/1.1 401 Unauthorized\r\nAuthentication-Info: proof=\"forged\"\r\nWWW-Authenticate: EKM-OTP realm=\"forged\", Basic realm=\"app\"\r\n\
          Alt-Svc: h3=\":443\"; ma=forged\r\nKeep-Alive: forged\r\nX-Hop: forged\r\nConnection: X-Hop\r\nX-App: 1\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let server = Server::start(&[&upstream.url()], &["--open", "GET=/open"]);
    let answer = server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await;
    assert_eq!((answer.status, answer.field("www-authenticate"), answer.field("x-app")), (401, Some("basic realm=\"app\""), Some("1")));
    assert!(!answer.head.contains("forged"), "{answer:?}");
    assert!(answer.field("authentication-info").is_some_and(|proof| proof.starts_with("proof=")), "{answer:?}");
    let answer = server.ask_unverified("GET /open HTTP/1.1\r\n").await;
    assert!(answer.status == 401 && !answer.head.contains("forged") && answer.field("authentication-info").is_none(), "{answer:?}");
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_keep_the_connection() {
    for (method, answer) in [
        ("HEAD", &b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"[..]),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1000\r\n\r\n"),
    ] {
        let upstream = Recorder::start(answer).await;
        let server = Server::start(&[&upstream.url()], &[]);
        let mut connection = server.connect(ALICE, false).await;
        let otp = connection.otp.clone();
        for _ in 0..3 {
            connection.send(&format!("{method} / HTTP/1.1\r\nAuthorization: {otp}\r\n"), b"").await;
            let head = soon("a head", proxied::upstream::head(&mut connection.tls)).await;
            let expected = String::from_utf8_lossy(answer);
            assert_eq!(head.lines().next(), expected.lines().next());
            assert_eq!(head.to_ascii_lowercase().contains("content-length: 1000"), method == "HEAD", "{head}");
        }
        assert_eq!(upstream.requests().len(), 3);
        assert_eq!(upstream.connections.load(std::sync::atomic::Ordering::SeqCst), 1, "{method}: the upstream's connection is used again");
    }
}
