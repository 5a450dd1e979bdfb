//! The certificates of one run (P-256), in files that every kind of server reads, and the TLS configurations made from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekm_otp_tower::protocol::TlsPolicy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::AnyError;
use crate::mode::{HOST, Mode};
use crate::options::KeyExchange;

/// The policy of all modes.
pub const POLICY: TlsPolicy = TlsPolicy { tls12: false, require_post_quantum: false };

/// What the servers read, in one folder that is removed with this.
pub struct Pki {
    folder: tempfile::TempDir,
    client: CertificateDer<'static>,
    client_key: PrivateKeyDer<'static>,
}

pub fn certificate(folder: &Path) -> PathBuf {
    folder.join("server.pem")
}

pub fn private_key(folder: &Path) -> PathBuf {
    folder.join("server.key")
}

/// Who issues clients' certificates.
pub fn client_issuer(folder: &Path) -> PathBuf {
    folder.join("clients.pem")
}

impl Pki {
    pub fn new() -> Result<Self, AnyError> {
        let server = rcgen::generate_simple_self_signed([HOST.to_owned()])?;

        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else it would have the name of what it issues, and OpenSSL would take that to be self-signed.
        ca.distinguished_name.push(DnType::CommonName, "clients");
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let mut client = CertificateParams::new([String::from("client.test")])?;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client = client.signed_by(&client_key, &ca)?;

        let folder = tempfile::tempdir()?;
        fs::write(certificate(folder.path()), server.cert.pem())?;
        fs::write(private_key(folder.path()), server.signing_key.serialize_pem())?;
        fs::write(client_issuer(folder.path()), ca.pem())?;
        Ok(Self { folder, client: client.der().clone(), client_key: PrivateKeyDer::try_from(client_key.serialize_der())? })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the client agrees on decides for all servers alike.
    pub fn client_config(&self, mode: Mode, key_exchange: KeyExchange) -> Result<ClientConfig, AnyError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate(self.folder()))?)?;
        let config = ClientConfig::builder_with_provider(key_exchange.provider(&POLICY))
            .with_protocol_versions(POLICY.versions())?
            .with_root_certificates(roots);
        let mut config = match mode.server {
            server if server.wants_certificates() => {
                config.with_client_auth_cert(vec![self.client.clone()], self.client_key.clone_key())?
            }
            _ => config.with_no_client_auth(),
        };
        POLICY.restrict_client(&mut config);
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// From the files of [`Pki`].
pub fn server_config(folder: &Path, client_certificates: bool) -> Result<ServerConfig, AnyError> {
    let provider = POLICY.provider(default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(POLICY.versions())?;
    let config = if client_certificates {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(client_issuer(folder))?)?;
        config.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
    } else {
        config.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_file(certificate(folder))?];
    let mut config = config.with_single_cert(chain, PrivateKeyDer::from_pem_file(private_key(folder))?)?;
    POLICY.restrict_server(&mut config);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
