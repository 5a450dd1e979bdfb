//! axum apps: by `EkmServer`, by `axum::serve`, and in tests of their own.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router, ServiceExt as _};
use common::{Answer, Client, HOST, KID, Pki, authentication_of, request, secret_of};
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::protocol::{KeyId, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_tower::{
    Authentication, ConnectionAuthenticator, EkmAcceptor, EkmListener, EkmOtpLayer, EkmServer, MemoryStore, RegisteredKey, VerifiedClaims,
    VerifiedClient, layer_stands_before,
};
use hyper::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_layer::Layer as _;

const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"h2"];

fn store() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(KeyId::new(KID).expect("a key id"), "Alice", secret_of(KID))).expect("a key");
    Arc::new(store)
}

struct App {
    address: SocketAddr,
    pki: Pki,
    serving: JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl App {
    async fn by_server(router: Router, set: impl FnOnce(EkmServer) -> EkmServer) -> Self {
        let pki = Pki::new();
        let server = set(EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).store(store()));
        let bound = server.bind("127.0.0.1:0").await.expect("a server");
        let address = bound.local_addr();
        let serving = tokio::spawn(async move { bound.serve_axum(router).await.expect("no error") });
        Self { address, pki, serving }
    }

    /// As axum itself serves it.
    async fn by_axum<S>(app: S, set: impl FnOnce(Authentication) -> Authentication) -> Self
    where
        S: tower_service::Service<Request, Response = Response, Error = std::convert::Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let (pki, policy) = (Pki::new(), TlsPolicy::default());
        let acceptor = EkmAcceptor::new(pki.server_config(&policy), policy, set(authentication_of(store())));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = tcp.local_addr().expect("an address");
        let app = app.into_make_service_with_connect_info::<ConnectionAuthenticator>();
        let serving = tokio::spawn(async move { axum::serve(EkmListener::new(tcp, acceptor), app).await.expect("no error") });
        Self { address, pki, serving }
    }

    async fn connect(&self, alpn: &[u8]) -> Client {
        let policy = TlsPolicy::default();
        Client::connect(self.address, self.pki.client_config(&policy, alpn), HOST, policy).await.expect("a TLS connection")
    }

    async fn get(&self, path: &str, alpn: &[u8], shows: Shows) -> Answer {
        let mut client = self.connect(alpn).await;
        let credential = match shows {
            Shows::Nothing => None,
            Shows::Password => Some(client.credential(KID)),
            Shows::Token => {
                let signer = client.signer(KID, CredentialKind::Jws);
                Some(signer.sign_with(1, "GET", path, &format!("https://{HOST}"), 0, &Default::default()))
            }
        };
        client.send(request(path, credential.as_deref())).await.expect("an answer")
    }
}

#[derive(Clone, Copy)]
enum Shows {
    Nothing,
    Password,
    Token,
}

async fn who(client: VerifiedClient) -> String {
    format!("{} {}", client.kid(), client.client())
}

async fn who_if_any(client: Option<VerifiedClient>) -> String {
    client.map_or_else(|| "nobody".to_owned(), |client| client.client().to_owned())
}

async fn claims(claims: VerifiedClaims) -> String {
    format!("{:?}", claims.n())
}

async fn claims_if_any(claims: Option<VerifiedClaims>) -> String {
    format!("{:?}", claims.map(|claims| claims.n()))
}

fn app() -> Router {
    Router::new()
        .route("/", get(who))
        .route("/any", get(who_if_any))
        .route("/claims", get(claims))
        .route("/any-claims", get(claims_if_any))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()))
}

fn kinds(authentication: Authentication) -> Authentication {
    authentication.kinds([CredentialKind::Otp, CredentialKind::Jws])
}

