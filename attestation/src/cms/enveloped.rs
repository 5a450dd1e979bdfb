//! Reading and opening a message.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use super::ber::{self, Element, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context};
use super::error::CmsError;
use super::oid;

/// [0] IMPLICIT of something primitive.
const IMPLICIT_0: u8 = 0x80;
/// AES's blocks.
const BLOCK: usize = 16;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipientId {
    /// The key's identifier (subjectKeyIdentifier), as KMS has it.
    KeyId(Vec<u8>),
    /// A certificate's issuer (Name, DER) and serial number (big-endian), as OpenSSL has it unless told otherwise.
    IssuerAndSerial {
        /// As it stands in the message.
        issuer: Vec<u8>,
        /// As it stands in the message.
        serial: Vec<u8>,
    },
}

/// A message, taken apart.
#[derive(Clone, Debug)]
pub struct Enveloped {
    recipient: RecipientId,
    encrypted_key: Vec<u8>,
    iv: [u8; BLOCK],
    ciphertext: Vec<u8>,
}

impl Enveloped {
    /// Takes a message apart, BER or DER.
    ///
    /// # Errors
    /// When it is none, or not of the one kind that is taken here.
    pub fn parse(message: &[u8]) -> Result<Self, CmsError> {
        let message = ber::read(message)?;
        // ContentInfo (RFC 5652 §3)
        let Some([kind, content]) = message.inner(SEQUENCE) else { return Err(CmsError::Syntax("it has no content type and content")) };
        if kind.primitive(OBJECT_IDENTIFIER) != Some(oid::ENVELOPED_DATA) {
            return Err(CmsError::NotEnveloped);
        }
        let enveloped = content.only(context(0)).and_then(|inner| inner.inner(SEQUENCE));
        let parts = enveloped.ok_or(CmsError::Syntax("its EnvelopedData is damaged"))?;
        // Originator and attributes are optional; nobody who makes such messages sets them, and nothing protects them.
        let [version, recipients, content] = parts else {
            return Err(CmsError::NotTaken("EnvelopedData has more or less in it than version, recipients and content"));
        };
        let Some([recipient]) = recipients.inner(SET) else { return Err(CmsError::NotTaken("recipients are not one")) };
        let (id, encrypted_key) = key_transport(recipient, number(version)?)?;
        let (iv, ciphertext) = encrypted_content(content)?;
        Ok(Self { recipient: id, encrypted_key, iv, ciphertext })
    }

    /// Whom it is for.
    #[must_use]
    pub fn recipient(&self) -> &RecipientId {
        &self.recipient
    }

    /// What the private key has to decrypt: RSAES-OAEP, SHA-256 for both hashes, no label.
    #[must_use]
    pub fn encrypted_key(&self) -> &[u8] {
        &self.encrypted_key
    }

    /// The plaintext, with the key that [`Self::encrypted_key`] was decrypted to.
    ///
    /// # Errors
    /// One alone, whatever is wrong with key, padding or content.
    pub fn open(&self, content_key: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        // In one piece of memory, which is wiped.
        let mut in_out = Zeroizing::new(self.ciphertext.clone());
        let mut decrypt = || {
            let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, content_key)?)?;
            let iv = DecryptionContext::Iv128(FixedLength::from(self.iv));
            Ok(key.decrypt(&mut in_out, iv)?.len())
        };
        let len = decrypt().map_err(|_: Unspecified| CmsError::NotOpened)?;
        in_out.truncate(len);
        Ok(in_out)
    }

    /// Decrypts key and content, with a private key that answers at once.
    ///
    /// # Errors
    /// One alone, as [`Self::open`], what the key said left out.
    pub fn open_with<E>(&self, decrypt: impl FnOnce(&[u8]) -> Result<Zeroizing<Vec<u8>>, E>) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        self.open(&decrypt(&self.encrypted_key).map_err(|_| CmsError::NotOpened)?)
    }
}

fn number(element: &Element<'_>) -> Result<u8, CmsError> {
    match element.primitive(INTEGER) {
        Some([number]) => Ok(*number),
        _ => Err(CmsError::Syntax("a version in it is no small number")),
    }
}

