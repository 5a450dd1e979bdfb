//! An application with its certificate and the key of that: what assertions are made from.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::assertion::{Application, Assertion, AssertionAlgorithm};
use crate::CloudError;
use crate::certificate::Certificates;
use crate::key::{KeyError, PublicKeyKind, SignatureAlgorithm, SigningKey};

/// An application, the certificate that is registered for it, and the key that this certifies: RSA.
pub struct CertificateCredential {
    application: Application,
    certificates: Certificates,
    key: Box<dyn SigningKey>,
    algorithm: Option<AssertionAlgorithm>,
    with_chain: bool,
    /// Whether the key's PSS was found to have another length of salt than Entra takes.
    has_other_salt: AtomicBool,
}

impl CertificateCredential {
    /// `certificates` begin with the key's own; `with_chain` sends them with each assertion. Signs as `algorithm` says, or as the key can: with PS256 where it does, else
    /// with RS256.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where the certificate is not the key's, or Entra takes nothing that the key signs.
    pub fn new(
        application: Application,
        certificates: Certificates,
        key: Box<dyn SigningKey>,
        algorithm: Option<AssertionAlgorithm>,
        with_chain: bool,
    ) -> Result<Self, CloudError> {
        let usage = |text: &dyn fmt::Display| Err(CloudError::Usage(text.to_string()));
        if key.public_key().kind() != PublicKeyKind::Rsa {
            return usage(&"Entra takes RSA keys only: this one is an ECC key");
        }
        if let Err(e) = certificates.leaf.must_certify(key.public_key()) {
            return usage(&e);
        }
        match (algorithm, key.allows(SignatureAlgorithm::RsaPssSha256), key.allows(SignatureAlgorithm::RsaSsaSha256)) {
            (Some(AssertionAlgorithm::Ps256), false, _) => {
                usage(&"the key cannot sign with RSASSA-PSS (PS256): it was made for another scheme")
            }
            (Some(AssertionAlgorithm::Rs256), _, false) => {
                usage(&"the key cannot sign with RSASSA-PKCS1-v1_5 (RS256): it was made for another scheme")
            }
            (None, false, false) => usage(&"the key signs neither with PS256 nor with RS256: it was made for another scheme or hash"),
            _ => Ok(Self { application, certificates, key, algorithm, with_chain, has_other_salt: AtomicBool::new(false) }),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// The key's certificate, first.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// An assertion, issued at `now`. One signature; once two, where the key's PSS has another length of salt than Entra takes, which shows only then.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn assertion(&self, lifetime: Duration, now: SystemTime) -> Result<Zeroizing<String>, CloudError> {
        match self.algorithm {
            Some(algorithm) => self.signed(algorithm, lifetime, now).await,
            None if !self.key.allows(SignatureAlgorithm::RsaPssSha256) || self.has_other_salt.load(Ordering::Relaxed) => {
                self.signed(AssertionAlgorithm::Rs256, lifetime, now).await
            }
            None => match self.signed(AssertionAlgorithm::Ps256, lifetime, now).await {
                Err(CloudError::Key(KeyError::Unverified)) if self.key.allows(SignatureAlgorithm::RsaSsaSha256) => {
                    let signed = self.signed(AssertionAlgorithm::Rs256, lifetime, now).await?;
                    // The key itself is right, so it was the salt.
                    self.has_other_salt.store(true, Ordering::Relaxed);
                    Ok(signed)
                }
                other => other,
            },
        }
    }

    async fn signed(&self, algorithm: AssertionAlgorithm, lifetime: Duration, now: SystemTime) -> Result<Zeroizing<String>, CloudError> {
        let Self { application, certificates, with_chain, .. } = self;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(KeyError::new)?;
        let id = BASE64_URL_SAFE_NO_PAD.encode(random);
        let assertion = Assertion { application, certificates, lifetime, with_chain: *with_chain };
        assertion.unsigned(algorithm, &id, now)?.sign(&*self.key).await
    }
}

impl fmt::Debug for CertificateCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCredential").field("application", &self.application).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::{Padding, Rsa};
    use openssl::sign::{RsaPssSaltlen, Signer};
    use serde_json::Value;

    use super::*;
    use crate::{Certificate, KeyFuture, PublicKey, SoftwareSigner};

    /// A key whose PSS takes as much salt as there is room for, as some TPMs do.
    struct MaximumSalt {
        key: PKey<Private>,
        public: PublicKey,
        /// Signatures with PSS, and without.
        asked: Arc<[AtomicUsize; 2]>,
    }

    impl SigningKey for MaximumSalt {
        fn public_key(&self) -> &PublicKey {
            &self.public
        }

        fn allows(&self, algorithm: SignatureAlgorithm) -> bool {
            matches!(algorithm, SignatureAlgorithm::RsaPssSha256 | SignatureAlgorithm::RsaSsaSha256)
        }

