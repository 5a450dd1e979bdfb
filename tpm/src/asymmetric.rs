//! RSA and ECC: private keys from PEM, public keys to PEM, signatures (RFC 5958, RFC 8017, RFC 5915, RFC 5280, RFC 3279).

use cfb_mode::cipher::KeyIvInit as _;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode as _, EncodePem as _, Sequence, pem};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use sha2::{Digest as _, Sha256};
use tss_esapi::constants::tss::{TPM2_ALG_ECC, TPM2_ALG_RSA, TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    Data, Digest, EccParameter, EccPoint, EccSignature, EncryptedSecret, HashScheme, HashcheckTicket, Private, Public, PublicKeyRsa,
    RsaExponent, RsaSignature, Signature, SignatureScheme as TpmScheme, SymmetricDefinitionObject,
};
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;
use zeroize::Zeroizing;

use crate::actor::{KeySource, NewKey, Slot};
use crate::device::{Device, must_be, policy_of};
use crate::keyfile::with_size;
use crate::template::{self, KeyKind, Origin, Unique, name_of};
use crate::{BusEncryption, KeyFile, TpmError, TpmHandle, TpmKey};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA_KEYS: [KeyKind; 2] = [KeyKind::Rsa2048, KeyKind::Rsa3072];
const ECC_KEYS: [KeyKind; 2] = [KeyKind::EccP256, KeyKind::EccP384];

/// A private key outside of a TPM, on its way into one. Wiped when dropped.
pub struct PrivateKey {
    kind: KeyKind,
    unique: Unique,
    /// One prime of an RSA key, the scalar of an ECC key.
    sensitive: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Reads PKCS#8 (`PRIVATE KEY`), PKCS#1 (`RSA PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`): RSA of 2048 or 3072 bits, or P-256 or P-384.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn from_pem(text: &str) -> Result<Self, PrivateKeyError> {
        let (label, der) = pem::decode_vec(text.trim().as_bytes()).map_err(|_| PrivateKeyError::NotPem)?;
        let der = Zeroizing::new(der);
        match label {
            "PRIVATE KEY" => {
                let info = PrivateKeyInfoRef::from_der(&der).map_err(|_| PrivateKeyError::Damaged)?;
                match info.algorithm.oid {
                    RSA_ENCRYPTION => Self::from_pkcs1(info.private_key.as_bytes()),
                    EC_PUBLIC_KEY => {
                        let curve = info.algorithm.parameters_oid().map_err(|_| PrivateKeyError::Damaged)?;
                        Self::from_sec1(info.private_key.as_bytes(), Some(curve))
                    }
                    _ => Err(PrivateKeyError::Algorithm),
                }
            }
            "RSA PRIVATE KEY" => Self::from_pkcs1(&der),
            "EC PRIVATE KEY" => Self::from_sec1(&der, None),
            "ENCRYPTED PRIVATE KEY" => Err(PrivateKeyError::Encrypted),
            other => Err(PrivateKeyError::Label(other.to_owned())),
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
    /// Not one PEM block.
    #[error("it is not one PEM block")]
    NotPem,
    /// PEM of something else.
    #[error("it holds {0:?}: PRIVATE KEY (PKCS#8), RSA PRIVATE KEY (PKCS#1) and EC PRIVATE KEY (SEC 1) are read")]
    Label(String),
    /// Encrypted with a password.
    #[error("it is encrypted: decrypt it first, where nobody reads along (openssl pkey -in FILE)")]
    Encrypted,
    /// Not the structure that the label promises.
    #[error("it is damaged")]
    Damaged,
    /// Another algorithm, size, exponent or curve.
    #[error("only RSA of 2048 or 3072 bits with two primes and the exponent 65537, P-256 and P-384 are taken")]
    Algorithm,
    /// An ECC key without its public part.
    #[error("it does not hold its public key, uncompressed: `openssl pkey -in FILE` writes it so")]
    NoPublicKey,
}

/// How to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaSsa,
    /// RSASSA-PSS (RFC 8017 §8.1), with the salt length that the TPM takes.
    RsaPss,
    /// ECDSA (FIPS 186-5), as `SEQUENCE { r, s }` in DER (RFC 3279 §2.2.3).
    Ecdsa,
}