/// KeyTransRecipientInfo (RFC 5652 §6.2.1)
fn key_transport(recipient: &Element<'_>, outer: u8) -> Result<(RecipientId, Vec<u8>), CmsError> {
    let parts = recipient.inner(SEQUENCE).ok_or(CmsError::NotTaken("recipient has no RSA key: another way to agree on a key is used"))?;
    let [version, id, algorithm, encrypted_key] = parts else { return Err(CmsError::Syntax("its recipient is damaged")) };
    let versions = (outer, number(version)?);
    let id = match (versions, id.octets(IMPLICIT_0), id.inner(SEQUENCE)) {
        ((2, 2), Some(key_id), _) => RecipientId::KeyId(key_id),
        ((0, 0), _, Some([issuer, serial])) if issuer.is(SEQUENCE) => {
            let serial = serial.primitive(INTEGER).ok_or(CmsError::Syntax("its recipient's serial number is damaged"))?;
            RecipientId::IssuerAndSerial { issuer: issuer.bytes.to_vec(), serial: serial.to_vec() }
        }
        _ => return Err(CmsError::NotTaken("version and kind of recipient do not belong together")),
    };
    if !is_oaep_sha256(algorithm) {
        return Err(CmsError::NotTaken("key is not encrypted by RSAES-OAEP with SHA-256 for both hashes and no label"));
    }
    Ok((id, encrypted_key.octets(OCTET_STRING).ok_or(CmsError::Syntax("its encrypted key is damaged"))?))
}

/// RSAES-OAEP-params (RFC 4055 §4.1). The defaults are SHA-1, so both hashes have to be named.
fn is_oaep_sha256(algorithm: &Element<'_>) -> bool {
    let Some([id, parameters]) = algorithm.inner(SEQUENCE) else { return false };
    let Some([hash, mask, rest @ ..]) = parameters.inner(SEQUENCE) else { return false };
    let is_mgf1 = |mask: &Element<'_>| matches!(mask.inner(SEQUENCE), Some([id, hash]) if id.primitive(OBJECT_IDENTIFIER) == Some(oid::MGF1) && is_sha256(hash));
    let is_empty_label = |label: &Element<'_>| {
        matches!(label.inner(SEQUENCE), Some([id, value])
        if id.primitive(OBJECT_IDENTIFIER) == Some(oid::P_SPECIFIED) && value.octets(OCTET_STRING).is_some_and(|label| label.is_empty()))
    };
    let has_no_label = match rest {
        [] => true,
        [label] => label.only(context(2)).is_some_and(is_empty_label),
        _ => false,
    };
    id.primitive(OBJECT_IDENTIFIER) == Some(oid::RSAES_OAEP)
        && hash.only(context(0)).is_some_and(is_sha256)
        && mask.only(context(1)).is_some_and(is_mgf1)
        && has_no_label
}

/// With parameters NULL, or none (RFC 4055 §2.1).
fn is_sha256(algorithm: &Element<'_>) -> bool {
    match algorithm.inner(SEQUENCE) {
        Some([id]) => id.primitive(OBJECT_IDENTIFIER) == Some(oid::SHA256),
        Some([id, null]) => id.primitive(OBJECT_IDENTIFIER) == Some(oid::SHA256) && null.primitive(NULL) == Some(&[]),
        _ => false,
    }
}

/// EncryptedContentInfo (RFC 5652 §6.1), its algorithm as RFC 3565 §4.1 has it.
fn encrypted_content(content: &Element<'_>) -> Result<([u8; BLOCK], Vec<u8>), CmsError> {
    let Some([kind, algorithm, ciphertext]) = content.inner(SEQUENCE) else {
        return Err(CmsError::NotTaken("content is not in it: it lies elsewhere (detached)"));
    };
    if kind.primitive(OBJECT_IDENTIFIER) != Some(oid::DATA) {
        return Err(CmsError::NotTaken("content is not plain data, but another CMS message"));
    }
    let iv = match algorithm.inner(SEQUENCE) {
        Some([id, iv]) if id.primitive(OBJECT_IDENTIFIER) == Some(oid::AES256_CBC) => iv.octets(OCTET_STRING),
        _ => None,
    };
    let iv = iv.and_then(|iv| iv.try_into().ok()).ok_or(CmsError::NotTaken("content is not encrypted by AES-256 in CBC mode"))?;
    Ok((iv, ciphertext.octets(IMPLICIT_0).ok_or(CmsError::Syntax("its content is damaged"))?))
}
