//! Tokens: each request's own, good once, for its request, on its connection.
#![cfg(feature = "jose")]

mod common;

use std::time::Duration;

use common::{HOST, KID, Signer, TestServer, Unserved, request};
use ekm_otp_tower::protocol::field::{AuthenticationInfo, CredentialKind};
use ekm_otp_tower::protocol::jose::ExtraClaims;
use ekm_otp_tower::protocol::{KeyId, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_tower::{Authentication, RegisteredKey, VerifiedClaims};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};

const REFUSED: &str = r#"EKM-OTP realm="test""#;
const TOKENS: [CredentialKind; 2] = [CredentialKind::Jws, CredentialKind::Jwe];

fn error(error: &str) -> String {
    format!(r#"EKM-OTP realm="test", error="{error}""#)
}

async fn server() -> TestServer {
    server_with(|authentication| authentication).await
}

async fn server_with(set: impl FnOnce(Authentication) -> Authentication) -> TestServer {
    TestServer::with(TlsPolicy::default(), |authentication| set(authentication.kinds(CredentialKind::ALL)), |acceptor| acceptor).await
}

fn extra() -> ExtraClaims {
    let claims = serde_json::json!({"role": "admin", "shift": {"from": 9}});
    ExtraClaims::new(claims.as_object().expect("an object").clone()).expect("free names")
}

fn audience() -> String {
    format!("https://{HOST}")
}

#[tokio::test]
async fn a_token_reaches_the_application_as_claims_and_the_first_gets_the_proof() {
    let server = server().await;
    for (alpn, kind) in [b"http/1.1".as_slice(), b"h2"].into_iter().flat_map(|alpn| TOKENS.map(|kind| (alpn, kind))) {
        let mut client = server.connect_as(HOST, alpn).await;
        let signer = client.signer(KID, kind);
        let answer = client.get(&signer.sign_with(1, "GET", "/", &audience(), 0, &extra())).await;
        let claims = format!(r#"client1 owner of client1 false {kind} n=Some(1) {{"role":"admin","shift":{{"from":9}}}}"#);
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &claims));
        let AuthenticationInfo::Proof(proof) = answer.proof() else { panic!("no proof: {:?}", answer.headers) };
        assert!(client.keys(KID).server_proof().verify(&proof));

        // The keys are there now: the next request is checked with them, and needs no proof.
        let answer = client.get(&signer.sign(2)).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (StatusCode::OK, &*format!("client1 owner of client1 false {kind} n=Some(2) {{}}"))
        );
        assert!(!answer.has_proof());

        // A password on the same connection has no claims.
        let credential = client.credential(KID);
        assert_eq!(client.get(&credential).await.body, "client1 owner of client1 false");
        assert_eq!(client.get(&credential).await.body, "client1 owner of client1 false", "the same once more");
        assert_eq!(client.get(&signer.sign(3)).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_first_token_after_a_password_gets_the_proof() {
    let server = server().await;
    for kind in TOKENS {
        let mut client = server.connect().await;
        let (password, signer) = (client.credential(KID), client.signer(KID, kind));
        assert!(client.get(&password).await.has_proof());
        assert!(client.get(&signer.sign(1)).await.has_proof(), "its keys were derived anew");
        assert!(!client.get(&signer.sign(2)).await.has_proof());
    }
}

#[tokio::test]
async fn claims_of_an_earlier_request_do_not_stay_and_their_values_show_in_no_log() {
    let unserved = Unserved::accept(common::authentication_of(server().await.store.clone()).kinds(CredentialKind::ALL)).await;
    let token = Signer::of(&unserved.handshake, KID, KID, CredentialKind::Jwe).sign_with(1, "GET", "/", &audience(), 0, &extra());
    let answer = unserved.answer(request("/", Some(&token)));
    let claims = answer.extensions().get::<VerifiedClaims>().expect("claims").clone();
    let shown = format!("{claims:?}");
    assert!(shown.contains("role") && shown.contains("shift"), "a claim's name helps to find out what came: {shown}");
    assert!(!shown.contains("admin") && !shown.contains('9') && !shown.contains("from"), "{shown}");

    let mut again = request("/", Some(&common::credential(&unserved.handshake, KID, KID)));
    again.extensions_mut().insert(claims);
    let answer = unserved.answer(again);
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.extensions().get::<VerifiedClaims>().is_none(), "a password has no claims");
}

#[tokio::test]
async fn a_token_is_good_once() {
    let server = server().await;
    for kind in TOKENS {
        let mut client = server.connect().await;
        let token = client.signer(KID, kind).sign(1);
        assert_eq!(client.get(&token).await.status, StatusCode::OK);
        let answer = client.get(&token).await;
        assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(&*error("claims"))));
        assert!(!answer.has_proof());
    }
}

