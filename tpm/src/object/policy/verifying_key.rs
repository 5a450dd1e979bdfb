//! The public keys that policies name (TPM2_PolicySigned, TPM2_PolicyAuthorize). A policy holds a key's name (TCG part 1, 16), which covers more than
//! the key: its attributes and scheme. So the same PEM has several names, one for each template that others use.

use der::Decode as _;
use der::asn1::{AnyRef, UintRef};
use der::pem::PemLabel as _;
use ekm_otp_files::pem;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use tss_esapi::structures::{EccScheme, Public, RsaScheme, Signature};
use tss_esapi::traits::UnMarshall as _;

use crate::object::blob::{public_blob, public_from, with_size};
use crate::object::name::name_of;
use crate::object::oid::{EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP256R1, SECP384R1};
use crate::object::public_key::public_pem;
use crate::{DigestAlgorithm, SignatureScheme};

/// TPM_ALG_ID (TCG Algorithm Registry)
const RSA: u16 = 0x0001;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const ECDSA: u16 = 0x0018;
const ECC: u16 = 0x0023;

/// userWithAuth, decrypt, sign: what tpm2_loadexternal and systemd give a public key.
const PLAIN: u32 = 0x0006_0040;
/// sign: what tpm2-tss' feature API gives it.
const FEATURE_API: u32 = 0x0004_0000;

/// What a public key is taken for when only its PEM is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Template {
    /// As tpm2_loadexternal makes it: any scheme.
    Tools,
    /// As systemd makes it: the same, and the exponent 65537 is written as 0, which stands for it.
    Systemd,
    /// As tpm2-tss' feature API makes it: RSAPSS or ECDSA, with SHA-256.
    FeatureApi,
    /// The same, with RSASSA.
    FeatureApiRsaSsa,
}

impl Template {
    pub(super) const ALL: [Self; 4] = [Self::Tools, Self::Systemd, Self::FeatureApi, Self::FeatureApiRsaSsa];
}

/// A public key whose signatures a policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    pub(crate) public: Public,
    name: Vec<u8>,
    pem: String,
}

impl VerifyingKey {
    /// From a public key (`PUBLIC KEY`: SubjectPublicKeyInfo, RFC 5280 §4.1.2.7), RSA of 2048 or 3072 bits, P-256 or P-384, under the name that
    /// tpm2_loadexternal gives it.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn from_pem(text: &str) -> Result<Self, VerifyingKeyError> {
        Self::of_template(text, Template::Tools)
    }

    pub(super) fn of_template(text: &str, template: Template) -> Result<Self, VerifyingKeyError> {
        let blocks = pem::blocks(text.as_bytes()).map_err(|_| VerifyingKeyError::Pem)?;
        let [block] = blocks.as_slice() else { return Err(VerifyingKeyError::Pem) };
        if block.label != SubjectPublicKeyInfoRef::<'_>::PEM_LABEL {
            return Err(VerifyingKeyError::Pem);
        }
        let info = SubjectPublicKeyInfoRef::from_der(&block.bytes).map_err(|_| VerifyingKeyError::Algorithm)?;
        let area = area(&info, template).ok_or(VerifyingKeyError::Algorithm)?;
        Self::of(public_from(&with_size(&area)).map_err(|_| VerifyingKeyError::Algorithm)?).ok_or(VerifyingKeyError::Algorithm)
    }

    /// From a public area as it stands.
    pub(crate) fn of(public: Public) -> Option<Self> {
        let (name, pem) = (name_of(&public)?, public_pem(&public)?);
        Some(Self { public, name, pem })
    }

    /// The key's name (TCG part 1, 16), which is what a policy holds of it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The key, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The scheme that it signs with, if its area names one, or what is usual.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        match &self.public {
            Public::Ecc { .. } => SignatureScheme::Ecdsa,
            Public::Rsa { parameters, .. } if matches!(parameters.rsa_scheme(), RsaScheme::RsaPss(_)) => SignatureScheme::RsaPss,
            _ => SignatureScheme::RsaSsa,
        }
    }

    /// Whether the area names a scheme that an RSA signature must have.
    pub(super) fn is_plain(&self) -> bool {
        match &self.public {
            Public::Rsa { parameters, .. } => parameters.rsa_scheme() == RsaScheme::Null,
            Public::Ecc { parameters, .. } => parameters.ecc_scheme() == EccScheme::Null,
            _ => false,
        }
    }

    /// TPM2B_PUBLIC
    pub(crate) fn blob(&self) -> Vec<u8> {
        public_blob(&self.public).unwrap_or_default()
    }

    /// A signature over a SHA-256 digest, as OpenSSL writes it: raw for RSA, DER for ECDSA.
    pub(crate) fn signature(&self, bytes: &[u8]) -> Option<Signature> {
        self.scheme().decode(DigestAlgorithm::Sha256, bytes)
    }
}

