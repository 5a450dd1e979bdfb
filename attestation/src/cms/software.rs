//! A private key in this process, for those who have none in a TPM.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use ekm_otp_files::pem::{self, PemError};
use zeroize::Zeroizing;

use super::ber::{INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use super::der::element;
use super::error::CmsError;
use super::oid;

/// An RSA key that decrypts.
pub struct SoftwareKey(OaepPrivateDecryptingKey);

impl std::fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftwareKey").finish_non_exhaustive()
    }
}

impl SoftwareKey {
    /// A new one, of 2048 bits, which nothing holds but this value, and its public key (SubjectPublicKeyInfo, DER).
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), CmsError> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| CmsError::Key)?;
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| CmsError::Key)?;
        let public = public.as_ref().to_vec();
        OaepPrivateDecryptingKey::new(key).map(|key| (Self(key), public)).map_err(|_| CmsError::Key)
    }

    /// From PKCS#8 or PKCS#1 (RFC 5958, RFC 8017), PEM or DER.
    ///
    /// # Errors
    /// When it is no RSA key of 2048 bits or more.
    pub fn read(file: &[u8]) -> Result<Self, CmsError> {
        let block = match pem::private_key(file) {
            Ok(block) => block,
            Err(PemError::Der) => return Self::from_pkcs8(file).or_else(|_| Self::from_pkcs1(file)),
            Err(e) => return Err(e.into()),
        };
        if block.label == "RSA PRIVATE KEY" { Self::from_pkcs1(&block.bytes) } else { Self::from_pkcs8(&block.bytes) }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, CmsError> {
        let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| CmsError::Key)?;
        OaepPrivateDecryptingKey::new(key).map(Self).map_err(|_| CmsError::Key)
    }

    /// Within the structure of PKCS#8 (RFC 5958 §2): version 0, algorithm, key.
    fn from_pkcs1(der: &[u8]) -> Result<Self, CmsError> {
        let algorithm = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[oid::RSA_ENCRYPTION]), &element(NULL, &[])]);
        let key = Zeroizing::new(element(OCTET_STRING, &[der]));
        Self::from_pkcs8(&Zeroizing::new(element(SEQUENCE, &[&element(INTEGER, &[&[0]]), &algorithm, &key])))
    }

    /// RSAES-OAEP with SHA-256 for both hashes and no label (RFC 8017 §7.1.2).
    ///
    /// # Errors
    /// One alone, whatever is wrong.
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        let mut plaintext = Zeroizing::new(vec![0; self.0.min_output_size()]);
        let decrypted = self.0.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut plaintext, None);
        let len = decrypted.map_err(|_| CmsError::NotOpened)?.len();
        plaintext.truncate(len);
        Ok(plaintext)
    }
}