#[tokio::test]
async fn a_token_fits_no_other_connection() {
    let server = server().await;
    for kind in TOKENS {
        let (mut client, mut other) = (server.connect().await, server.connect().await);
        let token = client.signer(KID, kind).sign(1);
        assert_eq!(other.get(&token).await.challenge(), Some(&*error("channel")));
        let forged = token.replace(&client.ekm.channel().encode(), &other.ekm.channel().encode());
        assert_eq!(other.get(&forged).await.challenge(), Some(REFUSED), "unverified connection");
        let own = other.signer(KID, kind).sign(1);
        assert_eq!(other.get(&own).await.status, StatusCode::OK);
        assert_eq!(other.get(&forged).await.challenge(), Some(REFUSED), "verified connection");
        assert_eq!(client.get(&token).await.status, StatusCode::OK, "at home");
    }
}

#[tokio::test]
async fn a_token_for_another_request_or_time_is_told_what_is_wrong_and_uses_up_no_number() {
    let server = server().await;
    for kind in TOKENS {
        let mut client = server.connect().await;
        let signer = client.signer(KID, kind);
        let sign = |method: &str, target: &str, audience: &str, age| signer.sign_with(1, method, target, audience, age, &extra());
        for (fault, token, expected) in [
            ("other_htm", sign("POST", "/", &audience(), 0), "claims"),
            ("other_htu", sign("GET", "/other", &audience(), 0), "claims"),
            ("other_query", sign("GET", "/?x=1", &audience(), 0), "claims"),
            ("other_aud", sign("GET", "/", "https://second.test", 0), "claims"),
            ("expired", sign("GET", "/", &audience(), 130), "time"),
            ("not_yet_valid", sign("GET", "/", &audience(), -70), "time"),
        ] {
            let answer = client.get(&token).await;
            assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(&*error(expected))), "{fault}");
            assert!(!answer.has_proof(), "{fault}");
        }
        let answer = client.get(&signer.sign(1)).await;
        assert_eq!(answer.status, StatusCode::OK, "the number is still free");
        assert!(answer.has_proof(), "the first answer to a request that passed carries it");
    }
}