        fn sign_unverified<'a>(&'a self, algorithm: SignatureAlgorithm, message: &'a [u8]) -> KeyFuture<'a, Vec<u8>> {
            Box::pin(async move {
                let is_pss = algorithm == SignatureAlgorithm::RsaPssSha256;
                self.asked[usize::from(!is_pss)].fetch_add(1, Ordering::Relaxed);
                let mut signer = Signer::new(MessageDigest::sha256(), &self.key).map_err(KeyError::new)?;
                if is_pss {
                    signer.set_rsa_padding(Padding::PKCS1_PSS).map_err(KeyError::new)?;
                    signer.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH).map_err(KeyError::new)?;
                }
                signer.sign_oneshot_to_vec(message).map_err(KeyError::new)
            })
        }
    }

    fn key() -> (PKey<Private>, PublicKey) {
        let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
        let public = PublicKey::from_der(&key.public_key_to_der().expect("DER")).expect("a public key");
        (key, public)
    }

    fn certified(key: &PKey<Private>) -> Certificates {
        let mut builder = openssl::x509::X509::builder().expect("a builder");
        let mut name = openssl::x509::X509Name::builder().expect("a name");
        name.append_entry_by_text("CN", "test data").expect("a name");
        let name = name.build();
        builder.set_version(2).expect("a version");
        builder.set_subject_name(&name).expect("a subject");
        builder.set_issuer_name(&name).expect("an issuer");
        builder.set_not_before(&openssl::asn1::Asn1Time::days_from_now(0).expect("a time")).expect("a time");
        builder.set_not_after(&openssl::asn1::Asn1Time::days_from_now(1).expect("a time")).expect("a time");
        builder.set_pubkey(key).expect("the key");
        builder.sign(key, MessageDigest::sha256()).expect("a signature");
        let leaf = Certificate::from_der(&builder.build().to_der().expect("DER")).expect("a certificate");
        Certificates { leaf, chain: Vec::new() }
    }

    fn application() -> Application {
        Application::new(Default::default(), "tenant", "client").expect("an application")
    }

    fn part(assertion: &str, at: usize) -> Value {
        let part = assertion.split('.').nth(at).expect("a part");
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64url without padding")).expect("JSON")
    }

    #[tokio::test]
    async fn a_key_whose_pss_has_another_length_of_salt_signs_with_rs256_which_is_found_out_once() {
        let (key, public) = key();
        let (certificates, asked) = (certified(&key), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
        let signer = |asked| Box::new(MaximumSalt { key: key.clone(), public: public.clone(), asked });
        let credential = CertificateCredential::new(application(), certificates.clone(), signer(Arc::clone(&asked)), None, false);
        let credential = credential.expect("the key's certificate");
        for made in 1..4 {
            let assertion = credential.assertion(Duration::from_secs(600), SystemTime::now()).await.expect("an assertion");
            let header = part(&assertion, 0);
            assert_eq!(header["alg"], "RS256");
            let sha1 = openssl::hash::hash(MessageDigest::sha1(), certificates.leaf.as_der()).expect("a digest");
            assert_eq!(header["x5t"], BASE64_URL_SAFE_NO_PAD.encode(sha1));
            assert_eq!(header.get("x5t#S256"), None);
            assert_eq!(asked.each_ref().map(|number| number.load(Ordering::Relaxed)), [1, made]);
        }
        // Whoever insists is told.
        let forced = CertificateCredential::new(application(), certificates, signer(asked), Some(AssertionAlgorithm::Ps256), false);
        let refused = forced.expect("the key's certificate").assertion(Duration::from_secs(600), SystemTime::now()).await;
        assert!(matches!(refused, Err(CloudError::Key(KeyError::Unverified))), "{refused:?}");
    }

    #[tokio::test]
    async fn an_assertion_says_what_entra_asks_for_and_is_never_the_same() {
        let (key, _) = key();
        let certificates = certified(&key);
        let pem = key.private_key_to_pem_pkcs8().expect("PEM");
        let signer = Box::new(SoftwareSigner::from_pem(&pem).expect("the key"));
        let credential =
            CertificateCredential::new(application(), certificates.clone(), signer, None, true).expect("the key's certificate");
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_900);
        let mut ids = std::collections::HashSet::new();
        for _ in 0..3 {
            let assertion = credential.assertion(Duration::from_secs(600), now).await.expect("an assertion");
            let sha256 = openssl::hash::hash(MessageDigest::sha256(), certificates.leaf.as_der()).expect("a digest");
            let x5c = openssl::base64::encode_block(certificates.leaf.as_der());
            let header = serde_json::json!({"alg": "PS256", "typ": "JWT", "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(sha256), "x5c": [x5c]});
            assert_eq!(part(&assertion, 0), header);
            let mut claims = part(&assertion, 1);
            let id = claims.as_object_mut().expect("an object").remove("jti").expect("an id");
            let audience = "https://login.microsoftonline.com/tenant/oauth2/v2.0/token";
            let expected = serde_json::json!({
                "aud": audience, "iss": "client", "sub": "client", "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_600,
            });
            assert_eq!(claims, expected);
            assert!(ids.insert(id.as_str().expect("a text").to_owned()), "{ids:?}");
        }
        for faulty in [Duration::ZERO, Duration::from_secs(3601)] {
            assert!(matches!(credential.assertion(faulty, now).await, Err(CloudError::Usage(_))));
        }
    }

    #[test]
    fn a_certificate_of_another_key_is_refused_before_anything_is_signed() {
        let ((key, public), (other, _)) = (key(), key());
        let asked = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let signer = Box::new(MaximumSalt { key, public, asked });
        let refused = CertificateCredential::new(application(), certified(&other), signer, None, false);
        assert!(matches!(refused, Err(CloudError::Usage(why)) if why.contains("certifies another key")));
    }
}