async fn handlers_learn_what_they_ask_for(app: &App) {
    for alpn in PROTOCOLS {
        for (path, shows, body) in [
            ("/", Shows::Password, "client1 Alice"),
            ("/", Shows::Token, "client1 Alice"),
            ("/any", Shows::Password, "Alice"),
            ("/any", Shows::Nothing, "nobody"),
            ("/claims", Shows::Token, "Some(1)"),
            ("/any-claims", Shows::Token, "Some(Some(1))"),
            ("/any-claims", Shows::Password, "None"),
            ("/any-claims", Shows::Nothing, "None"),
            ("/peer", Shows::Password, "127.0.0.1"),
            ("/peer", Shows::Nothing, "127.0.0.1"),
        ] {
            let answer = app.get(path, alpn, shows).await;
            assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, body), "{path}");
        }
        for (path, shows, error) in
            [("/", Shows::Nothing, ""), ("/claims", Shows::Nothing, ""), ("/claims", Shows::Password, ", error=\"credential\"")]
        {
            let answer = app.get(path, alpn, shows).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            let challenge = answer.challenge().expect("a challenge");
            assert!(challenge.starts_with("EKM-OTP realm=") && challenge.ends_with(&format!("\"{error}")), "{path}: {challenge}");
            assert!(answer.body.starts_with("this resource needs"), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn handlers_learn_their_client_its_claims_and_its_address_by_the_server() {
    let app = App::by_server(app(), |server| server.authentication(kinds).open_to(|_, _| true)).await;
    handlers_learn_what_they_ask_for(&app).await;
}

#[tokio::test]
async fn handlers_learn_their_client_its_claims_and_its_address_by_axum_serve() {
    let app = App::by_axum(EkmOtpLayer::new().layer(app()), |a| kinds(a).open_to(|_, _| true)).await;
    handlers_learn_what_they_ask_for(&app).await;
    let app = App::by_axum(self::app().layer(EkmOtpLayer::new().optional()), kinds).await;
    handlers_learn_what_they_ask_for(&app).await;
}

/// Routers that a layer of their own is easily added to in the wrong place.
fn shapes() -> [Router; 4] {
    let nested = || Router::new().route("/who", get(who));
    [
        Router::new().route("/a/who", get(who)),
        Router::new().nest("/a", nested()),
        Router::new().nest("/a", Router::new().route("/who", get(who)).route_layer(from_fn(async |r: Request, n: Next| n.run(r).await))),
        Router::new().nest("/a", nested()).fallback(async || StatusCode::IM_A_TEAPOT),
    ]
}

async fn the_probe_and_the_routes_answer(app: &App) {
    for alpn in PROTOCOLS {
        let probed = app.get(WELL_KNOWN_PATH, alpn, Shows::Password).await;
        assert_eq!((probed.status, probed.has_proof()), (StatusCode::NO_CONTENT, true));
        for shows in [Shows::Password, Shows::Token] {
            assert_eq!(app.get("/a/who", alpn, shows).await.body, "client1 Alice", "a token covers the whole path, nested or not");
        }
        for path in ["/a/who", "/nowhere", "/a/nowhere", WELL_KNOWN_PATH] {
            assert_eq!(app.get(path, alpn, Shows::Nothing).await.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
}

#[tokio::test]
async fn the_probe_works_under_nest_route_layer_and_without_a_fallback() {
    for router in shapes() {
        the_probe_and_the_routes_answer(&App::by_server(router, |server| server.authentication(kinds)).await).await;
    }
    for router in shapes() {
        the_probe_and_the_routes_answer(&App::by_axum(EkmOtpLayer::new().layer(router), kinds).await).await;
    }
}

#[tokio::test]
async fn a_layer_of_the_apps_own_is_no_harm_within_the_servers() {
    let app = App::by_server(app().layer(EkmOtpLayer::new()), |server| server.authentication(kinds).open_to(|_, _| true)).await;
    handlers_learn_what_they_ask_for(&app).await;
    let open_and_shut = Router::new()
        .route("/open", get(who_if_any))
        .merge(Router::new().route("/shut", get(who_if_any)).route_layer(EkmOtpLayer::new().required()));
    let app = App::by_server(open_and_shut, |server| server.open_to(|_, _| true)).await;
    assert_eq!(app.get("/open", b"h2", Shows::Nothing).await.body, "nobody");
    assert_eq!(app.get("/shut", b"h2", Shows::Nothing).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.get("/shut", b"h2", Shows::Password).await.body, "Alice");
}

#[tokio::test]
async fn a_handler_that_asks_for_its_client_does_not_run_without_a_layer() {
    let app = App::by_axum(app(), kinds).await;
    for path in ["/", "/any", "/claims", "/any-claims"] {
        let answer = app.get(path, b"http/1.1", Shows::Password).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(answer.body.contains("no EKM-OTP layer stands before this route"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_layer_that_is_missing_is_found_at_start() {
    let layer = EkmOtpLayer::new;
    let routes = || Router::new().route("/", get(who)).route("/b", get(who));
    let paths = ["/", "/b", "/nowhere"];
    layer_stands_before::<_, Body, _>(&layer().layer(routes()), paths).await.expect("it stands before everything");
    layer_stands_before::<_, Body, _>(&routes().layer(layer()), paths).await.expect("it stands before everything");

    let found = async |router: Router| layer_stands_before::<_, Body, _>(&router, paths).await.expect_err("it is missing").path;
    assert_eq!(found(routes()).await, WELL_KNOWN_PATH);
    assert_eq!(found(routes().route_layer(layer())).await, WELL_KNOWN_PATH, "route_layer leaves out what is no route");
    assert_eq!(found(Router::new().nest("/a", routes().layer(layer()))).await, WELL_KNOWN_PATH);
    assert_eq!(found(Router::new().route("/", get(who)).layer(layer()).route("/b", get(who))).await, "/b", "added after the layer");
}

#[tokio::test]
async fn a_layer_outside_sees_in_the_response_whom_it_was_for() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let trace = from_fn(move |request: Request, next: Next| {
        let sees = Arc::clone(&sees);
        async move {
            let response = next.run(request).await;
            let client = response.extensions().get::<VerifiedClient>().map(|client| client.client().to_owned());
            sees.lock().expect("no panic").push((response.status().as_u16(), client));
            response
        }
    });
    let app = App::by_axum(app().layer(EkmOtpLayer::new()).layer(trace), kinds).await;
    app.get("/", b"h2", Shows::Password).await;
    app.get("/", b"h2", Shows::Nothing).await;
    app.get("/nowhere", b"h2", Shows::Password).await;
    app.get(WELL_KNOWN_PATH, b"h2", Shows::Password).await;
    let alice = || Some("Alice".to_owned());
    assert_eq!(*seen.lock().expect("no panic"), [(200, alice()), (401, None), (404, alice()), (204, alice())]);
}

#[tokio::test]
async fn a_handlers_own_401_and_a_connection_that_goes_on_asking_end_the_connection_like_the_layers() {
    let app = App::by_server(app(), |server| server.authentication(|a| a.max_failures(3).open_to(|_, _| true))).await;
    let mut client = app.connect(b"http/1.1").await;
    for _ in 0..3 {
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    }
    client.connection.await.expect("no panic").expect("it was closed gracefully");
}

#[tokio::test]
async fn the_credential_reaches_no_handler() {
    let shown = get(async |headers: header::HeaderMap| headers.contains_key(header::AUTHORIZATION).to_string());
    let app = App::by_server(Router::new().route("/", shown), |server| server.authentication(kinds).open_to(|_, _| true)).await;
    for shows in [Shows::Password, Shows::Token, Shows::Nothing] {
        assert_eq!(app.get("/", b"h2", shows).await.body, "false");
    }
}

#[tokio::test]
async fn an_extension_is_there_for_handlers_that_take_it_as_such() {
    let app = Router::new().route("/", get(async |Extension(client): Extension<VerifiedClient>| client.client().to_owned()));
    assert_eq!(App::by_server(app, |server| server).await.get("/", b"h2", Shows::Password).await.body, "Alice");
}
