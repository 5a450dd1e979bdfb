//! Handlers of an app, tested as the app's own tests do it: without TLS (feature `test-util`).

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::{EkmOtpLayer, Unverified, VerifiedClaims, VerifiedClient};
use http_body_util::BodyExt as _;
use hyper::{Request, StatusCode, header};
use tower_layer::Layer as _;
use tower_service::Service;

fn app() -> Router {
    Router::new()
        .route("/", get(async |client: VerifiedClient| client.client().to_owned()))
        .route("/any", get(async |client: Option<VerifiedClient>| client.map_or_else(String::new, |client| client.kid().to_string())))
        .route("/claims", get(async |claims: VerifiedClaims| claims.extra()["role"].to_string()))
}

async fn answer<S>(mut app: S, path: &str, extend: impl FnOnce(&mut hyper::http::Extensions)) -> (StatusCode, String)
where
    S: Service<Request<Body>, Response = axum::response::Response, Error = std::convert::Infallible>,
{
    let mut request = Request::get(path).header(header::HOST, "localhost").body(Body::empty()).expect("a request");
    extend(request.extensions_mut());
    let answer = app.call(request).await.expect("infallible");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[tokio::test]
async fn a_test_says_who_asks() {
    let alice = |extensions: &mut hyper::http::Extensions| {
        extensions.insert(VerifiedClient::for_test("client1", "Alice"));
        let role = [("role".to_owned(), "admin".into())].into_iter().collect();
        extensions.insert(VerifiedClaims::for_test(CredentialKind::Jws, role));
    };
    for (path, body) in [("/", "Alice"), ("/any", "client1"), ("/claims", "\"admin\"")] {
        assert_eq!(answer(app(), path, alice).await, (StatusCode::OK, body.to_owned()));
        assert_eq!(answer(EkmOtpLayer::new().layer(app()), path, alice).await, (StatusCode::OK, body.to_owned()), "with its layer");
    }
}

#[tokio::test]
async fn a_test_says_that_nobody_was_verified() {
    let nobody = |extensions: &mut hyper::http::Extensions| drop(extensions.insert(Unverified::for_test()));
    for app in [app(), app().layer(EkmOtpLayer::new())] {
        assert_eq!(answer(app.clone(), "/any", nobody).await, (StatusCode::OK, String::new()));
        assert_eq!(answer(app, "/", nobody).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(answer(app().layer(EkmOtpLayer::new().required()), "/any", nobody).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_test_that_says_nothing_is_told_what_is_missing() {
    for path in ["/", "/any", "/claims"] {
        let (status, body) = answer(app(), path, |_| ()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("no EKM-OTP layer"), "{body}");
    }
}
