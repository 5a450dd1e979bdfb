//! Hash algorithms (TCG Algorithm Registry, 6.10).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{digest, hmac};

/// A hash, or a bank of registers that is named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hash {
    /// 20 bytes. For registers alone: no signature, name or credential is made with it.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Hash {
    const ALL: [(Self, u16, &'static str); 4] = [
        (Self::Sha1, 0x0004, "sha1"),
        (Self::Sha256, 0x000b, "sha256"),
        (Self::Sha384, 0x000c, "sha384"),
        (Self::Sha512, 0x000d, "sha512"),
    ];

    /// From a TPM_ALG_ID.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == id).map(|(hash, ..)| *hash)
    }

    /// The TPM_ALG_ID.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The length of a digest.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no digest is empty")]
    pub fn len(self) -> usize {
        self.algorithm().output_len()
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    /// The digest of all parts, one after the other.
    pub(crate) fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = digest::Context::new(self.algorithm());
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(hash, ..)| hash == self).map_or("", |(.., name)| name))
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(.., name)| *name == text);
        found.map(|(hash, ..)| *hash).ok_or_else(|| format!("{text:?} is none of sha1, sha256, sha384, sha512"))
    }
}
