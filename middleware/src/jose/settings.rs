//! What a server sets of tokens.

use std::time::Duration;

use ekm_otp::field::CredentialKind;

use crate::Authentication;

impl Authentication {
    /// Sets which kinds of credential are accepted; one-time passwords only, unless set. A registered key may ask for
    /// [more](crate::RegisteredKey::with_minimum).
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = CredentialKind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// Sets how far the clocks of the two ends may differ where tokens are checked.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }
}
