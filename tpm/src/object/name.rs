//! Names (TCG part 1, 16), and how bytes are shown.

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::Public;
use tss_esapi::traits::Marshall as _;

/// The name of an object (TCG part 1, 16): its name algorithm, then the digest of its public area. `None` where that is not SHA-2 of 256 bits or more.
pub(crate) fn name_of(public: &Public) -> Option<Vec<u8>> {
    let area = public.marshall().ok()?;
    // TPM_ALG_ID (TCG Algorithm Registry)
    match public.name_hashing_algorithm() {
        HashingAlgorithm::Sha256 => Some([&[0x00, 0x0b][..], &Sha256::digest(&area)].concat()),
        HashingAlgorithm::Sha384 => Some([&[0x00, 0x0c][..], &Sha384::digest(&area)].concat()),
        HashingAlgorithm::Sha512 => Some([&[0x00, 0x0d][..], &Sha512::digest(&area)].concat()),
        _ => None,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| (0..text.len()).step_by(2).map_while(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect())
}