/// TPMT_SIGNATURE (TCG part 2, 11.3.4), to its end.
pub(crate) fn signature_from(bytes: &[u8]) -> Option<Signature> {
    use tss_esapi::traits::Marshall as _;
    let signature = Signature::unmarshall(bytes).ok()?;
    // The reader passes over what stands behind it.
    signature.marshall().is_ok_and(|again| again == bytes).then_some(signature)
}

/// TPMT_PUBLIC (TCG part 2, 12.2.4)
fn area(info: &SubjectPublicKeyInfoRef<'_>, template: Template) -> Option<Vec<u8>> {
    let is_plain = matches!(template, Template::Tools | Template::Systemd);
    let attributes = if is_plain { PLAIN } else { FEATURE_API };
    let head = |kind: u16| [&kind.to_be_bytes()[..], &SHA256.to_be_bytes(), &attributes.to_be_bytes(), &[0, 0]].concat();
    let scheme = |fixed: u16| match template {
        Template::Tools | Template::Systemd => NULL.to_be_bytes().to_vec(),
        _ => [fixed.to_be_bytes(), SHA256.to_be_bytes()].concat(),
    };
    let key = info.subject_public_key.as_bytes()?;
    if info.algorithm.oid == RSA_ENCRYPTION {
        let key = pkcs1::RsaPublicKeyRef::from_der(key).ok()?;
        let modulus = key.modulus.as_bytes();
        let is_usual = key.public_exponent == UintRef::new(&[1, 0, 1]).ok()?;
        let bits = u16::try_from(modulus.len() * 8).ok().filter(|bits| [2048, 3072].contains(bits) && is_usual)?;
        let fixed = if template == Template::FeatureApiRsaSsa { RSASSA } else { RSAPSS };
        let exponent: u32 = if template == Template::Systemd { 0 } else { 65537 };
        let parameters = [&NULL.to_be_bytes()[..], &scheme(fixed), &bits.to_be_bytes(), &exponent.to_be_bytes()].concat();
        return Some([head(RSA), parameters, with_size(modulus)].concat());
    }
    let curve = info.algorithm.parameters.filter(|_| info.algorithm.oid == EC_PUBLIC_KEY)?;
    // TPM_ECC_NIST_P256, TPM_ECC_NIST_P384
    let (id, len) =
        [(SECP256R1, 3_u16, 32), (SECP384R1, 4, 48)].into_iter().find(|(oid, ..)| curve == AnyRef::from(oid)).map(|c| (c.1, c.2))?;
    let point = key.strip_prefix(&[4]).filter(|point| point.len() == 2 * len)?;
    let (x, y) = point.split_at(len);
    let parameters = [&NULL.to_be_bytes()[..], &scheme(ECDSA), &id.to_be_bytes(), &NULL.to_be_bytes()].concat();
    Some([head(ECC), parameters, with_size(x), with_size(y)].concat())
}

/// The SHA-256 fingerprint of a key's SubjectPublicKeyInfo, as systemd names keys in its signatures.
pub(super) fn fingerprint(key: &VerifyingKey) -> Option<Vec<u8>> {
    use sha2::Digest as _;
    let blocks = pem::blocks(key.pem.as_bytes()).ok()?;
    Some(sha2::Sha256::digest(&blocks.first()?.bytes).to_vec())
}

/// Why a text is no public key that a policy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyingKeyError {
    /// Not one PEM block of that label.
    #[error("it is not one public key in PEM (-----BEGIN PUBLIC KEY-----): `openssl pkey -in KEY -pubout` writes one")]
    Pem,
    /// Another algorithm, size, exponent or curve.
    #[error("only RSA of 2048 or 3072 bits with the exponent 65537, P-256 and P-384 are taken, or it is damaged")]
    Algorithm,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::name::hex;

    #[test]
    fn bits_around_the_key_change_its_name_and_nothing_else_is_taken() {
        // Of the vectors of tpm2-tss (test/data/fapi/policy/pol_authorize_ecc_pem.json); a public key, no secret.
        let pem = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGrFjxBLlFFiZOvemP50H4xCQpL3b\n\
                   yeJqGISIHmNSPpTGS9K5kGoKw3gdR2DXsO97RkIZbpHKiA41PJ2KnXDS1Q==\n-----END PUBLIC KEY-----\n";
        let names = Template::ALL.map(|template| hex(VerifyingKey::of_template(pem, template).expect("a key").name()));
        assert_ne!(names[0], names[2]);
        assert_eq!((&names[0], &names[2]), (&names[1], &names[3]), "RSA's schemes and exponents are nothing to an ECC key");
        assert_eq!(VerifyingKey::from_pem(pem).expect("a key").pem(), pem);

        for (text, error) in [
            (String::new(), VerifyingKeyError::Pem),
            (pem.repeat(2), VerifyingKeyError::Pem),
            (pem.replace("PUBLIC", "PRIVATE"), VerifyingKeyError::Pem),
            (pem.replace("MFkwEwYHKoZIzj0CAQ", "MFkwEwYHKoZIzj0CAR"), VerifyingKeyError::Algorithm),
        ] {
            assert_eq!(VerifyingKey::from_pem(&text), Err(error), "{text}");
        }
    }
}
