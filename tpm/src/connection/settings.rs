//! What is the same for all that is done with a TPM.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Password, SignatureScheme, SignedPolicy};

/// What is the same for all that is done with a TPM.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The owner hierarchy's password, where one is set: for the H-2 primary, and to make keys persistent.
    pub owner_password: Option<Password>,
    /// The password of persistent parents.
    pub parent_password: Option<Password>,
    /// The name of the endorsement key that sessions must be salted with ([`TpmHandle::ek_name`](crate::TpmHandle::ek_name), or that of the RSA one, template L-1, which
    /// costs more to make); the parent's key is taken where this is not set. Without it, whoever sits on the bus can pretend to be the TPM.
    pub session_key_name: Option<Vec<u8>>,
    /// A folder in which primaries, as the TPM encrypts them (TPM2_ContextSave), are kept for the next process, so that it need not make them anew:
    /// some hundred milliseconds on hardware. Only in a folder of this user's that nobody else can enter, such as `$XDG_RUNTIME_DIR`; it is made there.
    /// Not with an owner's password, which a kept primary would pass by.
    pub kept_primaries: Option<PathBuf>,
    /// Policies that others have signed: what a key takes whose policy says TPM2_PolicyAuthorize, besides those that its file holds.
    pub signed_policies: Vec<SignedPolicy>,
    /// Who signs each use of a key whose policy says TPM2_PolicySigned.
    pub policy_signers: Vec<Arc<dyn PolicySigner>>,
    /// Passwords that TPM2_PolicySecret asks for, by handle: a hierarchy's (TPM_RH), or a persistent one.
    pub secrets: Vec<(u32, Password)>,
}

/// A private key outside of the TPM that signs uses of a key in it (TPM2_PolicySigned).
///
/// The TSS library does not tell the session's nonce, so that a signature is bound to no session: who reads the bus can show it again. Where
/// that matters, TPM2_PolicyAuthorize or a password is the better step.
pub trait PolicySigner: fmt::Debug + Send + Sync {
    /// Its public key, as PEM (SubjectPublicKeyInfo).
    fn public_pem(&self) -> &str;

    /// Signs a SHA-256 digest: raw for RSA, DER for ECDSA.
    ///
    /// # Errors
    /// Why it cannot.
    fn sign(&self, scheme: SignatureScheme, digest: &[u8; 32]) -> Result<Vec<u8>, String>;
}
