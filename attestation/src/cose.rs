//! COSE_Sign1 (RFC 9052 §4.2) with ECDSA on P-384 and SHA-384 (ES384, RFC 9053 §2.1): the envelope of Nitro's documents.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use crate::cbor::{self, CborError, Value};

/// The tag of a COSE_Sign1 (RFC 9052 §2), in its one byte.
const TAG_18: u8 = 0xd2;
/// `alg` (RFC 9052 §3.1), and ES384 (RFC 9053 §2.1): −35 = −1 − 34.
const ALG: Value = Value::Unsigned(1);
const ES384: Value = Value::Negative(34);
/// r and s, 48 bytes each.
const SIGNATURE_LEN: usize = 96;

/// The four parts, taken apart and not yet verified.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sign1 {
    protected: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// Why bytes are no COSE_Sign1 of the one kind that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoseError {
    /// Not CBOR, or not as strict as it has to be.
    #[error("not the CBOR of an attestation document: {0}")]
    Cbor(#[from] CborError),
    /// Something else.
    #[error("not a COSE_Sign1: an array of protected header, unprotected header, payload and signature is wanted")]
    Shape,
    /// Another algorithm, or more in the protected header.
    #[error("its protected header is not the algorithm ES384 alone")]
    Algorithm,
    /// Not signed, so believed by nobody; documents have none.
    #[error("it has an unprotected header, which proves nothing")]
    Unprotected,
    /// Not r and s.
    #[error("its signature has {0} bytes, and ES384's have {SIGNATURE_LEN}")]
    SignatureLength(usize),
}

impl Sign1 {
    /// With its tag or without.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CoseError> {
        let Value::Array(parts) = cbor::decode(bytes.strip_prefix(&[TAG_18]).unwrap_or(bytes))? else { return Err(CoseError::Shape) };
        let [Value::Bytes(protected), Value::Map(unprotected), Value::Bytes(payload), Value::Bytes(signature)] = &parts[..] else {
            return Err(CoseError::Shape);
        };
        match cbor::decode(protected)? {
            Value::Map(header) if header == [(ALG, ES384)] => {}
            _ => return Err(CoseError::Algorithm),
        }
        match (unprotected.is_empty(), signature.len()) {
            (false, _) => Err(CoseError::Unprotected),
            (true, SIGNATURE_LEN) => Ok(Self { protected: protected.clone(), payload: payload.clone(), signature: signature.clone() }),
            (true, other) => Err(CoseError::SignatureLength(other)),
        }
    }

    /// Sig_structure (RFC 9052 §4.4): what is signed, with the parts as they came.
    fn to_be_signed(&self) -> Vec<u8> {
        // An array of 4, "Signature1", the protected header, no external data, the payload.
        let bytes = |bytes: &[u8]| [cbor::bytes_head(bytes.len()), bytes.to_vec()].concat();
        [&[0x84, 0x6a][..], b"Signature1", &bytes(&self.protected), &bytes(&[]), &bytes(&self.payload)].concat()
    }

    /// Whether the holder of this key, an uncompressed point of P-384, has signed it.
    pub(crate) fn is_signed_by(&self, point: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(&self.to_be_signed(), &self.signature).is_ok()
    }
}