/// What the digest was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl DigestAlgorithm {
    fn to_tpm(self) -> HashingAlgorithm {
        match self {
            Self::Sha256 => HashingAlgorithm::Sha256,
            Self::Sha384 => HashingAlgorithm::Sha384,
            Self::Sha512 => HashingAlgorithm::Sha512,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Ecdsa-Sig-Value (RFC 3279 §2.2.3)
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl SignatureScheme {
    fn kinds(self) -> (&'static [KeyKind], &'static str) {
        match self {
            Self::RsaSsa => (&RSA_KEYS, "sign with RSASSA"),
            Self::RsaPss => (&RSA_KEYS, "sign with RSAPSS"),
            Self::Ecdsa => (&ECC_KEYS, "sign with ECDSA"),
        }
    }

    fn to_tpm(self, digest: DigestAlgorithm) -> TpmScheme {
        let hash_scheme = HashScheme::new(digest.to_tpm());
        match self {
            Self::RsaSsa => TpmScheme::RsaSsa { hash_scheme },
            Self::RsaPss => TpmScheme::RsaPss { hash_scheme },
            Self::Ecdsa => TpmScheme::EcDsa { hash_scheme },
        }
    }

    fn encode(signature: &Signature) -> Option<Vec<u8>> {
        match signature {
            Signature::RsaSsa(signature) | Signature::RsaPss(signature) => Some(signature.signature().value().to_vec()),
            Signature::EcDsa(signature) => {
                let (r, s) = (UintRef::new(signature.signature_r().value()).ok()?, UintRef::new(signature.signature_s().value()).ok()?);
                der::Encode::to_der(&EcdsaSignature { r, s }).ok()
            }
            _ => None,
        }
    }

    /// `None` for what is no signature of this scheme.
    fn decode(self, digest: DigestAlgorithm, signature: &[u8]) -> Option<Signature> {
        let rsa = || RsaSignature::create(digest.to_tpm(), PublicKeyRsa::try_from(signature.to_vec()).ok()?).ok();
        match self {
            Self::RsaSsa => rsa().map(Signature::RsaSsa),
            Self::RsaPss => rsa().map(Signature::RsaPss),
            Self::Ecdsa => {
                let EcdsaSignature { r, s } = EcdsaSignature::from_der(signature).ok()?;
                let parameter = |x: UintRef<'_>| EccParameter::try_from(x.as_bytes().to_vec()).ok();
                EccSignature::create(digest.to_tpm(), parameter(r)?, parameter(s)?).ok().map(Signature::EcDsa)
            }
        }
    }
}

impl TpmHandle {
    /// Puts a private key into the TPM (TPM2_Import). It is encrypted on the bus. Unlike a key that the TPM made itself it is known to
    /// whoever had it before.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn import_key(&self, new: NewKey, key: PrivateKey) -> Result<KeyFile, TpmError> {
        self.run(move |device| device.import(&new, &key)).await
    }
}

impl TpmKey {
    /// Signs a digest.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`TpmError::NotForThis`] where key and scheme do not fit.
    pub async fn sign(&self, scheme: SignatureScheme, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, TpmError> {
        let digest = digest.to_vec();
        self.run(move |device, slot, source| device.sign(slot, source, scheme, algorithm, &digest)).await
    }

    /// Whether this is a signature of this digest by this key.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn verify(
        &self,
        scheme: SignatureScheme,
        algorithm: DigestAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<bool, TpmError> {
        let (digest, signature) = (digest.to_vec(), signature.to_vec());
        self.run(move |device, slot, source| device.verify(slot, source, scheme, algorithm, &digest, &signature)).await
    }

    /// The public key as PEM (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// As [`TpmError`] tells: an HMAC key has none.
    pub async fn public_pem(&self) -> Result<String, TpmError> {
        self.run(|device, slot, source| device.public_pem(slot, source)).await
    }
}

impl KeyFile {
    /// The public key as PEM (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7). Needs no TPM. `None` for keys that have none.
    #[must_use]
    pub fn public_pem(&self) -> Option<String> {
        public_pem(self.public())
    }
}

impl Device {
    fn import(&mut self, new: &NewKey, key: &PrivateKey) -> Result<KeyFile, TpmError> {
        if new.kind != key.kind {
            return Err(TpmError::NotForThis { kind: key.kind.to_string(), operation: "be imported as another kind" });
        }
        self.run(|live| {
            let (policy, auth_policy) = policy_of(live, new)?;
            let public = template::key(new.kind, Origin::Imported, new.password.is_some(), auth_policy, key.unique.clone());
            let public = public.map_err(|e| TpmError::of("describing the key", e))?;
            let auth =
                new.password.as_ref().map(crate::Password::to_auth).transpose().map_err(|e| TpmError::of("setting a password", e))?;
            let auth = auth.unwrap_or_default();
            let (wrapping_key, duplicate) = inner_wrap(key, auth.value(), &public)?;
            live.with_parent(new.parent, |live, parent| {
                let session = live.parent_session(new.parent, parent)?;
                let imported = live.context.execute_with_session(Some(session), |c| {
                    c.import(
                        parent.into(),
                        // The first parameter: the session encrypts it on the bus.
                        Some(Data::try_from(wrapping_key.to_vec())?),
                        public.clone(),
                        Private::try_from(duplicate.clone())?,
                        EncryptedSecret::default(),
                        SymmetricDefinitionObject::AES_128_CFB,
                    )
                });
                let private = imported.map_err(|e| TpmError::of("TPM2_Import", e)).map_err(|e| live.explain_parent(new.parent, e))?;
                Ok(KeyFile::new(new.parent, public.clone(), private, new.password.is_none(), policy.clone()))
            })
        })
    }

    fn sign(
        &mut self,
        slot: Slot,
        source: &KeySource,
        scheme: SignatureScheme,
        algorithm: DigestAlgorithm,
        digest: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let (kinds, operation) = scheme.kinds();
            must_be(&key, kinds, operation)?;
            if digest.len() != algorithm.len() {
                return Err(TpmError::NotForThis {
                    kind: key.kind().map_or_else(String::new, |kind| kind.to_string()),
                    operation: "sign a digest of another length than its algorithm's",
                });
            }
            let signature = live.with_key(&key, BusEncryption::On, "TPM2_Sign", |c, handle| {
                c.sign(handle, Digest::try_from(digest.to_vec())?, scheme.to_tpm(algorithm), no_ticket()?)
            })?;
            SignatureScheme::encode(&signature).ok_or(TpmError::Command { operation: "TPM2_Sign", code: 0 })
        })
    }

    fn verify(
        &mut self,
        slot: Slot,
        source: &KeySource,
        scheme: SignatureScheme,
        algorithm: DigestAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<bool, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let (kinds, operation) = scheme.kinds();
            must_be(&key, kinds, operation)?;
            let Some(signature) = scheme.decode(algorithm, signature).filter(|_| digest.len() == algorithm.len()) else { return Ok(false) };
            let verified =
                live.context.execute_without_session(|c| c.verify_signature(key.handle, Digest::try_from(digest.to_vec())?, signature));
            match verified.map_err(|e| TpmError::of("TPM2_VerifySignature", e)) {
                Ok(_) => Ok(true),
                // TPM_RC_SIGNATURE: not this key's. TPM_RC_SIZE, TPM_RC_VALUE: not even of its size.
                Err(TpmError::Command { code, .. }) if [0x9b, 0x95, 0x84].contains(&(code & 0xbf)) => Ok(false),
                Err(other) => Err(other),
            }
        })
    }

    fn public_pem(&mut self, slot: Slot, source: &KeySource) -> Result<String, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let nothing =
                || TpmError::NotForThis { kind: crate::KeyDescription::of(&key.public).algorithm, operation: "show a public key" };
            public_pem(&key.public).ok_or_else(nothing)
        })
    }
}

