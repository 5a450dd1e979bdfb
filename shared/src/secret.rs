//! The shared secret `S`, where it lives in memory rather than in a TPM.

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use constant_time_eq::constant_time_eq_64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::derivation::Tag;

/// A shared secret: 16 to 64 bytes from a random source. One secret serves one client, one registry, one direction.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The shortest secret, in bytes, that is taken without [`Secret::weak`].
    pub const MIN_LEN: usize = 16;
    /// The longest secret, in bytes: HMAC-SHA256's block, and what a TPM takes as an HMAC key.
    pub const MAX_LEN: usize = 64;

    /// Takes 16 to 64 bytes.
    ///
    /// # Errors
    /// When the length is outside these bounds.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0..Self::MIN_LEN => Err(SecretError::TooShort(bytes.len())),
            _ => Self::weak_zeroizing(bytes),
        }
    }

    /// Takes 1 to 64 bytes. A rogue server can guess a short secret offline: only where the caller was told so.
    ///
    /// # Errors
    /// When there is no byte, or more than 64.
    pub fn weak(bytes: Vec<u8>) -> Result<Self, SecretError> {
        Self::weak_zeroizing(Zeroizing::new(bytes))
    }

    /// What HMAC makes of a secret of more than 64 bytes: it is hashed first (RFC 2104 §2). Shorter ones stay as they are. For the profile `go`
    /// only, whose original takes any length; v1's secrets fit (docs/protocol.md §6.2).
    #[must_use]
    pub fn fold(bytes: Vec<u8>) -> Vec<u8> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() > Self::MAX_LEN { Sha256::digest(&*bytes).to_vec() } else { bytes.to_vec() }
    }

    fn weak_zeroizing(bytes: Zeroizing<Vec<u8>>) -> Result<Self, SecretError> {
        match bytes.len() {
            0 => Err(SecretError::Empty),
            1..=Self::MAX_LEN => Ok(Self(bytes)),
            n => Err(SecretError::TooLong(n)),
        }
    }

    /// Reads standard base64 (RFC 4648 §4), padded or not. The bytes' length is not judged: see [`Secret::new`].
    ///
    /// # Errors
    /// When `text` is not base64.
    pub fn decode_base64(text: &str) -> Result<Vec<u8>, SecretError> {
        const STANDARD: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        STANDARD.decode(text).map_err(|_| SecretError::NotBase64)
    }

    /// Standard base64, padded: how a registry file holds it.
    #[must_use]
    pub fn encode_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(&self.0))
    }

    /// HMAC-SHA256(S, message): what a TPM computes where it holds `S`.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> Tag {
        // HMAC takes a key of any length (RFC 2104 §2); the only error of `new_from_slice` is a length.
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("HMAC takes any key length"));
        hmac.update(message);
        Tag::from_bytes(hmac.finalize().into_bytes().into())
    }

    /// Whether HMAC could not tell the two apart: equal once zero-padded to 64 bytes (RFC 2104 §2). In constant time.
    #[must_use]
    pub fn same_hmac_key(&self, other: &Self) -> bool {
        let padded = |s: &Self| {
            let mut block = Zeroizing::new([0_u8; Self::MAX_LEN]);
            block[..s.0.len()].copy_from_slice(&s.0);
            block
        };
        constant_time_eq_64(&padded(self), &padded(other))
    }

    /// The bytes themselves: to hand them to a TPM or write them to a registry, never to a log.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why bytes are no shared secret. Tells lengths, never bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No bytes at all.
    #[error("the secret is empty")]
    Empty,
    /// Fewer than 16 bytes: a rogue server can guess it offline.
    #[error(
        "the secret has {0} bytes, at least 16 are needed: a shorter one can be guessed offline (--unsafe-weak-secret takes it all the same)"
    )]
    TooShort(usize),
    /// More than 64 bytes.
    #[error("the secret has {0} bytes, at most 64 are taken")]
    TooLong(usize),
    /// The text is not standard base64.
    #[error("the secret is not standard base64")]
    NotBase64,
}
