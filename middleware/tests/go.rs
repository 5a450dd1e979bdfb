//! The profile `go`: what it takes, what it refuses, and that v1 goes on beside it as it was.
#![cfg(feature = "jose")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{HOST, KID, TestServer, Unserved};
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::protocol::go::{self, ApiKey, Usage};
use ekm_otp_tower::protocol::{Handshake, KeyId, Profile, Tag, TlsPolicy};
use ekm_otp_tower::{Authentication, MemoryStore, RegisteredKey};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use rustls::ClientConnection;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const GO_KID: &str = "gopher";

/// A server with a key for each wire.
async fn server_with(set: impl FnOnce(Authentication) -> Authentication) -> TestServer {
    let server = TestServer::with(TlsPolicy::default(), |authentication| set(authentication.kinds(CredentialKind::ALL)), |a| a).await;
    for kid in [GO_KID, "other-gopher"] {
        let key = RegisteredKey::new(KeyId::new(kid).expect("a key id"), kid, common::secret_of(kid)).with_profile(Profile::Go);
        server.store.add(key).expect("a new key");
    }
    server
}

async fn server() -> TestServer {
    server_with(switch_on).await
}

fn switch_on(authentication: Authentication) -> Authentication {
    authentication.profile_go(Some(KeyId::new(GO_KID).expect("a key id")))
}

/// One connection of a Go client.
struct Gopher {
    stream: TlsStream<TcpStream>,
    handshake: Handshake,
}

