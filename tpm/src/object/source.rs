//! A key to be made, and where one is that exists.

use super::{KeyFile, KeyKind, Parent, Password, Policy, PolicyPlan};

/// Whether the input and the result of a key's use travel encrypted between this process and the TPM (TCG part 1, 21: parameter
/// encryption). Creating a key always does, and so does whatever a password is shown for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusEncryption {
    /// Encrypted, in a salted session.
    #[default]
    On,
    /// In clear: whoever reads the bus sees one connection's MAC input and MAC. Some ten times cheaper for the client.
    Off,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it is.
    pub kind: KeyKind,
    /// Under which key of the TPM.
    pub parent: Parent,
    /// Its password, if it shall have one. Without one it is exempt from dictionary-attack protection: there is nothing to guess.
    pub password: Option<Password>,
    /// What must be fulfilled whenever it is used: registers as they are now or as they are given, and its password if it has one.
    pub policy: Option<PolicyPlan>,
    /// Whether it may be moved to another TPM ([`TpmKey::duplicate`](crate::TpmKey::duplicate)). Then whoever can use it, and shows its password if it has one, can
    /// take it out: encrypted to a key of their own, too. With a policy, moving it is a branch of its own, which asks for its password if it has one.
    pub movable: bool,
}

impl NewKey {
    /// Under the H-2 primary, for whoever may use the TPM, and fixed to it.
    #[must_use]
    pub fn new(kind: KeyKind) -> Self {
        Self { kind, parent: Parent::H2Primary, password: None, policy: None, movable: false }
    }
}

/// Data to be sealed.
#[derive(Clone, Debug)]
pub struct NewSealed {
    /// Under which key of the TPM.
    pub parent: Parent,
    /// Its password, if it shall have one. Without one it is exempt from dictionary-attack protection: there is nothing to guess.
    pub password: Option<Password>,
    /// What must be fulfilled to unseal it.
    pub policy: Option<PolicyPlan>,
}

/// Where a key is, and what it takes to use it.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In a file.
    File {
        /// The key.
        file: Box<KeyFile>,
        /// Its password.
        password: Option<Password>,
        /// How its input and result travel.
        bus: BusEncryption,
    },
    /// In the TPM, at a persistent handle.
    Handle {
        /// The handle (0x81000000 to 0x81ffffff).
        handle: u32,
        /// The key's name (TCG part 1, 16), where it is known: another key at the handle is refused.
        name: Option<Vec<u8>>,
        /// The key's policy: there is no file that would state it.
        policy: Policy,
        /// Its password.
        password: Option<Password>,
        /// How its input and result travel.
        bus: BusEncryption,
    },
}

impl KeySource {
    /// At a persistent handle. Where the key has a policy, that must be stated: there is no file that does.
    #[must_use]
    pub fn handle(handle: u32, policy: Policy) -> Self {
        Self::Handle { handle, name: None, policy, password: None, bus: BusEncryption::On }
    }

    /// Pins the name of the key at a persistent handle. A file states its key's name by itself.
    #[must_use]
    pub fn with_name(mut self, new: Option<Vec<u8>>) -> Self {
        if let Self::Handle { name, .. } = &mut self {
            *name = new;
        }
        self
    }

    /// Sets the key's password.
    #[must_use]
    pub fn with_password(mut self, new: Option<Password>) -> Self {
        match &mut self {
            Self::File { password, .. } | Self::Handle { password, .. } => *password = new,
        }
        self
    }

    /// Sets how its input and result travel.
    #[must_use]
    pub fn with_bus(mut self, encryption: BusEncryption) -> Self {
        match &mut self {
            Self::File { bus, .. } | Self::Handle { bus, .. } => *bus = encryption,
        }
        self
    }

    /// What must be fulfilled to use the key.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        match self {
            Self::File { file, .. } => file.policy(),
            Self::Handle { policy, .. } => policy,
        }
    }

    pub(crate) fn password(&self) -> Option<&Password> {
        match self {
            Self::File { password, .. } | Self::Handle { password, .. } => password.as_ref(),
        }
    }

    pub(crate) fn bus(&self) -> BusEncryption {
        match self {
            Self::File { bus, .. } | Self::Handle { bus, .. } => *bus,
        }
    }
}

/// A key without a password.
impl From<KeyFile> for KeySource {
    fn from(file: KeyFile) -> Self {
        Self::File { file: Box::new(file), password: None, bus: BusEncryption::On }
    }
}
