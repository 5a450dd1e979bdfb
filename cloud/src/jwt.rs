//! JSON Web Tokens (RFC 7519) in JWS compact serialisation (RFC 7515 §3.1): what is to be signed is a value; whoever holds the key signs it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::CloudError;
use crate::key::{KeyError, PublicKeyKind, SignatureAlgorithm, SigningKey, sign};

/// A token that lacks its signature.
#[derive(Clone, Debug)]
pub struct UnsignedJwt {
    algorithm: SignatureAlgorithm,
    signing_input: String,
}

impl UnsignedJwt {
    /// `header` gets `alg` and `typ` "JWT".
    #[must_use]
    pub fn new(algorithm: SignatureAlgorithm, mut header: Map<String, Value>, claims: &Map<String, Value>) -> Self {
        let name = match algorithm {
            SignatureAlgorithm::RsaSsaSha256 => "RS256",
            SignatureAlgorithm::RsaPssSha256 => "PS256",
            SignatureAlgorithm::EcdsaSha256 => "ES256",
            SignatureAlgorithm::EcdsaSha384 => "ES384",
        };
        header.insert("alg".into(), name.into());
        header.insert("typ".into(), "JWT".into());
        let part = |object: &Map<String, Value>| BASE64_URL_SAFE_NO_PAD.encode(Value::Object(object.clone()).to_string());
        Self { algorithm, signing_input: format!("{}.{}", part(&header), part(claims)) }
    }

    /// The JWS signing input (RFC 7515 §5.1).
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        self.signing_input.as_bytes()
    }

    /// The token.
    ///
    /// # Errors
    /// [`CloudError::Key`] where the key does not answer, or not with a signature of its own.
    pub async fn sign(self, key: &dyn SigningKey) -> Result<Zeroizing<String>, CloudError> {
        let signature = sign(key, self.algorithm, self.to_be_signed()).await?;
        let signature = match (self.algorithm, key.public_key().kind()) {
            (SignatureAlgorithm::RsaSsaSha256 | SignatureAlgorithm::RsaPssSha256, _) => Some(signature),
            // RFC 7518 §3.4 ties each hash to one curve.
            (SignatureAlgorithm::EcdsaSha256, PublicKeyKind::P256) => fixed_length(&signature, 32),
            (SignatureAlgorithm::EcdsaSha384, PublicKeyKind::P384) => fixed_length(&signature, 48),
            _ => None,
        };
        let signature = signature.ok_or_else(|| KeyError::new("tokens take no such signature: ES256 is for P-256, ES384 for P-384"))?;
        Ok(Zeroizing::new(format!("{}.{}", self.signing_input, BASE64_URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// Ecdsa-Sig-Value (RFC 3279 §2.2.3)
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// r ‖ s, each of this length (RFC 7518 §3.4).
fn fixed_length(der: &[u8], len: usize) -> Option<Vec<u8>> {
    let EcdsaSignature { r, s } = EcdsaSignature::from_der(der).ok()?;
    let mut fixed = vec![0; 2 * len];
    for (number, end) in [(r, len), (s, 2 * len)] {
        let bytes = number.as_bytes();
        (bytes.len() <= len).then(|| fixed[end - bytes.len()..end].copy_from_slice(bytes))?;
    }
    Some(fixed)
}
