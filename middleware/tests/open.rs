//! Routes that need no credential: what passes there, and what does not.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, HOST, KID, TestServer, Unserved, authentication_of, request};
use ekm_otp_tower::protocol::{KeyId, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_tower::{Authentication, EkmOtpLayer, MemoryStore, RegisteredKey, Unverified, VerifiedClient};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Bytes;
use hyper::service::{Service as _, service_fn};
use hyper::{Method, Request, Response, StatusCode, header};
use tower_layer::Layer as _;

const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"h2"];

fn open_healthz(authentication: Authentication) -> Authentication {
    authentication.open_to(|method, target| method == Method::GET && target.path() == "/healthz")
}

async fn server() -> TestServer {
    TestServer::with(TlsPolicy::default(), open_healthz, |acceptor| acceptor).await
}

async fn answer(server: &TestServer, alpn: &[u8], request: Request<Empty<Bytes>>) -> Answer {
    server.connect_as(HOST, alpn).await.send(request).await.expect("an answer")
}

#[tokio::test]
async fn an_open_route_needs_no_credential_and_all_others_do() {
    let server = server().await;
    for alpn in PROTOCOLS {
        let open = answer(&server, alpn, request("/healthz", None)).await;
        assert_eq!((open.status, open.body.as_str()), (StatusCode::OK, "nobody 127.0.0.1 false"));
        assert!(!open.has_proof(), "there is nobody to prove anything to");
        let mut other_method = request("/healthz", None);
        *other_method.method_mut() = Method::DELETE;
        for other in
            [request("/", None), request("/healthz/", None), request("/healthz/more", None), request(WELL_KNOWN_PATH, None), other_method]
        {
            let (method, path) = (other.method().clone(), other.uri().clone());
            let refused = answer(&server, alpn, other).await;
            assert_eq!((refused.status, refused.challenge().is_some()), (StatusCode::UNAUTHORIZED, true), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_open_to_everything_still_keeps_its_well_known_resource_for_the_proof() {
    let server = TestServer::with(TlsPolicy::default(), |a| a.open_to(|_, _| true), |a| a).await;
    for alpn in PROTOCOLS {
        for reserved in [WELL_KNOWN_PATH, "/.well-known/ekm-otp/", "/.well-known/ekm-otp/tcp/db/22?x=/"] {
            assert_eq!(answer(&server, alpn, request(reserved, None)).await.status, StatusCode::UNAUTHORIZED, "{reserved}");
        }
        assert_eq!(answer(&server, alpn, request("/.well-known/ekm-otp2", None)).await.status, StatusCode::OK);
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        let probed = client.send(request(WELL_KNOWN_PATH, Some(&credential))).await.expect("an answer");
        assert_eq!((probed.status, probed.has_proof()), (StatusCode::NO_CONTENT, true));
    }
}

#[tokio::test]
async fn a_right_credential_is_verified_on_an_open_route_too_and_does_not_reach_the_application() {
    let server = server().await;
    for alpn in PROTOCOLS {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        let answer = client.send(request("/healthz", Some(&credential))).await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "client1 owner of client1 false"));
        assert!(answer.has_proof());
        // On the same connection, a request without a credential is nobody's.
        let answer = client.send(request("/healthz", None)).await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nobody 127.0.0.1 false"));
    }
}

#[tokio::test]
async fn a_wrong_credential_and_another_schemes_are_refused_on_an_open_route() {
    let server = server().await;
    for alpn in PROTOCOLS {
        let of_another_connection = server.connect().await.credential(KID);
        for wrong in [of_another_connection.as_str(), "EKM-OTP", "Bearer abc", "Basic dTpw", ""] {
            let refused = answer(&server, alpn, request("/healthz", Some(wrong))).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{wrong:?}");
        }
        let mut twice = request("/healthz", Some(&of_another_connection));
        twice.headers_mut().append(header::AUTHORIZATION, "Bearer abc".parse().expect("a value"));
        assert_eq!(answer(&server, alpn, twice).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn an_open_route_is_open_on_the_servers_own_names_only() {
    let server = server().await;
    let mut misdirected = request("/healthz", None);
    misdirected.headers_mut().insert(header::HOST, "stranger.test".parse().expect("a value"));
    assert_eq!(answer(&server, b"http/1.1", misdirected).await.status, StatusCode::MISDIRECTED_REQUEST);
    let mut hostless = request("/healthz", None);
    hostless.headers_mut().remove(header::HOST);
    assert_eq!(answer(&server, b"http/1.1", hostless).await.status, StatusCode::BAD_REQUEST);

    let mut of_stranger = request("/healthz", None);
    of_stranger.headers_mut().insert(header::HOST, "stranger.test".parse().expect("a value"));
    let answer = server.connect_as("stranger.test", b"http/1.1").await.send(of_stranger).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn connect_is_refused_where_everything_is_open() {
    let server = TestServer::with(TlsPolicy::default(), |a| a.open_to(|_, _| true), |a| a).await;
    let (mut stream, _) = server.tls(b"http/1.1").await;
    let (head, _) = common::ask(&mut stream, "CONNECT localhost:443 HTTP/1.1", &[]).await;
    assert!(!head.starts_with("HTTP/1.1 2"), "{head}");
}

#[tokio::test]
async fn open_requests_are_no_failures() {
    let server = TestServer::with(TlsPolicy::default(), |a| open_healthz(a).max_failures(2), |a| a).await;
    let mut client = server.connect().await;
    for _ in 0..20 {
        assert_eq!(client.send(request("/healthz", None)).await.expect("an answer").status, StatusCode::OK);
    }
}

fn store() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    let kid = KeyId::new(KID).expect("a key id");
    store.add(RegisteredKey::new(kid, "Alice", common::secret_of(KID))).expect("a key");
    Arc::new(store)
}

/// What a layer around another answers: whom the application was told of, and whom the layers outside are.
fn through(outer: EkmOtpLayer, inner: EkmOtpLayer, request: Request<Empty<Bytes>>) -> (StatusCode, String, Option<String>) {
    let app = service_fn(|request: Request<Empty<Bytes>>| async move {
        let extensions = request.extensions();
        let client = extensions.get::<VerifiedClient>().map_or("nobody", VerifiedClient::client);
        assert_eq!(client == "nobody", extensions.get::<Unverified>().is_some());
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(client.to_owned())))
    });
    let answer = outer.layer(inner.layer(app)).call(request).now_or_never().expect("nothing is waited for").expect("infallible");
    let shown = answer.extensions().get::<VerifiedClient>().map(|client| client.client().to_owned());
    let status = answer.status();
    let body = answer.into_body().collect().now_or_never().expect("it is there").expect("infallible").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"), shown)
}

#[tokio::test]
async fn one_layer_within_another_verifies_once_and_a_required_one_refuses_what_an_open_one_let_pass() {
    let store = store();
    let unserved = Unserved::accept(authentication_of(Arc::clone(&store) as Arc<_>)).await;
    let layer = || unserved.server.authenticator().layer();
    let credential = common::credential(&unserved.handshake, KID, KID);
    let right = || request("/", Some(&credential));

    for (outer, inner) in [(layer(), layer()), (layer().optional(), layer()), (layer(), layer().required()), (layer(), layer().optional())]
    {
        let (status, body, shown) = through(outer, inner, right());
        assert_eq!((status, body.as_str(), shown.as_deref()), (StatusCode::OK, "Alice", Some("Alice")));
    }
    assert_eq!(through(layer().optional(), layer().optional(), request("/", None)), (StatusCode::OK, "nobody".to_owned(), None));
    for (outer, inner) in [(layer().optional(), layer()), (layer().optional(), layer().required()), (layer(), layer().optional())] {
        assert_eq!(through(outer, inner, request("/", None)), (StatusCode::UNAUTHORIZED, String::new(), None));
    }
}

#[tokio::test]
async fn a_verified_client_of_another_connection_lets_no_request_pass() {
    let store = store();
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(Unserved::accept(authentication_of(Arc::clone(&store) as Arc<_>)).await);
    }
    let [first, second] = connections.as_slice() else { panic!("two") };
    let keep = |unserved: &Unserved| {
        let app = service_fn(|request: Request<Empty<Bytes>>| async move {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.extensions_mut() = request.extensions().clone();
            Ok::<_, Infallible>(response)
        });
        let credential = common::credential(&unserved.handshake, KID, KID);
        let answer = unserved.server.authenticator().layer().layer(app).call(request("/", Some(&credential)));
        answer.now_or_never().expect("nothing is waited for").expect("infallible").extensions().clone()
    };
    let (of_first, of_second) = (keep(first), keep(second));
    let status = |unserved: &Unserved, extensions: &http::Extensions| {
        let mut request = request("/", None);
        *request.extensions_mut() = extensions.clone();
        unserved.answer(request).status()
    };
    assert_eq!(status(first, &of_first), StatusCode::OK);
    assert_eq!(status(first, &of_second), StatusCode::UNAUTHORIZED);
    store.revoke(&KeyId::new(KID).expect("a key id"));
    assert_eq!(status(first, &of_first), StatusCode::UNAUTHORIZED, "revoked since");
}

/// Else a download from an open route would break off once nobody was verified for long enough.
#[tokio::test]
async fn a_connection_that_an_open_route_serves_goes_on_while_bytes_pass_and_ends_when_it_is_idle() {
    let within = Duration::from_millis(400);
    let server = TestServer::with(TlsPolicy::default(), |a| open_healthz(a).verified_within(within), |a| a).await;
    for alpn in PROTOCOLS {
        let mut client = server.connect_as(HOST, alpn).await;
        for _ in 0..16 {
            assert_eq!(client.send(request("/healthz", None)).await.expect("an answer").status, StatusCode::OK);
            tokio::time::sleep(within / 4).await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(30), client.connection).await.expect("the idle connection goes on");
    }
}