#[tokio::test]
async fn the_audience_is_the_requests_authority_and_the_target_is_what_was_sent() {
    let server = server().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let signer = client.signer(KID, CredentialKind::Jws);
        for (n, host, target, audience, status) in [
            (1, "LOCALHOST:443", "/", "https://localhost", StatusCode::OK),
            (2, "localhost:8443", "/", "https://localhost:8443", StatusCode::OK),
            (3, "alias.test:8443", "/", "https://alias.test:8443", StatusCode::OK),
            (4, "alias.test:8443", "/", "https://localhost", StatusCode::UNAUTHORIZED),
            (5, "localhost", "/a/../b/%7e//c", "https://localhost", StatusCode::OK),
        ] {
            let token = signer.sign_with(n, "GET", target, audience, 0, &extra());
            let request = Request::get(target).header("host", host).header("authorization", &token);
            let answer = client.send(request.body(Empty::new()).expect("a request")).await.expect("an answer");
            assert_eq!(answer.status, status, "{n}");
        }
        // Misdirected: before the token's own number is used up.
        let token = signer.sign_with(6, "GET", "/", "https://stranger.test", 0, &extra());
        let stranger = Request::get("/").header("host", "stranger.test").header("authorization", &token);
        let answer = client.send(stranger.body(Empty::new()).expect("a request")).await.expect("an answer");
        assert_eq!((answer.status, answer.has_proof()), (StatusCode::MISDIRECTED_REQUEST, false));
        assert_eq!(client.get(&signer.sign(6)).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn path_and_query_are_covered_in_whatever_form_they_came() {
    let server = server().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let signer = client.signer(KID, CredentialKind::Jws);
        let targets = [
            ("/get?x=1&y", "/get?x=1&y"),
            // Absolute-form: the origin-form of it counts, and an empty path is "/".
            ("https://localhost/a?b", "/a?b"),
            ("https://localhost?b", "/?b"),
            ("https://localhost", "/"),
        ];
        for (n, (target, htu)) in (1..).zip(targets) {
            let token = signer.sign_with(n, "GET", htu, &audience(), 0, &extra());
            let request = Request::get(target).header("host", HOST).header("authorization", &token);
            let answer = client.send(request.body(Empty::new()).expect("a request")).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK, "{target}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_run_beside_each_other_on_h2_all_pass_and_a_token_sent_thrice_passes_once() {
    let server = server().await;
    for kind in TOKENS {
        let client = server.connect_as(HOST, b"h2").await;
        let signer = client.signer(KID, kind);
        // In an order that a count would not take: 100, 200, ..., 1, 101, ...
        let numbers: Vec<u64> = (0..100).flat_map(|i| (0..4).map(move |j| 1 + (i * 37 % 100) + 100 * j)).rev().collect();
        let send = |token: String| {
            let mut sender = client.sender();
            tokio::spawn(async move {
                let request = Request::get("https://localhost/").header("authorization", token);
                sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("an answer").status()
            })
        };
        let answers: Vec<_> = numbers.iter().map(|n| send(signer.sign(*n))).collect();
        for answer in answers {
            assert_eq!(answer.await.expect("a task"), StatusCode::OK);
        }
        let token = signer.sign(1000);
        let mut statuses = Vec::new();
        for answer in [&token; 3].map(|token| send(token.clone())) {
            statuses.push(answer.await.expect("a task"));
        }
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED]);
    }
}

#[tokio::test]
async fn first_tokens_that_are_checked_in_parallel_pass_once_each() {
    let store = server().await.store.clone();
    for round in 0..100 {
        let unserved = Unserved::accept(common::authentication_of(store.clone()).kinds(CredentialKind::ALL).max_failures(100)).await;
        let signer = Signer::of(&unserved.handshake, KID, KID, TOKENS[round % 2]);
        let same = signer.sign(1);
        let mut credentials = vec![&*same; 5];
        let others = [2, 3, 4].map(|n| signer.sign(n));
        credentials.extend(others.iter().map(String::as_str));
        let password = common::credential(&unserved.handshake, KID, KID);
        credentials.push(&password);
        let answers = unserved.answers(credentials.into_iter().map(|credential| request("/", Some(credential))).collect());
        let (same, others) = answers.split_at(5);
        assert_eq!(same.iter().filter(|status| **status == StatusCode::OK).count(), 1, "{answers:?}");
        assert_eq!(others, [StatusCode::OK; 4]);
    }
}

#[tokio::test]
async fn a_number_far_below_the_highest_is_refused() {
    let server = server().await;
    let mut client = server.connect().await;
    let signer = client.signer(KID, CredentialKind::Jws);
    for (n, status) in [(5000, StatusCode::OK), (3977, StatusCode::OK), (3976, StatusCode::UNAUTHORIZED), (5001, StatusCode::OK)] {
        assert_eq!(client.get(&signer.sign(n)).await.status, status, "{n}");
    }
}

#[tokio::test]
async fn a_kind_that_is_not_accepted_is_refused_whatever_the_key() {
    for accepted in CredentialKind::ALL {
        let server = server_with(|authentication| authentication.kinds([accepted])).await;
        let mut client = server.connect().await;
        for kid in [KID, "nobody"] {
            let credentials = [
                (CredentialKind::Otp, client.credential(kid)),
                (CredentialKind::Jws, client.signer(kid, CredentialKind::Jws).sign(1)),
                (CredentialKind::Jwe, client.signer(kid, CredentialKind::Jwe).sign(1)),
            ];
            for (kind, credential) in credentials {
                let answer = client.get(&credential).await;
                if kind != accepted {
                    assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(&*error("credential"))), "{kind}");
                } else if kid == KID {
                    assert_eq!(answer.status, StatusCode::OK, "{kind}");
                } else {
                    assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(REFUSED)), "{kind}");
                }
            }
        }
    }
}

#[tokio::test]
async fn only_passwords_are_accepted_unless_told_otherwise() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    for kind in TOKENS {
        let token = client.signer(KID, kind).sign(1);
        assert_eq!(client.get(&token).await.challenge(), Some(&*error("credential")));
    }
}

