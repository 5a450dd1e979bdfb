//! A one-time password fits one TLS connection, key id and server name, and nothing else.

mod common;

use std::sync::Arc;

use common::{Client, HOST, KID, TestServer, request};
use ekm_otp_tower::protocol::field::{AuthenticationInfo, Credential};
use ekm_otp_tower::protocol::{KeyId, ServerName, TlsPolicy, WELL_KNOWN_PATH};
use hyper::{Method, StatusCode, header};

const WRONG_CONNECTION: &str = r#"EKM-OTP realm="test", error="channel""#;
const REFUSED: &str = r#"EKM-OTP realm="test""#;

#[tokio::test]
async fn a_verified_request_reaches_the_application_without_its_credential_and_gets_the_proof() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        let answer = client.get(&credential).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "client1 owner of client1 false"));
        let AuthenticationInfo::Proof(proof) = answer.proof() else { panic!("no proof: {:?}", answer.headers) };
        assert!(client.keys(KID).server_proof().verify(&proof));
        assert!(!client.keys("client2").server_proof().verify(&proof), "the proof fits another key");

        // The same field again costs no second proof, and an application cannot make one up.
        let answer = client.get(&credential).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.headers.contains_key("authentication-info"));

        // Another spelling of it is derived anew.
        let answer = client.get(&credential.replace("EKM-OTP kid=\"client1\"", "ekm-otp KID = client1")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.has_proof());
    }
}

#[tokio::test]
async fn two_connections_never_share_a_password_and_refuse_each_others() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for alpn in [b"http/1.1".as_slice(), b"h2", b"http/1.1", b"h2"] {
        clients.push(server.connect_as(HOST, alpn).await);
    }
    let credentials: Vec<String> = clients.iter().map(|c| c.credential(KID)).collect();
    let otps: Vec<String> = clients.iter().map(|c| c.keys(KID).otp().encode().to_string()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        for (j, credential) in credentials.iter().enumerate().filter(|(j, _)| *j != i) {
            assert_ne!(otps[i], otps[j]);
            let answer = client.get(credential).await;
            assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(WRONG_CONNECTION)), "{j} on {i}");
            // With the channel corrected the password is still that of the other connection.
            let forged = credential.replace(&clients_channel(credential), &client.ekm.channel().encode());
            let answer = client.get(&forged).await;
            assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(REFUSED)), "{j} on {i}, forged");
            assert!(!answer.has_proof());
        }
        assert_eq!(client.get(&credentials[i]).await.status, StatusCode::OK, "its own");
    }
}

fn clients_channel(credential: &str) -> String {
    let (_, rest) = credential.split_once("channel=\"").expect("a channel");
    rest.split_once('"').expect("a closing quote").0.to_owned()
}

#[tokio::test]
async fn a_resumed_session_has_a_password_of_its_own() {
    let server = TestServer::start().await;
    let config = Arc::new(server.pki.client_config(&server.policy, b"http/1.1"));
    let mut first = Client::connect_with(server.addr, Arc::clone(&config), HOST, server.policy).await.expect("a connection");
    let old = first.credential(KID);
    // The answer brings the session tickets along.
    assert_eq!(first.get(&old).await.status, StatusCode::OK);
    let mut second = Client::connect_with(server.addr, config, HOST, server.policy).await.expect("a connection");
    assert!(second.facts.resumed(), "the session was not resumed: the test shows nothing");
    assert_ne!(*first.keys(KID).otp().encode(), *second.keys(KID).otp().encode());
    assert_eq!(second.get(&old).await.status, StatusCode::UNAUTHORIZED);
    let forged = old.replace(&clients_channel(&old), &second.ekm.channel().encode());
    assert_eq!(second.get(&forged).await.status, StatusCode::UNAUTHORIZED);
    let own = second.credential(KID);
    assert_eq!(second.get(&own).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_password_of_another_key_or_server_name_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let kid = KeyId::new(KID).expect("a key id");
    let second = ServerName::from_host("second.test").expect("a name");
    for (what, keys) in [
        ("another key's secret", client.keys("client2")),
        ("another server name", client.keys_for(KID, &second)),
        ("no server name", client.keys_for(KID, &ServerName::none())),
    ] {
        let credential = Credential::write(&kid, &client.ekm.channel(), &keys.otp());
        let answer = client.get(&credential).await;
        assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, Some(REFUSED)), "{what}");
    }
}

#[tokio::test]
async fn a_server_name_that_is_not_configured_is_refused() {
    let server = TestServer::start().await;
    for host in ["stranger.test", "127.0.0.1"] {
        let mut client = server.connect_as(host, b"http/1.1").await;
        let credential = client.credential(KID);
        let answer = client.get(&credential).await;
        assert_eq!((answer.status, answer.has_proof()), (StatusCode::UNAUTHORIZED, false), "{host}");
    }
}

