//! The certificates of one run (P-256), and the TLS configurations made from them. The client makes them; a server child reads its part.

use std::io::BufRead;
use std::sync::Arc;

use ekm_otp_tower::protocol::TlsPolicy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::AnyError;
use crate::mode::{HOST, Mode};
use crate::options::KeyExchange;

/// The policy of all modes.
pub const POLICY: TlsPolicy = TlsPolicy { tls12: false, require_post_quantum: false };

/// What the client holds: its own identity, and what it hands to the servers.
pub struct Pki {
    server: CertificateDer<'static>,
    client: CertificateDer<'static>,
    client_key: PrivateKeyDer<'static>,
    server_part: String,
}

impl Pki {
    pub fn new() -> Result<Self, AnyError> {
        let server = rcgen::generate_simple_self_signed([HOST.to_owned()])?;

        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let mut client = CertificateParams::new([String::from("client.test")])?;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client = client.signed_by(&client_key, &ca)?;

        Ok(Self {
            server_part: [server.cert.pem(), ca.pem(), server.signing_key.serialize_pem()].concat(),
            server: server.cert.der().clone(),
            client: client.der().clone(),
            client_key: PrivateKeyDer::try_from(client_key.serialize_der())?,
        })
    }

    /// The PEM text that [`server_config`] reads: an empty line ends it.
    pub fn server_part(&self) -> String {
        format!("{}\n", self.server_part)
    }

    pub fn client_config(&self, mode: Mode, key_exchange: KeyExchange) -> Result<ClientConfig, AnyError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone())?;
        let config = ClientConfig::builder_with_provider(key_exchange.provider(&POLICY))
            .with_protocol_versions(POLICY.versions())?
            .with_root_certificates(roots);
        let mut config = match mode {
            Mode::Mtls => config.with_client_auth_cert(vec![self.client.clone()], self.client_key.clone_key())?,
            Mode::None | Mode::Bearer | Mode::EkmOtp | Mode::Jws | Mode::Jwe => config.with_no_client_auth(),
        };
        POLICY.restrict_client(&mut config);
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Reads what [`Pki::server_part`] wrote.
pub fn server_config(input: impl BufRead, mode: Mode, key_exchange: KeyExchange) -> Result<ServerConfig, AnyError> {
    let mut pem = String::new();
    for line in input.lines() {
        match line? {
            line if line.is_empty() => break,
            line => pem.extend([line.as_str(), "\n"]),
        }
    }
    let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let mut next = || certificates.next().ok_or("two certificates are expected");
    let (server, client_issuer) = (next()??, next()??);
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;

    let provider = key_exchange.provider(&POLICY);
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(POLICY.versions())?;
    let config = match mode {
        Mode::Mtls => {
            let mut roots = RootCertStore::empty();
            roots.add(client_issuer)?;
            config.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
        }
        Mode::None | Mode::Bearer | Mode::EkmOtp | Mode::Jws | Mode::Jwe => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(vec![server], key)?;
    POLICY.restrict_server(&mut config);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
