//! The profile `go`: what it takes, what it refuses, and that v1 goes on beside it as it was.
#![cfg(feature = "jose")]

mod common;

use common::{HOST, KID, TestServer, exchange};
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::protocol::go::{self, ApiKey, Usage};
use ekm_otp_tower::protocol::{Handshake, KeyId, Profile, Tag, TlsPolicy};
use ekm_otp_tower::{Authentication, RegisteredKey};
use hyper::StatusCode;
use serde_json::{Map, Value, json};
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
    server_with(|authentication| authentication.profile_go(Some(KeyId::new(GO_KID).expect("a key id")))).await
}

/// One connection of a Go client.
struct Gopher {
    stream: TlsStream<TcpStream>,
    handshake: Handshake,
}

impl Gopher {
    async fn connect(server: &TestServer) -> Self {
        let (stream, handshake) = server.tls(b"http/1.1").await;
        Self { stream, handshake }
    }

    fn mac(&self, usage: Usage<'_>, secret_of: &str) -> Tag {
        let mut ekm = [0; 32];
        self.stream.get_ref().1.export_keying_material(&mut ekm, usage.label(), Some(usage.context())).expect("keying material");
        common::secret_of(secret_of).mac(&usage.mac_input(&ekm))
    }

    /// The fields of one request.
    fn fields(&self, kind: CredentialKind, kid: &str, secret_of: &str, claims: &Value) -> Vec<(&'static str, Vec<u8>)> {
        let id = KeyId::new(kid).expect("a key id");
        if kind == CredentialKind::Otp {
            let key = ApiKey::new(self.mac(Usage::ApiKey(&id), secret_of)).encode();
            return vec![("client", kid.into()), ("apikey", key.as_bytes().to_vec())];
        }
        let mut token = go::sign(&self.mac(Usage::Signing, secret_of), claims.as_object().expect("an object")).expect("a token");
        if kind == CredentialKind::Jwe {
            token = go::encrypt(&self.mac(Usage::Encryption, secret_of), &id, &token).expect("a token");
        }
        vec![("authorization", format!("Bearer {}", *token).into_bytes())]
    }

    async fn send(&mut self, fields: &[(&'static str, Vec<u8>)]) -> (String, String) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        exchange(&mut self.stream, &fields).await
    }
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
    let gopher = Gopher::connect(&server).await;
    let key = gopher.fields(CredentialKind::Otp, GO_KID, GO_KID, &claims());
    let [client, apikey] = [&key[0], &key[1]];
    for (fault, fields) in [
        ("no client", vec![apikey.clone()]),
        ("client twice", vec![client.clone(), client.clone(), apikey.clone()]),
        ("apikey twice", vec![client.clone(), apikey.clone(), apikey.clone()]),
        ("apikey empty", vec![client.clone(), ("apikey", vec![])]),
        ("client is no key id", vec![("client", b"a b".to_vec()), apikey.clone()]),
        ("an empty token", vec![("authorization", b"Bearer ".to_vec())]),
        ("four parts", vec![("authorization", b"Bearer a.b.c.d".to_vec())]),
    ] {
        let mut gopher = Gopher::connect(&server).await;
        assert_eq!(gopher.send(&fields).await, missing, "{fault}");
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
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), tokio::io::AsyncReadExt::read_u8(&mut gopher.stream)).await;
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
