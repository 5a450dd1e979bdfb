//! Names (TCG part 1, 16), and how bytes are shown.

use sha2::{Digest as _, Sha256};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::Public;
use tss_esapi::traits::Marshall as _;

/// The name of an object whose name algorithm is SHA-256 (TCG part 1, 16): TPM_ALG_SHA256, then the digest of the public area.
pub(crate) fn name_of(public: &Public) -> Option<Vec<u8>> {
    let area = public.marshall().ok()?;
    (public.name_hashing_algorithm() == HashingAlgorithm::Sha256).then(|| [&[0x00, 0x0b][..], &Sha256::digest(&area)].concat())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| (0..text.len()).step_by(2).map_while(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect())
}