#[tokio::test]
async fn a_key_that_must_show_more_is_refused_with_less_also_the_second_time() {
    for minimum in TOKENS {
        let server = server().await;
        let key = RegisteredKey::new(KeyId::new("strict").expect("a key id"), "strict", common::secret_of("strict")).with_minimum(minimum);
        server.store.add(key).expect("a new key");
        for first in CredentialKind::ALL {
            let mut client = server.connect().await;
            let password = client.credential("strict");
            let credential = match first {
                CredentialKind::Otp => password.clone(),
                token => client.signer("strict", token).sign(1),
            };
            for again in [false, true] {
                let credential =
                    if again && first != CredentialKind::Otp { client.signer("strict", first).sign(2) } else { credential.clone() };
                let answer = client.get(&credential).await;
                if first < minimum {
                    assert_eq!(
                        (answer.status, answer.challenge()),
                        (StatusCode::UNAUTHORIZED, Some(&*error("credential"))),
                        "{first}, again: {again}"
                    );
                } else {
                    assert_eq!(answer.status, StatusCode::OK, "{first}, again: {again}");
                }
            }
            assert_eq!(client.get(&password).await.status, StatusCode::UNAUTHORIZED, "a password after {first}");
        }
    }
}

#[tokio::test]
async fn a_minimum_holds_also_where_the_keys_are_kept() {
    let server = server().await;
    let key = RegisteredKey::new(KeyId::new("strict").expect("a key id"), "strict", common::secret_of("strict"));
    server.store.add(key.with_minimum(CredentialKind::Jwe)).expect("a new key");
    let mut client = server.connect().await;
    let [jws, jwe] = TOKENS.map(|kind| client.signer("strict", kind));
    assert_eq!(client.get(&jwe.sign(1)).await.status, StatusCode::OK);
    let answer = client.get(&jws.sign(2)).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(&*error("credential"))));
    assert_eq!(client.get(&jwe.sign(2)).await.status, StatusCode::OK, "the number is still free");
}

