//! The certificates of one run (P-256), in files that every kind of pair reads, and the TLS configurations made from them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use ekm_otp::{Secret, TlsPolicy};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::AnyError;

/// What all servers are called.
pub const HOST: &str = "localhost";
/// The one client's key id.
pub const KID: &str = "client1";

const POLICY: TlsPolicy = TlsPolicy { tls12: false, require_post_quantum: false };

/// Writes certificates, keys, the client's secret and the server's registry.
pub fn write(folder: &Path) -> Result<(), AnyError> {
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
    fs::write(folder.join("server.pem"), server.cert.pem())?;
    fs::write(folder.join("clients.pem"), ca.pem())?;
    fs::write(folder.join("client.pem"), client.pem())?;
    let secret = Secret::new(b"test data, used nowhere else ...".to_vec())?.encode_base64();
    private(&folder.join("server.key"), &server.signing_key.serialize_pem())?;
    private(&folder.join("client.key"), &client_key.serialize_pem())?;
    private(&folder.join("secret"), &secret)?;
    private(&folder.join("secrets.toml"), &format!("[{KID}]\nsecret = \"{}\"\nclient = \"the client\"\n", *secret))
}

fn private(path: &Path, text: &str) -> Result<(), AnyError> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// Shows the client's certificate.
pub fn client_config(folder: &Path) -> Result<ClientConfig, AnyError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("server.pem"))?)?;
    let mut config = ClientConfig::builder_with_provider(POLICY.provider(default_provider()))
        .with_protocol_versions(POLICY.versions())?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(folder.join("client.pem"))?],
            PrivateKeyDer::from_pem_file(folder.join("client.key"))?,
        )?;
    POLICY.restrict_client(&mut config);
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Wants the client's certificate.
pub fn server_config(folder: &Path) -> Result<ServerConfig, AnyError> {
    let provider = POLICY.provider(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("clients.pem"))?)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(POLICY.versions())?
        .with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(folder.join("server.pem"))?],
            PrivateKeyDer::from_pem_file(folder.join("server.key"))?,
        )?;
    POLICY.restrict_server(&mut config);
    Ok(config)
}