/// TPM2_Import's inner wrapper (TCG part 1, 23.3.2): AES-128-CFB, IV 0, over the digest of sensitive area and name, then the sensitive area.
fn inner_wrap(key: &PrivateKey, auth: &[u8], public: &Public) -> Result<(Zeroizing<[u8; 16]>, Vec<u8>), TpmError> {
    let failed = || TpmError::Command { operation: "wrapping the key", code: 0 };
    let kind = if RSA_KEYS.contains(&key.kind) { TPM2_ALG_RSA } else { TPM2_ALG_ECC };
    // TPMT_SENSITIVE (TCG part 2, 12.3.2.4): type, auth value, no seed, the private part.
    let (auth, seed, sensitive) = (Zeroizing::new(with_size(auth)), with_size(&[]), Zeroizing::new(with_size(&key.sensitive)));
    let area = Zeroizing::new([&kind.to_be_bytes()[..], &auth, &seed, &sensitive].concat());
    let area = Zeroizing::new(with_size(&area));
    let name = name_of(public).ok_or_else(failed)?;
    let integrity = Sha256::new().chain_update(&*area).chain_update(&name).finalize();
    let mut wrapped = Zeroizing::new([&with_size(&integrity)[..], &area].concat());

    let mut wrapping_key = Zeroizing::new([0; 16]);
    getrandom::fill(&mut *wrapping_key).map_err(|_| failed())?;
    cfb_mode::Encryptor::<aes::Aes128>::new((&*wrapping_key).into(), &[0; 16].into()).encrypt(&mut wrapped);
    Ok((wrapping_key, wrapped.to_vec()))
}

