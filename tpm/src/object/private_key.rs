//! Private keys from PEM, on their way into a TPM (RFC 5958, RFC 8017, RFC 5915).

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use ekm_otp_files::pem::{self, PemError};
use pkcs8::PrivateKeyInfoRef;
use tss_esapi::structures::{EccParameter, EccPoint, PublicKeyRsa, RsaExponent};
use zeroize::Zeroizing;

use super::KeyKind;
use super::oid::{EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP256R1, SECP384R1};
use super::template::Unique;

/// A private key outside of a TPM, on its way into one. Wiped when dropped.
pub struct PrivateKey {
    pub(crate) kind: KeyKind,
    pub(crate) unique: Unique,
    /// One prime of an RSA key, the scalar of an ECC key.
    pub(crate) sensitive: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Reads PKCS#8 (`PRIVATE KEY`), PKCS#1 (`RSA PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`): RSA of 2048 or 3072 bits, or P-256 or P-384.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn from_pem(text: &str) -> Result<Self, PrivateKeyError> {
        let block = pem::private_key(text.as_bytes()).map_err(|error| match error {
            PemError::Encrypted => PrivateKeyError::Encrypted,
            other => PrivateKeyError::Pem(other),
        })?;
        let der = block.bytes;
        match block.label.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(&PrivateKeyInfoRef::from_der(&der).map_err(|_| PrivateKeyError::Damaged)?),
            "RSA PRIVATE KEY" => Self::from_pkcs1(&der),
            _ => Self::from_sec1(&der, None),
        }
    }

    /// The same from a file's bytes: PEM, or DER without a label.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn read(bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        // A DER SEQUENCE; text may begin with this byte, too.
        let is_der = bytes.first() == Some(&0x30) && !bytes.windows(11).any(|window| window == b"-----BEGIN ");
        match std::str::from_utf8(bytes) {
            Ok(text) if !is_der => Self::from_pem(text),
            _ => Self::from_der(bytes),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        if let Ok(info) = PrivateKeyInfoRef::from_der(der) {
            return Self::from_pkcs8(&info);
        }
        // The first member of both is a version: 0 of PKCS#1, 1 of SEC 1.
        if pkcs1::RsaPrivateKeyRef::from_der(der).is_ok() {
            return Self::from_pkcs1(der);
        }
        sec1::EcPrivateKey::from_der(der).map_err(|_| PrivateKeyError::Der)?;
        Self::from_sec1(der, None)
    }

    fn from_pkcs8(info: &PrivateKeyInfoRef<'_>) -> Result<Self, PrivateKeyError> {
        match info.algorithm.oid {
            RSA_ENCRYPTION => Self::from_pkcs1(info.private_key.as_bytes()),
            EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters_oid().map_err(|_| PrivateKeyError::Damaged)?;
                Self::from_sec1(info.private_key.as_bytes(), Some(curve))
            }
            _ => Err(PrivateKeyError::Algorithm),
        }
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, PrivateKeyError> {
        let key = pkcs1::RsaPrivateKeyRef::from_der(der).map_err(|_| PrivateKeyError::Damaged)?;
        let modulus = key.modulus.as_bytes();
        let kind = match modulus.len() {
            256 => KeyKind::Rsa2048,
            384 => KeyKind::Rsa3072,
            _ => return Err(PrivateKeyError::Algorithm),
        };
        if key.public_exponent.as_bytes() != [1, 0, 1] || key.prime1.as_bytes().len() * 2 != modulus.len() {
            return Err(PrivateKeyError::Algorithm);
        }
        let modulus = PublicKeyRsa::try_from(modulus.to_vec()).map_err(|_| PrivateKeyError::Damaged)?;
        let sensitive = Zeroizing::new(key.prime1.as_bytes().to_vec());
        Ok(Self { kind, unique: Unique::Rsa(modulus, RsaExponent::default()), sensitive })
    }

    fn from_sec1(der: &[u8], curve: Option<ObjectIdentifier>) -> Result<Self, PrivateKeyError> {
        let key = sec1::EcPrivateKey::from_der(der).map_err(|_| PrivateKeyError::Damaged)?;
        let curve = curve.or_else(|| key.parameters.and_then(|parameters| parameters.named_curve())).ok_or(PrivateKeyError::Algorithm)?;
        let (kind, len) = match curve {
            SECP256R1 => (KeyKind::EccP256, 32),
            SECP384R1 => (KeyKind::EccP384, 48),
            _ => return Err(PrivateKeyError::Algorithm),
        };
        // Uncompressed (SEC 1, 2.3.3): 04, x, y.
        let point = key.public_key.ok_or(PrivateKeyError::NoPublicKey)?;
        let (x, y) = match point.split_first() {
            Some((4, coordinates)) if coordinates.len() == 2 * len => coordinates.split_at(len),
            _ => return Err(PrivateKeyError::NoPublicKey),
        };
        if key.private_key.len() != len {
            return Err(PrivateKeyError::Damaged);
        }
        let parameter = |bytes: &[u8]| EccParameter::try_from(bytes.to_vec()).map_err(|_| PrivateKeyError::Damaged);
        let unique = Unique::Ecc(EccPoint::new(parameter(x)?, parameter(y)?));
        Ok(Self { kind, unique, sensitive: Zeroizing::new(key.private_key.to_vec()) })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Why a text is no private key that can be put into a TPM. Shows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// No PEM file, or one without a private key (PKCS#8, PKCS#1 or SEC 1).
    #[error(transparent)]
    Pem(PemError),
    /// Encrypted with a password.
    #[error("it is encrypted: decrypt it first, where nobody reads along (openssl pkey -in FILE -out NEW)")]
    Encrypted,
    /// Neither text nor one of the three in DER.
    #[error("it is neither PEM nor a private key in DER (PKCS#8, PKCS#1 or SEC 1, not encrypted), or it is damaged")]
    Der,
    /// Not the structure that the label promises.
    #[error("it is damaged")]
    Damaged,
    /// Another algorithm, size, exponent or curve.
    #[error("only RSA of 2048 or 3072 bits with two primes and the exponent 65537, P-256 and P-384 are taken")]
    Algorithm,
    /// An ECC key without its public part.
    #[error("it does not hold its public key, uncompressed: `openssl ec -in FILE -conv_form uncompressed -out NEW` writes it so")]
    NoPublicKey,
}
