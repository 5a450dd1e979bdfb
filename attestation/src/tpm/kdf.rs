//! Key derivation (TCG part 1, 11.4.10): KDFa for what follows from a seed, KDFe for a seed that follows from ECDH.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::hash::Hash;

/// KDFa (SP 800-108, counter mode): HMAC[key](counter ‖ label ‖ 00 ‖ contextU ‖ contextV ‖ bits).
pub(super) fn kdf_a(hash: Hash, key: &[u8], label: &str, context_u: &[u8], context_v: &[u8], bits: u16) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hash.hmac(), key);
    blocks(hash, bits, |counter| {
        let mut mac = hmac::Context::with_key(&key);
        for part in [&counter[..], label.as_bytes(), &[0], context_u, context_v, &u32::from(bits).to_be_bytes()] {
            mac.update(part);
        }
        mac.sign().as_ref().to_vec()
    })
}

/// KDFe (SP 800-56A): H(counter ‖ Z ‖ label ‖ 00 ‖ partyU ‖ partyV).
pub(super) fn kdf_e(hash: Hash, z: &[u8], label: &str, party_u: &[u8], party_v: &[u8], bits: u16) -> Zeroizing<Vec<u8>> {
    blocks(hash, bits, |counter| hash.digest(&[&counter, z, label.as_bytes(), &[0], party_u, party_v]))
}

/// As many as it takes, counted from 1, in 32 bits.
fn blocks(hash: Hash, bits: u16, block: impl Fn([u8; 4]) -> Vec<u8>) -> Zeroizing<Vec<u8>> {
    let len = usize::from(bits).div_ceil(8);
    let mut key = Zeroizing::new(Vec::with_capacity(len + hash.len()));
    for counter in 1_u32.. {
        if key.len() >= len {
            break;
        }
        key.extend_from_slice(&Zeroizing::new(block(counter.to_be_bytes())));
    }
    key.truncate(len);
    key
}
