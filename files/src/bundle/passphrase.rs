//! Passphrases that bundles are sealed with.

use std::fmt;

use zeroize::Zeroizing;

use super::BundleError;

/// 32 letters and digits that nobody takes for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Five groups of five: 125 bits.
const GROUPS: usize = 5;
const GROUP: usize = 5;
/// The fewest characters of one that somebody chose.
const SHORTEST: usize = 16;

/// scrypt's cost as a power of two: 256 MiB and a second, since somebody may have thought it up.
const WORK_OF_CHOSEN: u8 = 18;
/// 32 MiB: what nobody can guess needs no cost, and a small device has to open it.
const WORK_OF_GENERATED: u8 = 15;

/// A passphrase to seal with. Wiped when dropped.
pub struct Passphrase {
    text: Zeroizing<String>,
    work: u8,
}

impl Passphrase {
    /// Makes one: five groups of five letters and digits, 125 bits.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, BundleError> {
        let mut bytes = Zeroizing::new([0; GROUPS * GROUP]);
        getrandom::fill(&mut bytes[..]).map_err(|e| BundleError::Random(e.to_string()))?;
        Ok(Self { text: grouped(bytes.iter().map(|byte| ALPHABET[usize::from(byte % 32)])), work: WORK_OF_GENERATED })
    }

    /// One that somebody chose.
    ///
    /// # Errors
    /// When it has fewer than 16 characters.
    pub fn chosen(text: &str) -> Result<Self, BundleError> {
        match text.chars().count() {
            length if length < SHORTEST => Err(BundleError::WeakPassphrase(length)),
            _ => Ok(Self { text: as_meant(text), work: WORK_OF_CHOSEN }),
        }
    }

    /// The text, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    pub(super) fn work(&self) -> u8 {
        self.work
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

fn grouped(letters: impl Iterator<Item = u8>) -> Zeroizing<String> {
    // With its capacity at once: a String that grows leaves pieces behind.
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP + 1)));
    for (at, letter) in letters.enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(char::from(letter));
    }
    text
}

/// One that looks generated, as it was generated: capitals, spaces and missing dashes come of reading it to somebody. Any other stays as it is.
pub(super) fn as_meant(text: &str) -> Zeroizing<String> {
    let letters: Zeroizing<Vec<u8>> = Zeroizing::new(
        text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-').map(|byte| byte.to_ascii_lowercase()).collect(),
    );
    if letters.len() == GROUPS * GROUP && letters.iter().all(|letter| ALPHABET.contains(letter)) {
        return grouped(letters.iter().copied());
    }
    Zeroizing::new(text.to_owned())
}