type Fields = Vec<(&'static str, Vec<u8>)>;

impl Gopher {
    async fn connect(server: &TestServer) -> Self {
        Self::connect_as(HOST, server).await
    }

    /// `host` is what the ClientHello names.
    async fn connect_as(host: &'static str, server: &TestServer) -> Self {
        let (stream, handshake) = server.tls_as(host, b"http/1.1").await;
        Self { stream, handshake }
    }

    /// The fields of one request.
    fn fields(&self, kind: CredentialKind, kid: &str, secret_of: &str, claims: &Value) -> Fields {
        fields(self.stream.get_ref().1, kind, kid, secret_of, claims)
    }

    async fn send(&mut self, fields: &[(&'static str, Vec<u8>)]) -> (String, String) {
        self.ask("GET / HTTP/1.1", fields).await
    }

    async fn ask(&mut self, line: &str, fields: &[(&'static str, Vec<u8>)]) -> (String, String) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        common::ask(&mut self.stream, line, &fields).await
    }
}

/// The fields of one request on this connection.
fn fields(connection: &ClientConnection, kind: CredentialKind, kid: &str, secret_of: &str, claims: &Value) -> Fields {
    let mac = |usage: Usage<'_>| -> Tag {
        let mut ekm = [0; 32];
        connection.export_keying_material(&mut ekm, usage.label(), Some(usage.context())).expect("keying material");
        common::secret_of(secret_of).mac(&usage.mac_input(&ekm))
    };
    let id = KeyId::new(kid).expect("a key id");
    if kind == CredentialKind::Otp {
        let key = ApiKey::new(mac(Usage::ApiKey(&id))).encode();
        return vec![("client", kid.into()), ("apikey", key.as_bytes().to_vec())];
    }
    let mut token = go::sign(&mac(Usage::Signing), claims.as_object().expect("an object")).expect("a token");
    if kind == CredentialKind::Jwe {
        token = go::encrypt(&mac(Usage::Encryption), &id, &token).expect("a token");
    }
    vec![("authorization", format!("Bearer {}", *token).into_bytes())]
}

fn claims() -> Value {
    json!({"iss": "issuer", "sub": "subject"})
}

fn status((head, _): &(String, String)) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn each_kind_is_taken_again_and_again_and_nothing_is_proved() {
    let server = server().await;
    for kind in CredentialKind::ALL {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, GO_KID, GO_KID, &claims());
        for _ in 0..3 {
            let answer = gopher.send(&fields).await;
            assert_eq!(status(&answer), "200", "{kind}");
            assert!(!answer.0.contains("authentication-info"), "{kind}");
            let told =
                if kind == CredentialKind::Otp { String::new() } else { format!(r#" {kind} n=None {{"iss":"issuer","sub":"subject"}}"#) };
            assert_eq!(answer.1, format!("gopher gopher false{told}"));
        }
    }
}

#[tokio::test]
async fn each_failure_is_401_with_the_same_bytes() {
    let server = server().await;
    let missing = Gopher::connect(&server).await.send(&[]).await;
    assert_eq!(status(&missing), "401");
    for kind in CredentialKind::ALL {
        // Of another connection.
        let fields = Gopher::connect(&server).await.fields(kind, GO_KID, GO_KID, &claims());
        assert_eq!(Gopher::connect(&server).await.send(&fields).await, missing, "{kind}: another connection's");
        for (fault, kid, secret_of) in
            [("another secret", GO_KID, "other-gopher"), ("unknown", "nobody", "nobody"), ("a key of v1", KID, KID)]
        {
            let mut gopher = Gopher::connect(&server).await;
            let fields = gopher.fields(kind, kid, secret_of, &claims());
            assert_eq!(gopher.send(&fields).await, missing, "{kind}: {fault}");
        }
    }
    for (fault, expired) in [
        ("expired", json!({"exp": 1000})),
        ("not yet valid", json!({"nbf": 99_999_999_999_u64})),
        ("exp is no number", json!({"exp": "x"})),
    ] {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(CredentialKind::Jws, GO_KID, GO_KID, &expired);
        assert_eq!(gopher.send(&fields).await, missing, "{fault}");
    }
    type Fault = fn(Fields) -> Fields;
    let faults: [(&str, CredentialKind, Fault); 14] = [
        ("no client", CredentialKind::Otp, |key| vec![key[1].clone()]),
        ("client twice", CredentialKind::Otp, |key| vec![key[0].clone(), key[0].clone(), key[1].clone()]),
        ("apikey twice", CredentialKind::Otp, |key| vec![key[0].clone(), key[1].clone(), key[1].clone()]),
        ("apikey empty", CredentialKind::Otp, |key| vec![key[0].clone(), ("apikey", vec![])]),
        ("client is no key id", CredentialKind::Otp, |key| vec![("client", b"a b".to_vec()), key[1].clone()]),
        ("another client", CredentialKind::Otp, |key| vec![("client", b"other-gopher".to_vec()), key[1].clone()]),
        ("a token besides", CredentialKind::Otp, |key| [key, vec![("authorization", b"Bearer x".to_vec())]].concat()),
        ("another scheme besides", CredentialKind::Otp, |key| [key, vec![("authorization", b"Basic x".to_vec())]].concat()),
        ("an empty field besides", CredentialKind::Otp, |key| [key, vec![("authorization", vec![])]].concat()),
        ("two tokens", CredentialKind::Jws, |token| [token.clone(), token].concat()),
        ("a scheme alone", CredentialKind::Jws, |_| vec![("authorization", b"Bearer".to_vec())]),
        ("an empty token", CredentialKind::Jws, |_| vec![("authorization", b"Bearer ".to_vec())]),
        ("four parts", CredentialKind::Jws, |token| vec![("authorization", [&*token[0].1, b".d"].concat())]),
        ("six parts", CredentialKind::Jwe, |token| vec![("authorization", [&*token[0].1, b".f"].concat())]),
    ];
    for (fault, kind, spoil) in faults {
        // On the connection that they were made on: nothing but the fault is wrong with them.
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, GO_KID, GO_KID, &claims());
        assert_eq!(gopher.send(&spoil(fields.clone())).await, missing, "{fault}");
        assert_eq!(status(&gopher.send(&fields).await), "200", "without the fault: {fault}");
    }
}

#[tokio::test]
async fn what_stands_in_for_unknown_key_ids_is_refused() {
    let server = server_with(|authentication| authentication.profile_go(Some(KeyId::new(common::UNKNOWN).expect("a key id")))).await;
    let missing = Gopher::connect(&server).await.send(&[]).await;
    for kind in CredentialKind::ALL {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, common::UNKNOWN, common::DUMMY, &claims());
        assert_eq!(gopher.send(&fields).await, missing, "{kind}");
    }
}

#[tokio::test]
async fn a_connection_for_another_server_name_is_refused() {
    let server = server().await;
    let missing = Gopher::connect(&server).await.send(&[]).await;
    for kind in CredentialKind::ALL {
        let mut gopher = Gopher::connect_as("stranger.test", &server).await;
        let fields = gopher.fields(kind, GO_KID, GO_KID, &claims());
        assert_eq!(gopher.send(&fields).await, missing, "{kind}");
    }
}

#[tokio::test]
async fn the_probe_is_answered_without_a_proof_and_never_reaches_the_application() {
    let server = server().await;
    for kind in CredentialKind::ALL {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, GO_KID, GO_KID, &claims());
        let answer = gopher.ask("GET /.well-known/ekm-otp HTTP/1.1", &fields).await;
        assert_eq!((status(&answer), &*answer.1), ("204", ""), "{kind}");
        assert!(!answer.0.contains("authentication-info"), "{kind}");
        assert_eq!(status(&gopher.ask("POST /.well-known/ekm-otp HTTP/1.1", &fields).await), "405", "{kind}");
        assert_eq!(status(&gopher.ask("GET localhost HTTP/1.1", &fields).await), "400", "{kind}: an authority as the target");
    }
}

#[tokio::test]
async fn fields_beside_an_authorization_count_for_nothing_and_never_reach_the_application() {
    let server = server().await;
    let beside = [("client", b"root".to_vec()), ("apikey", b"x".to_vec())];
    for kind in [CredentialKind::Jws, CredentialKind::Jwe] {
        let mut gopher = Gopher::connect(&server).await;
        let fields = [gopher.fields(kind, GO_KID, GO_KID, &claims()), beside.to_vec()].concat();
        let told = format!(r#"gopher gopher false {kind} n=None {{"iss":"issuer","sub":"subject"}}"#);
        assert_eq!(gopher.send(&fields).await.1, told, "{kind}");
    }
    let mut gopher = Gopher::connect(&server).await;
    let v1 = ("authorization", common::credential(&gopher.handshake, KID, KID).into_bytes());
    for beside in [&beside[..1], &beside] {
        let fields = [std::slice::from_ref(&v1), beside].concat();
        assert_eq!(gopher.send(&fields).await.1, "client1 owner of client1 false");
    }
    // A token beside an API key is no API key.
    let server = server_with(|authentication| switch_on(authentication.kinds([CredentialKind::Otp]))).await;
    let mut gopher = Gopher::connect(&server).await;
    let fields = [gopher.fields(CredentialKind::Jws, GO_KID, GO_KID, &claims()), beside.to_vec()].concat();
    assert!(gopher.send(&fields).await.0.contains("error=\"credential\""));
}

#[tokio::test]
async fn the_scheme_is_case_insensitive() {
    let server = server().await;
    for scheme in ["bearer ", "BEARER   "] {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(CredentialKind::Jws, GO_KID, GO_KID, &claims());
        let token = String::from_utf8(fields[0].1.clone()).expect("ASCII").replace("Bearer ", scheme);
        assert_eq!(status(&gopher.send(&[("authorization", token.into_bytes())]).await), "200", "{scheme}");
    }
}

#[tokio::test]
async fn the_leeway_holds_here_too() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    for (leeway, age, expected) in [(60, 50, "200"), (60, 70, "401"), (0, 10, "401"), (600, 590, "200"), (600, 610, "401")] {
        let server = server_with(|authentication| switch_on(authentication.leeway(Duration::from_secs(leeway)))).await;
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(CredentialKind::Jws, GO_KID, GO_KID, &json!({"exp": now - age}));
        assert_eq!(status(&gopher.send(&fields).await), expected, "{leeway} s, expired {age} s ago");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_503() {
    let authentication = switch_on(common::authentication_of(Arc::new(common::Down)).kinds(CredentialKind::ALL));
    let server = TestServer::serving(TlsPolicy::default(), Arc::default(), authentication, |a| a, common::LIMITS).await;
    for kind in CredentialKind::ALL {
        for kid in [GO_KID, "nobody"] {
            let mut gopher = Gopher::connect(&server).await;
            let fields = gopher.fields(kind, kid, kid, &claims());
            let (head, _) = gopher.send(&fields).await;
            assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: "), "{kind}, {kid}: {head}");
        }
    }
}

#[tokio::test]
async fn a_connection_keeps_an_exporter_only_where_it_is_switched_on_and_none_keeps_the_connection_open() {
    for is_on in [false, true] {
        let authentication = common::authentication_of(Arc::new(MemoryStore::new()));
        let unserved = Unserved::accept(if is_on { switch_on(authentication) } else { authentication }).await;
        let Unserved { server, mut client, .. } = unserved;
        // A stream that somebody else can reach is shared; one whose keying material was exported is owned.
        assert_eq!((format!("{server:?}").contains("Shared"), format!("{server:?}").contains("Owned")), (is_on, !is_on));
        let authenticator = server.authenticator().clone();
        drop(server);
        let end = tokio::time::timeout(Duration::from_secs(10), client.read_u8()).await;
        assert!(end.expect("the connection is kept open").is_err());
        drop(authenticator);
    }
}

#[tokio::test]
async fn a_connection_whose_first_requests_are_checked_in_parallel_belongs_to_one_client() {
    let store = server().await.store.clone();
    for _ in 0..100 {
        let authentication = switch_on(common::authentication_of(store.clone()).kinds(CredentialKind::ALL).max_failures(100));
        let unserved = Unserved::accept(authentication).await;
        let connection = unserved.client.get_ref().1;
        let request = |fields: &Fields| {
            let request = Request::get("/").header("host", HOST);
            let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, value.as_slice()));
            request.body(Empty::<Bytes>::new()).expect("a request")
        };
        let signer = common::Signer::of(&unserved.handshake, KID, KID, CredentialKind::Jws);
        let v1 = |credential: String| vec![("authorization", credential.into_bytes())];
        let mut credentials = Vec::new();
        for (n, kind) in (1..).zip(CredentialKind::ALL) {
            credentials.push((GO_KID, fields(connection, kind, GO_KID, GO_KID, &claims())));
            credentials.push((KID, v1(signer.sign(n))));
            credentials.push(("client2", v1(common::credential(&unserved.handshake, "client2", "client2"))));
        }
        let answers = unserved.answers(credentials.iter().map(|(_, fields)| request(fields)).collect());
        let mut passed: Vec<&str> =
            credentials.iter().zip(&answers).filter(|(_, status)| **status == StatusCode::OK).map(|((kid, _), _)| *kid).collect();
        assert!(answers.iter().all(|status| [StatusCode::OK, StatusCode::UNAUTHORIZED].contains(status)), "{answers:?}");
        passed.sort_unstable();
        assert_eq!(passed.len(), 3, "all of one client's, and no other's: {passed:?}");
        assert_eq!(passed.first(), passed.last());
    }
}

#[tokio::test]
async fn a_jws_without_a_default_key_id_is_refused_and_a_jwe_names_its_own() {
    let server = server_with(|authentication| authentication.profile_go(None)).await;
    for (kind, expected) in [(CredentialKind::Jws, "401"), (CredentialKind::Jwe, "200"), (CredentialKind::Otp, "200")] {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, "other-gopher", "other-gopher", &claims());
        assert_eq!(status(&gopher.send(&fields).await), expected, "{kind}");
    }
}

#[tokio::test]
async fn nothing_of_it_is_taken_unless_it_is_switched_on() {
    let server = server_with(|authentication| authentication).await;
    let missing = Gopher::connect(&server).await.send(&[]).await;
    for kind in CredentialKind::ALL {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, GO_KID, GO_KID, &claims());
        assert_eq!(gopher.send(&fields).await, missing, "{kind}");
    }
}

