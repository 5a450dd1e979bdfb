//! Making a message.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use ekm_otp_files::pem::{self, PemError};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use super::ber::{INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context};
use super::der::element;
use super::enveloped::RecipientId;
use super::error::CmsError;
use super::oid;

/// Whom to encrypt to.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// SubjectPublicKeyInfo, DER.
    key: Vec<u8>,
    id: RecipientId,
}

impl Recipient {
    /// From a certificate or a public key (SubjectPublicKeyInfo), PEM (the first of several, as a chain begins with its leaf) or DER. A certificate is named by its key identifier, or by issuer and serial number
    /// where it has none; a bare key by the SHA-1 of its bits (RFC 5280 §4.2.1.2, method 1), as OpenSSL names it in certificates.
    ///
    /// # Errors
    /// When it is neither, or not of an RSA key.
    pub fn read(file: &[u8]) -> Result<Self, CmsError> {
        let der = match pem::blocks(file) {
            Ok(blocks) => {
                let known = ["PUBLIC KEY", "CERTIFICATE", "X509 CERTIFICATE"];
                let is_private = blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY"));
                let found = blocks.into_iter().find(|block| known.contains(&block.label.as_str()));
                found.ok_or(if is_private { CmsError::Private } else { CmsError::Recipient })?.bytes.to_vec()
            }
            Err(PemError::Der) => file.to_vec(),
            Err(e) => return Err(e.into()),
        };
        let recipient = match x509_cert::Certificate::from_der(&der) {
            Ok(certificate) => Self::of_certificate(&certificate)?,
            Err(_) => {
                let info = SubjectPublicKeyInfoRef::from_der(&der).map_err(|_| CmsError::Recipient)?;
                let bits = info.subject_public_key.as_bytes().ok_or(CmsError::Recipient)?;
                let id = RecipientId::KeyId(digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec());
                Self { key: der, id }
            }
        };
        recipient.encrypting_key().map(|_| recipient)
    }

    fn of_certificate(certificate: &x509_cert::Certificate) -> Result<Self, CmsError> {
        let certificate = certificate.tbs_certificate();
        let key = certificate.subject_public_key_info().to_der().map_err(|_| CmsError::Recipient)?;
        let key_id = certificate.get_extension::<SubjectKeyIdentifier>().map_err(|_| CmsError::Recipient)?;
        let id = match key_id {
            Some((_, key_id)) => RecipientId::KeyId(key_id.0.as_bytes().to_vec()),
            None => RecipientId::IssuerAndSerial {
                issuer: certificate.issuer().to_der().map_err(|_| CmsError::Recipient)?,
                serial: certificate.serial_number().as_bytes().to_vec(),
            },
        };
        Ok(Self { key, id })
    }

    /// With another key identifier.
    #[must_use]
    pub fn with_key_id(self, key_id: &[u8]) -> Self {
        Self { id: RecipientId::KeyId(key_id.to_vec()), ..self }
    }

    /// How it is named in messages.
    #[must_use]
    pub fn id(&self) -> &RecipientId {
        &self.id
    }

    fn encrypting_key(&self) -> Result<OaepPublicEncryptingKey, CmsError> {
        let key = PublicEncryptingKey::from_der(&self.key).map_err(|_| CmsError::Recipient)?;
        OaepPublicEncryptingKey::new(key).map_err(|_| CmsError::Recipient)
    }
}

/// Encrypts to a recipient: EnvelopedData in DER, as KMS makes it.
///
/// # Errors
/// When the key refuses, as one of fewer than 2048 bits does.
pub fn encrypt(to: &Recipient, plaintext: &[u8]) -> Result<Vec<u8>, CmsError> {
    let (mut content_key, mut iv) = (Zeroizing::new([0; 32]), [0; 16]);
    let random = |bytes: &mut [u8]| rand::fill(bytes).map_err(|_: Unspecified| CmsError::Key);
    random(&mut *content_key)?;
    random(&mut iv)?;
    let ciphertext = encrypt_content(&content_key, iv, plaintext).map_err(|_| CmsError::Key)?;
    let key = to.encrypting_key()?;
    let mut encrypted_key = vec![0; key.ciphertext_size()];
    let len = key.encrypt(&OAEP_SHA256_MGF1SHA256, &*content_key, &mut encrypted_key, None).map_err(|_| CmsError::Key)?.len();
    Ok(message(&to.id, &encrypted_key[..len], &iv, &ciphertext))
}

fn encrypt_content(content_key: &[u8; 32], iv: [u8; 16], plaintext: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, content_key)?)?;
    // With its final capacity at once: a Vec that grows leaves pieces of the plaintext behind.
    let mut in_out = Vec::with_capacity(plaintext.len() + iv.len());
    in_out.extend_from_slice(plaintext);
    key.less_safe_encrypt(&mut in_out, EncryptionContext::Iv128(FixedLength::from(iv)))?;
    Ok(in_out)
}

/// ContentInfo { EnvelopedData { one KeyTransRecipientInfo, EncryptedContentInfo } } (RFC 5652 §3, §6.1, §6.2.1)
fn message(to: &RecipientId, encrypted_key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let object = |id: &[u8]| element(OBJECT_IDENTIFIER, &[id]);
    let sequence = |parts: &[&[u8]]| element(SEQUENCE, parts);
    let (version, recipient) = match to {
        RecipientId::KeyId(key_id) => (2, element(0x80, &[key_id])),
        RecipientId::IssuerAndSerial { issuer, serial } => (0, sequence(&[issuer, &element(INTEGER, &[serial])])),
    };
    let version = element(INTEGER, &[&[version]]);
    let sha256 = sequence(&[&object(oid::SHA256), &element(NULL, &[])]);
    let mgf1 = sequence(&[&object(oid::MGF1), &sha256]);
    let parameters = sequence(&[&element(context(0), &[&sha256]), &element(context(1), &[&mgf1])]);
    let oaep = sequence(&[&object(oid::RSAES_OAEP), &parameters]);
    let key_transport = sequence(&[&version, &recipient, &oaep, &element(OCTET_STRING, &[encrypted_key])]);
    let aes = sequence(&[&object(oid::AES256_CBC), &element(OCTET_STRING, &[iv])]);
    let content = sequence(&[&object(oid::DATA), &aes, &element(0x80, &[ciphertext])]);
    let enveloped = sequence(&[&version, &element(SET, &[&key_transport]), &content]);
    sequence(&[&object(oid::ENVELOPED_DATA), &element(context(0), &[&enveloped])])
}
