//! Policies that a private key has signed, and that TPM2_PolicyAuthorize takes for its key (TCG part 3, 23.16): what is approved now, however long ago the
//! key under it was made.

use sha2::{Digest as _, Sha256};
use tss_esapi::structures::Signature;

use super::plan::Values;
use super::tree::{Authorize, Policy, PolicyCommand};
use super::verifying_key::fingerprint;
use crate::object::pcr::{PcrBank, PcrCommand};
use crate::{DigestAlgorithm, SignatureScheme};

/// A policy with one signature over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    what: What,
    signature: Vec<u8>,
    scheme: SignatureScheme,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A policy as it stands, and the key that has signed it.
    Given { policy: Policy, key: String, policy_ref: Vec<u8> },
    /// What registers come to: their values are not told. By the fingerprint of the key.
    Registers { bank: PcrBank, registers: Vec<u8>, fingerprint: Vec<u8>, digest: [u8; 32] },
}

impl Policy {
    /// What a private key signs to approve this policy (TCG part 3, 23.16: aHash): SHA-256 over its digest and the reference, which tells apart what else
    /// the key signs.
    #[must_use]
    pub fn digest_to_sign(&self, policy_ref: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.digest()).chain_update(policy_ref).finalize().into()
    }
}

impl SignedPolicy {
    /// The signature over [`Policy::digest_to_sign`], as OpenSSL writes it (raw for RSA, DER for ECDSA), by the key of this PEM.
    #[must_use]
    pub fn new(policy: Policy, key: &str, policy_ref: Vec<u8>, scheme: SignatureScheme, signature: Vec<u8>) -> Self {
        Self { what: What::Given { policy, key: key.to_owned(), policy_ref }, signature, scheme }
    }

    /// As systemd signs registers: with RSASSA, without a reference.
    pub(super) fn of_registers(bank: PcrBank, registers: Vec<u8>, fingerprint: Vec<u8>, digest: [u8; 32], signature: Vec<u8>) -> Self {
        Self { what: What::Registers { bank, registers, fingerprint, digest }, signature, scheme: SignatureScheme::RsaSsa }
    }

    /// The registers whose values it takes to know what was signed.
    pub(crate) fn registers(&self) -> Vec<(PcrBank, u8)> {
        match &self.what {
            What::Given { .. } => Vec::new(),
            What::Registers { bank, registers, .. } => registers.iter().map(|register| (*bank, *register)).collect(),
        }
    }

    /// The policy, if it is one that was signed for this by its key; with registers' values as they are now.
    pub(crate) fn for_key(&self, wanted: &Authorize, now: &Values) -> Option<(Policy, Signature)> {
        let policy = match &self.what {
            What::Given { policy, key, policy_ref } => {
                (key == wanted.key.pem() && *policy_ref == wanted.policy_ref).then(|| policy.clone())
            }
            What::Registers { bank, registers, fingerprint: of, digest } => {
                let values =
                    registers.iter().map(|register| Some((*register, now.get(&(*bank, *register))?.clone()))).collect::<Option<_>>()?;
                let policy = Policy(vec![PolicyCommand::Pcr(PcrCommand::of_all(vec![(*bank, values)]))]);
                let is_it = wanted.policy_ref.is_empty() && policy.digest() == *digest && fingerprint(&wanted.key).as_ref() == Some(of);
                is_it.then_some(policy)
            }
        }?;
        let signature = self.scheme.decode(DigestAlgorithm::Sha256, &self.signature)?;
        Some((policy, signature))
    }

    pub(super) fn parts(&self) -> Option<(&str, &[u8], SignatureScheme, &[u8])> {
        match &self.what {
            What::Given { key, policy_ref, .. } => Some((key, policy_ref, self.scheme, &self.signature)),
            What::Registers { .. } => None,
        }
    }
}