#[tokio::test]
async fn an_authority_as_the_target_is_a_bad_request_whatever_the_token_covers() {
    let server = server().await;
    for kind in TOKENS {
        for target in ["/", "localhost", "*"] {
            let (mut stream, handshake) = server.tls(b"http/1.1").await;
            let signer = Signer::of(&handshake, KID, KID, kind);
            let token = signer.sign_with(1, "GET", target, &audience(), 0, &ExtraClaims::default());
            let fields = [("Authorization", token.as_bytes())];
            assert!(
                common::ask(&mut stream, "GET localhost HTTP/1.1", &fields).await.0.starts_with("HTTP/1.1 400 "),
                "{kind} for {target}"
            );
            let token = signer.sign(1);
            assert!(common::exchange(&mut stream, &[("Authorization", token.as_bytes())]).await.0.starts_with("HTTP/1.1 200 "));
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_to_no_one_but_the_holder_of_the_secret() {
    let server = server().await;
    server.store.add(RegisteredKey::new(KeyId::new("gone").expect("a key id"), "gone", common::secret_of("gone"))).expect("a new key");
    server.store.revoke(&KeyId::new("gone").expect("a key id"));
    let mut answers = Vec::new();
    for kind in TOKENS {
        let of = |kid: &'static str, replace: Option<(&'static str, &'static str)>, age| {
            let server = &server;
            async move {
                let (mut stream, handshake) = server.tls(b"http/1.1").await;
                let signer = Signer::of(&handshake, kid, kid, kind);
                let mut token = signer.sign_with(1, "GET", "/", &audience(), age, &ExtraClaims::default());
                if let Some((from, to)) = replace {
                    token = token.replace(from, to);
                }
                common::exchange(&mut stream, &[("Authorization", token.as_bytes())]).await
            }
        };
        assert!(of(KID, None, 0).await.0.starts_with("HTTP/1.1 200"));
        answers.push(("unknown key id", of("nobody", None, 0).await));
        answers.push(("unknown key id, expired", of("nobody", None, 1000).await));
        answers.push(("revoked", of("gone", None, 0).await));
        answers.push(("another key id", of(KID, Some(("client1", "client2")), 0).await));
        answers.push(("no token", of(KID, Some(("=\"ey", "=\"e")), 0).await));
        answers.push(("an empty token", of(KID, Some((".", "")), 0).await));
        let (mut stream, handshake) = server.tls(b"http/1.1").await;
        let stranger = Signer::of(&handshake, KID, "client2", kind).sign(1);
        answers.push(("another secret", common::exchange(&mut stream, &[("Authorization", stranger.as_bytes())]).await));
        let (mut stream, handshake) = server.tls(b"http/1.1").await;
        let dummy = Signer::of(&handshake, common::UNKNOWN, common::DUMMY, kind).sign(1);
        let answer = common::exchange(&mut stream, &[("Authorization", dummy.as_bytes())]).await;
        answers.push(("what stands in for unknown key ids", answer));
    }
    let (mut stream, _) = server.tls(b"http/1.1").await;
    let missing = common::exchange(&mut stream, &[]).await;
    assert!(missing.0.starts_with("HTTP/1.1 401"));
    for (fault, answer) in answers {
        assert_eq!(answer, missing, "{fault}");
    }
}

#[tokio::test]
async fn another_clients_token_on_a_pinned_connection_is_refused() {
    let server = server().await;
    for kind in TOKENS {
        let mut client = server.connect().await;
        let [own, others] = [KID, "client2"].map(|kid| client.signer(kid, kind));
        assert_eq!(client.get(&own.sign(1)).await.status, StatusCode::OK);
        assert_eq!(client.get(&others.sign(2)).await.challenge(), Some(REFUSED));
        assert_eq!(client.get(&own.sign(2)).await.status, StatusCode::OK, "the other's number was not taken");
    }
}

#[tokio::test]
async fn the_eighth_bad_token_closes_the_connection() {
    let server = server().await;
    let mut client = server.connect().await;
    let token = client.signer(KID, CredentialKind::Jws).sign(1);
    assert_eq!(client.get(&token).await.status, StatusCode::OK);
    for _ in 1..8 {
        assert!(!client.get(&token).await.headers.contains_key("connection"));
    }
    assert_eq!(client.get(&token).await.headers["connection"], "close");
}

#[tokio::test]
async fn the_probe_is_signed_like_any_request() {
    let server = server().await;
    for kind in TOKENS {
        let mut client = server.connect().await;
        let signer = client.signer(KID, kind);
        let probe = |n, method: Method, htm: &str| {
            let token = signer.sign_with(n, htm, WELL_KNOWN_PATH, &audience(), 0, &ExtraClaims::default());
            let mut request = request(WELL_KNOWN_PATH, Some(&token));
            *request.method_mut() = method;
            request
        };
        let answer = client.send(probe(1, Method::GET, "GET")).await.expect("an answer");
        assert_eq!((answer.status, answer.has_proof()), (StatusCode::NO_CONTENT, true));
        let answer = client.send(probe(1, Method::GET, "GET")).await.expect("an answer");
        assert_eq!((answer.status, answer.has_proof()), (StatusCode::UNAUTHORIZED, false), "the same number");
        let answer = client.send(probe(2, Method::POST, "POST")).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn the_leeway_is_a_setting() {
    // A token lives for 60 s.
    for (leeway, age, is_taken) in
        [(None, 110, true), (None, 130, false), (Some(0), 50, true), (Some(0), 70, false), (Some(600), 650, true), (Some(600), 670, false)]
    {
        let set = |authentication: Authentication| match leeway {
            None => authentication,
            Some(leeway) => authentication.leeway(Duration::from_secs(leeway)),
        };
        let server = server_with(set).await;
        let mut client = server.connect().await;
        let token = client.signer(KID, CredentialKind::Jws).sign_with(1, "GET", "/", &audience(), age, &extra());
        let answer = client.get(&token).await;
        let expected = if is_taken { (StatusCode::OK, None) } else { (StatusCode::UNAUTHORIZED, Some(error("time"))) };
        assert_eq!((answer.status, answer.challenge()), (expected.0, expected.1.as_deref()), "{leeway:?}, {age} s old");
    }
}

#[tokio::test]
async fn a_revoked_key_ends_connections_with_tokens() {
    let server = server().await;
    let mut client = server.connect().await;
    let signer = client.signer(KID, CredentialKind::Jwe);
    assert_eq!(client.get(&signer.sign(1)).await.status, StatusCode::OK);
    assert!(server.store.revoke(&KeyId::new(KID).expect("a key id")));
    let answer = client.send(request("/", Some(&signer.sign(2)))).await;
    assert!(answer.map_or(true, |answer| answer.status == StatusCode::UNAUTHORIZED), "cut, or refused");
}
