//! Public keys, as TPMs have them and as SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279, RFC 5480).

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Sequence};
use ekm_otp_files::pem::{self, PemError};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A curve of NIST's (TCG Algorithm Registry, 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Curve {
    /// TPM_ECC_NIST_P256.
    P256,
    /// TPM_ECC_NIST_P384.
    P384,
}

impl Curve {
    pub(super) fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0003 => Some(Self::P256),
            0x0004 => Some(Self::P384),
            _ => None,
        }
    }

    /// The length of a coordinate.
    pub(super) fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Self::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicKey {
    /// RSA.
    Rsa {
        /// Big-endian.
        modulus: Vec<u8>,
        /// 65537 as a rule.
        exponent: u32,
    },
    /// A point on a curve; its coordinates have the curve's length.
    Ecc {
        /// The curve.
        curve: Curve,
        /// Big-endian.
        x: Vec<u8>,
        /// Big-endian.
        y: Vec<u8>,
    },
}

/// Why bytes are no public key that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PEM.
    #[error("{0}")]
    Pem(#[from] PemError),
    /// Neither.
    #[error("it is neither a public key (SubjectPublicKeyInfo) nor a certificate")]
    Syntax,
    /// Another algorithm or curve.
    #[error("it is neither an RSA key nor one on P-256 or P-384")]
    Algorithm,
}

/// RSAPublicKey (RFC 8017, appendix A.1.1)
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    /// From the coordinates of a point. A TPM may leave leading zeros out.
    pub(super) fn from_point(curve: Curve, x: &[u8], y: &[u8]) -> Option<Self> {
        let len = curve.coordinate_len();
        let padded = |coordinate: &[u8]| len.checked_sub(coordinate.len()).map(|missing| [&vec![0; missing][..], coordinate].concat());
        Some(Self::Ecc { curve, x: padded(x)?, y: padded(y)? })
    }

    /// From a SubjectPublicKeyInfo, or the one of a certificate; in PEM or DER.
    ///
    /// # Errors
    /// When it is neither, or of another algorithm.
    pub fn read(file: &[u8]) -> Result<Self, KeyError> {
        let der = match pem::blocks(file) {
            Ok(blocks) => {
                let known = ["PUBLIC KEY", "CERTIFICATE", "X509 CERTIFICATE"];
                let block = blocks.into_iter().find(|block| known.contains(&block.label.as_str()));
                block.ok_or(KeyError::Syntax)?.bytes.to_vec()
            }
            Err(PemError::Der) => file.to_vec(),
            Err(e) => return Err(e.into()),
        };
        match x509_cert::Certificate::from_der(&der) {
            Ok(certificate) => {
                Self::from_spki(&certificate.tbs_certificate().subject_public_key_info().to_der().map_err(|_| KeyError::Syntax)?)
            }
            Err(_) => Self::from_spki(&der),
        }
    }

    /// From a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When it is none, or of another algorithm.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyError::Syntax)?;
        let bits = info.subject_public_key.as_bytes().ok_or(KeyError::Syntax)?;
        if info.algorithm.oid == RSA_ENCRYPTION {
            let key = RsaPublicKey::from_der(bits).map_err(|_| KeyError::Syntax)?;
            let exponent = key.exponent.as_bytes().iter().try_fold(0_u32, |all, byte| Some(all.checked_mul(256)? + u32::from(*byte)));
            return Ok(Self::Rsa { modulus: key.modulus.as_bytes().to_vec(), exponent: exponent.ok_or(KeyError::Algorithm)? });
        }
        let named = info.algorithm.parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let curve = [Curve::P256, Curve::P384].into_iter().find(|curve| info.algorithm.oid == EC_PUBLIC_KEY && named == Some(curve.oid()));
        let curve = curve.ok_or(KeyError::Algorithm)?;
        match bits.split_first() {
            Some((4, point)) if point.len() == 2 * curve.coordinate_len() => {
                let (x, y) = point.split_at(curve.coordinate_len());
                Ok(Self::Ecc { curve, x: x.to_vec(), y: y.to_vec() })
            }
            _ => Err(KeyError::Syntax),
        }
    }

    /// As SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        // Encoding fails at lengths that no key has.
        self.encode().unwrap_or_default()
    }

    fn encode(&self) -> der::Result<Vec<u8>> {
        let (oid, curve, bits) = match self {
            Self::Rsa { modulus, exponent } => {
                let exponent = exponent.to_be_bytes();
                let key = RsaPublicKey { modulus: UintRef::new(modulus)?, exponent: UintRef::new(&exponent)? };
                (RSA_ENCRYPTION, None, key.to_der()?)
            }
            Self::Ecc { curve, .. } => (EC_PUBLIC_KEY, Some(curve.oid()), self.point().unwrap_or_default()),
        };
        let parameters = Some(curve.as_ref().map_or(AnyRef::NULL, AnyRef::from));
        let algorithm = AlgorithmIdentifierRef { oid, parameters };
        SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(&bits)? }.to_der()
    }

    /// The point, uncompressed (SEC 1, 2.3.3). `None` for RSA.
    pub(super) fn point(&self) -> Option<Vec<u8>> {
        if let Self::Ecc { x, y, .. } = self { Some([&[4][..], x, y].concat()) } else { None }
    }
}