/// The digest was not made by the TPM: unrestricted keys sign it all the same (TCG part 3, 20.2).
fn no_ticket() -> tss_esapi::Result<HashcheckTicket> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK { tag: TPM2_ST_HASHCHECK, hierarchy: TPM2_RH_NULL, digest: Default::default() })
}

fn public_pem(public: &Public) -> Option<String> {
    let pem = |oid, parameters: AnyRef<'_>, key: &[u8]| {
        let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
        let info = SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key).ok()? };
        info.to_pem(pem::LineEnding::LF).ok()
    };
    match public {
        Public::Rsa { unique, parameters, .. } => {
            let exponent = match parameters.exponent().value() {
                0 => 65537_u32,
                exponent => exponent,
            };
            let exponent = exponent.to_be_bytes();
            let key = pkcs1::RsaPublicKey { modulus: UintRef::new(unique.value()).ok()?, public_exponent: UintRef::new(&exponent).ok()? };
            pem(RSA_ENCRYPTION, AnyRef::NULL, &der::Encode::to_der(&key).ok()?)
        }
        Public::Ecc { unique, parameters, .. } => {
            let (curve, len) = match KeyKind::of(public)? {
                KeyKind::EccP256 => (SECP256R1, 32),
                KeyKind::EccP384 => (SECP384R1, 48),
                _ => return None,
            };
            let _ = parameters;
            // A TPM may leave leading zeros out.
            let padded = |coordinate: &[u8]| [&vec![0; len - coordinate.len().min(len)][..], coordinate].concat();
            let point = [&[4][..], &padded(unique.x().value()), &padded(unique.y().value())].concat();
            pem(EC_PUBLIC_KEY, AnyRef::from(&curve), &point)
        }
        _ => None,
    }
}
