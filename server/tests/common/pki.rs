//! A certificate authority of a test's own, whose leaves can be replaced while its clients go on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use ekm_otp::TlsPolicy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};

/// What clients trust.
pub struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// The certificate authority's own certificate, in PEM.
    pub fn ca(&self) -> String {
        self.0.pem()
    }

    /// A new key and a certificate for these names, in PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).and_then(|leaf| leaf.signed_by(&key, &self.0)).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The same as NAME.pem and NAME.key in this folder. What was there is replaced by renaming, as careful tools do.
    pub fn issue_to(&self, folder: &Path, name: &str, names: &[&str]) {
        let (certificate, key) = self.issue(names);
        replace(&folder.join(format!("{name}.key")), &key);
        replace(&folder.join(format!("{name}.pem")), &certificate);
    }

    /// A client's TLS: 1.3, this authority, one protocol.
    pub fn client(&self, alpn: &[u8]) -> Arc<ClientConfig> {
        // The cheaper exchange is enough, and thousands of connections take a third of the time.
        self.client_by(alpn, rustls::crypto::aws_lc_rs::kx_group::X25519)
    }

    /// The same with this key exchange.
    pub fn client_by(&self, alpn: &[u8], exchange: &'static dyn rustls::crypto::SupportedKxGroup) -> Arc<ClientConfig> {
        let policy = TlsPolicy::default();
        let mut provider = policy.provider(rustls::crypto::aws_lc_rs::default_provider());
        let provider = Arc::make_mut(&mut provider);
        provider.kx_groups = vec![exchange];
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(policy.versions())
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        policy.restrict_client(&mut config);
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }
}

/// Puts a file, readable by its owner only, in another one's place: nobody ever sees half of it.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("writing");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::rename(&new, path).expect("renaming");
}