#[tokio::test]
async fn a_foreign_authority_is_misdirected_and_gets_no_proof() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        for host in
            ["second.test", "stranger.test", "127.0.0.1", "localhost.stranger.test", "alias.test:444", "user@localhost", "xlocalhost"]
        {
            let mut foreign = request("/", Some(&credential));
            foreign.headers_mut().insert(header::HOST, host.parse().expect("a value"));
            let answer = client.send(foreign).await.expect("an answer");
            assert_eq!((answer.status, answer.has_proof()), (StatusCode::MISDIRECTED_REQUEST, false), "{host}");
        }
        for host in ["localhost", "LOCALHOST:8443", "localhost.", "alias.test:8443"] {
            let mut own = request("/", Some(&credential));
            own.headers_mut().insert(header::HOST, host.parse().expect("a value"));
            assert_eq!(client.send(own).await.expect("an answer").status, StatusCode::OK, "{host}");
        }
    }
}

#[tokio::test]
async fn host_fields_that_disagree_are_misdirected_and_missing_or_doubled_ones_are_bad_requests() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let credential = client.credential(KID);

    let mut two = request("/", Some(&credential));
    two.headers_mut().append(header::HOST, HOST.parse().expect("a value"));
    assert_eq!(client.send(two).await.expect("an answer").status, StatusCode::BAD_REQUEST, "two Host fields");

    let mut none = request("/", Some(&credential));
    none.headers_mut().remove(header::HOST);
    assert_eq!(client.send(none).await.expect("an answer").status, StatusCode::BAD_REQUEST, "no Host field");

    for (target, status) in [
        ("https://stranger.test/", StatusCode::MISDIRECTED_REQUEST),
        ("https://localhost:1/", StatusCode::MISDIRECTED_REQUEST),
        ("http://localhost/", StatusCode::MISDIRECTED_REQUEST),
        ("https://localhost/", StatusCode::OK),
    ] {
        let mut absolute = request("/", Some(&credential));
        *absolute.uri_mut() = target.parse().expect("a URI");
        assert_eq!(client.send(absolute).await.expect("an answer").status, status, "{target}");
    }
}

#[tokio::test]
async fn a_second_key_on_a_pinned_connection_is_refused() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let (first, second) = (client.credential(KID), client.credential("client2"));
        assert_eq!(client.get(&first).await.status, StatusCode::OK);
        let answer = client.get(&second).await;
        assert_eq!((answer.status, answer.has_proof()), (StatusCode::UNAUTHORIZED, false));
        assert_eq!(client.get(&first).await.status, StatusCode::OK, "the first is not harmed");
        // On a connection of its own it passes.
        let mut other = server.connect_as(HOST, alpn).await;
        let credential = other.credential("client2");
        assert_eq!(other.get(&credential).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_layer_answers_the_probe_and_the_application_never_sees_it() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    assert_eq!(client.send(request(WELL_KNOWN_PATH, None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    for _ in 0..2 {
        let answer = client.send(request(WELL_KNOWN_PATH, Some(&credential))).await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::NO_CONTENT, ""));
        let AuthenticationInfo::Proof(proof) = answer.proof() else { panic!("no proof") };
        assert!(client.keys(KID).server_proof().verify(&proof));
    }
    let mut post = request(WELL_KNOWN_PATH, Some(&credential));
    *post.method_mut() = Method::POST;
    assert_eq!(client.send(post).await.expect("an answer").status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_answer_of_the_application_carries_the_proof_whatever_its_status() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    let answer = client.send(request("/forbidden", Some(&credential))).await.expect("an answer");
    assert_eq!((answer.status, answer.has_proof()), (StatusCode::FORBIDDEN, true));
}

#[tokio::test]
async fn a_proof_that_a_misdirected_request_did_not_get_comes_with_the_next() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    let mut foreign = request("/", Some(&credential));
    foreign.headers_mut().insert(header::HOST, "stranger.test".parse().expect("a value"));
    assert!(!client.send(foreign).await.expect("an answer").has_proof());
    assert!(client.get(&credential).await.has_proof());
}

#[tokio::test]
async fn post_quantum_key_exchange_is_preferred_and_can_be_required() {
    let server = TestServer::start().await;
    assert_eq!(server.connect().await.facts.group_name(), "X25519MLKEM768");

    let required = TlsPolicy { require_post_quantum: true, ..TlsPolicy::default() };
    let server = TestServer::with(required, |a| a, |a| a).await;
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.pki.chain[0].clone()).expect("a root");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(Client::connect(server.addr, config, HOST, TlsPolicy::default()).await.is_err(), "a classical key exchange was accepted");
}
