//! Why there is no MAC.

use std::error::Error;
use std::fmt;

/// Why a key could not be used. Shows what its holder says, and [`source`](Error::source) is that.
#[derive(Debug)]
pub struct SignerError {
    source: Box<dyn Error + Send + Sync>,
    is_temporary: bool,
}

impl SignerError {
    /// For good: not permitted, not there, not this kind of key. The client waits long before it asks again.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), is_temporary: false }
    }

    /// For now: busy, not reachable, too slow.
    pub fn temporary(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), is_temporary: true }
    }

    /// Whether it may work soon, with nothing changed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// What the key's holder said, where it is of this type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for SignerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
