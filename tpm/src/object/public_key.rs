//! Public keys to PEM (RFC 5280 §4.1.2.7, RFC 3279, RFC 5480).

use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Encode as _, pem};
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::Public;

use super::oid::{EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP256R1, SECP384R1};

pub(crate) fn public_pem(public: &Public) -> Option<String> {
    pem::encode_string("PUBLIC KEY", pem::LineEnding::LF, &public_der(public)?).ok()
}

/// SubjectPublicKeyInfo in DER.
pub(crate) fn public_der(public: &Public) -> Option<Vec<u8>> {
    let encoded = |oid, parameters: AnyRef<'_>, key: &[u8]| {
        let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
        SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key).ok()? }.to_der().ok()
    };
    match public {
        Public::Rsa { unique, parameters, .. } => {
            let exponent = match parameters.exponent().value() {
                0 => 65537_u32,
                exponent => exponent,
            };
            let exponent = exponent.to_be_bytes();
            let key = pkcs1::RsaPublicKey { modulus: UintRef::new(unique.value()).ok()?, public_exponent: UintRef::new(&exponent).ok()? };
            encoded(RSA_ENCRYPTION, AnyRef::NULL, &key.to_der().ok()?)
        }
        Public::Ecc { unique, parameters, .. } => {
            let (curve, len) = match parameters.ecc_curve() {
                EccCurve::NistP256 => (SECP256R1, 32),
                EccCurve::NistP384 => (SECP384R1, 48),
                _ => return None,
            };
            // A TPM may leave leading zeros out.
            let padded = |coordinate: &[u8]| [&vec![0; len - coordinate.len().min(len)][..], coordinate].concat();
            let point = [&[4][..], &padded(unique.x().value()), &padded(unique.y().value())].concat();
            encoded(EC_PUBLIC_KEY, AnyRef::from(&curve), &point)
        }
        _ => None,
    }
}
