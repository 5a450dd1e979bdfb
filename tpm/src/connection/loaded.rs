//! A key in the TPM, as the connection that loaded it knows it.

use tss_esapi::handles::KeyHandle;
use tss_esapi::structures::Public;

use crate::{KeyDescription, KeyKind, Parent, Policy, TpmError};

/// Names a key that is to be loaded, over the lifetime of an actor.
pub(crate) type Slot = u64;

/// A key in the TPM.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) handle: KeyHandle,
    /// To salt a session with that its use wants, where none is there yet.
    pub(super) parent: Parent,
    pub(crate) public: Public,
    pub(super) policy: Policy,
    pub(crate) has_password: bool,
    /// Whether its password, or that it has none, was found right.
    pub(super) is_proven: bool,
    pub(super) is_persistent: bool,
}

impl Loaded {
    pub(crate) fn kind(&self) -> Option<KeyKind> {
        KeyKind::of(&self.public)
    }

    /// What is asked of a key that cannot do it is refused before it is tried.
    pub(crate) fn must_be(&self, kinds: &[KeyKind], operation: &'static str) -> Result<(), TpmError> {
        match self.kind() {
            Some(kind) if kinds.contains(&kind) => Ok(()),
            _ => Err(TpmError::NotForThis { kind: KeyDescription::of(&self.public).algorithm, operation }),
        }
    }
}