#[tokio::test]
async fn v1_goes_on_beside_it_and_takes_none_of_its_keys() {
    let server = server().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let others = client.credential(GO_KID);
        assert_eq!(client.get(&others).await.status, StatusCode::UNAUTHORIZED, "a key of the profile go");
        let credential = client.credential(KID);
        let answer = client.get(&credential).await;
        assert_eq!((answer.status, answer.has_proof(), answer.body.as_str()), (StatusCode::OK, true, "client1 owner of client1 false"));
        let token = client.signer(KID, CredentialKind::Jwe).sign(1);
        assert_eq!(client.get(&token).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_connection_belongs_to_one_client_across_the_wires() {
    let server = server().await;
    let mut gopher = Gopher::connect(&server).await;
    let go = gopher.fields(CredentialKind::Otp, GO_KID, GO_KID, &claims());
    let v1 = vec![("authorization", common::credential(&gopher.handshake, KID, KID).into_bytes())];
    assert_eq!(status(&gopher.send(&go).await), "200");
    assert_eq!(status(&gopher.send(&v1).await), "401");
    let other = gopher.fields(CredentialKind::Jwe, "other-gopher", "other-gopher", &claims());
    assert_eq!(status(&gopher.send(&other).await), "401");
    assert_eq!(status(&gopher.send(&go).await), "200");

    let mut gopher = Gopher::connect(&server).await;
    let go = gopher.fields(CredentialKind::Otp, GO_KID, GO_KID, &claims());
    let v1 = vec![("authorization", common::credential(&gopher.handshake, KID, KID).into_bytes())];
    assert_eq!(status(&gopher.send(&v1).await), "200");
    assert_eq!(status(&gopher.send(&go).await), "401");
}

#[tokio::test]
async fn accepted_kinds_and_a_keys_minimum_hold_here_too() {
    let server = server_with(|authentication| authentication.kinds([CredentialKind::Jws, CredentialKind::Jwe]).profile_go(None)).await;
    let key = RegisteredKey::new(KeyId::new("strict").expect("a key id"), "strict", common::secret_of("strict"));
    server.store.add(key.with_profile(Profile::Go).with_minimum(CredentialKind::Jwe)).expect("a new key");
    let mut gopher = Gopher::connect(&server).await;
    let fields = gopher.fields(CredentialKind::Otp, "strict", "strict", &claims());
    assert!(gopher.send(&fields).await.0.contains("error=\"credential\""));
    let fields = gopher.fields(CredentialKind::Jwe, "strict", "strict", &claims());
    assert_eq!(status(&gopher.send(&fields).await), "200");

    let server = server_with(|authentication| authentication.profile_go(Some(KeyId::new("strict").expect("a key id")))).await;
    let key = RegisteredKey::new(KeyId::new("strict").expect("a key id"), "strict", common::secret_of("strict"));
    server.store.add(key.with_profile(Profile::Go).with_minimum(CredentialKind::Jwe)).expect("a new key");
    for kind in [CredentialKind::Otp, CredentialKind::Jws] {
        let mut gopher = Gopher::connect(&server).await;
        let fields = gopher.fields(kind, "strict", "strict", &claims());
        assert!(gopher.send(&fields).await.0.contains("error=\"credential\""), "{kind}");
    }
}

#[tokio::test]
async fn a_revoked_key_ends_its_connections() {
    let server = server().await;
    let mut gopher = Gopher::connect(&server).await;
    let fields = gopher.fields(CredentialKind::Jws, GO_KID, GO_KID, &claims());
    assert_eq!(status(&gopher.send(&fields).await), "200");
    assert!(server.store.revoke(&KeyId::new(GO_KID).expect("a key id")));
    let ended = tokio::time::timeout(Duration::from_secs(30), gopher.stream.read_u8()).await;
    assert!(ended.expect("the connection goes on").is_err());
}

#[tokio::test]
async fn the_eighth_failure_closes_the_connection() {
    let server = server().await;
    let mut gopher = Gopher::connect(&server).await;
    let fields = gopher.fields(CredentialKind::Jwe, GO_KID, "other-gopher", &claims());
    for _ in 1..8 {
        assert!(!gopher.send(&fields).await.0.contains("connection: close"));
    }
    assert!(gopher.send(&fields).await.0.contains("connection: close"));
}

#[tokio::test]
async fn a_very_long_token_is_refused() {
    let server = server().await;
    let mut gopher = Gopher::connect(&server).await;
    let long = Map::from_iter([("x".to_owned(), Value::from("x".repeat(4096)))]);
    let fields = gopher.fields(CredentialKind::Jws, GO_KID, GO_KID, &Value::from(long));
    assert_eq!(status(&gopher.send(&fields).await), "401");
}
