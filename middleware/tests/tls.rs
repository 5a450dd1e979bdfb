//! What TLS must be before it carries a one-time password, whatever the embedder's configuration said.

mod common;

use std::sync::Arc;

use common::{Client, HOST, Pki, TestServer};
use ekm_otp_tower::protocol::TlsPolicy;

#[derive(Debug)]
struct LoudKeyLog;

impl rustls::KeyLog for LoudKeyLog {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        panic!("a TLS secret was logged");
    }
}

#[test]
fn a_careless_server_configuration_is_restricted() {
    for tls12 in [false, true] {
        let policy = TlsPolicy { tls12, ..TlsPolicy::default() };
        let mut config = Pki::new().server_config(&policy);
        config.max_early_data_size = 16_384;
        config.send_half_rtt_data = true;
        config.enable_secret_extraction = true;
        config.require_ems = false;
        config.key_log = Arc::new(LoudKeyLog);
        policy.restrict_server(&mut config);
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.send_half_rtt_data && !config.enable_secret_extraction && config.require_ems);
        assert!(!config.key_log.will_log("CLIENT_RANDOM"));
        config.key_log.log("CLIENT_RANDOM", &[], &[]);
        assert!(!config.ticketer.enabled());
        assert_eq!(config.session_storage.can_cache(), !tls12, "TLS 1.2 is on: {tls12}");
    }
}

#[test]
fn a_careless_client_configuration_is_restricted() {
    let policy = TlsPolicy { tls12: true, ..TlsPolicy::default() };
    let mut config = Pki::new().client_config(&policy, b"h2");
    config.enable_early_data = true;
    config.enable_secret_extraction = true;
    config.require_ems = false;
    config.enable_sni = false;
    config.key_log = Arc::new(LoudKeyLog);
    policy.restrict_client(&mut config);
    assert!(!config.enable_early_data && !config.enable_secret_extraction && config.require_ems && config.enable_sni);
    config.key_log.log("CLIENT_RANDOM", &[], &[]);
}

#[tokio::test]
async fn tls_1_2_works_where_both_sides_switch_it_on_and_is_never_resumed() {
    let policy = TlsPolicy { tls12: true, ..TlsPolicy::default() };
    let server = TestServer::with(policy, |a| a, |a| a).await;
    let provider = policy.provider(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.pki.chain[0].clone()).expect("a root");
    // A client that would resume if it could.
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    for _ in 0..2 {
        let mut client = Client::connect_with(server.addr, Arc::clone(&config), HOST, policy).await.expect("a connection");
        assert_eq!((client.facts.version_name().as_str(), client.facts.resumed()), ("TLSv1.2", false));
        let credential = client.credential(common::KID);
        assert_eq!(client.get(&credential).await.status, hyper::StatusCode::OK);
    }

    // A server that does not take it.
    let server = TestServer::start().await;
    let refused = Client::connect_with(server.addr, config, HOST, policy).await;
    assert!(refused.is_err(), "TLS 1.2 was accepted");
}
