//! What a layer asks of a request, and what it is told of one that may pass.

use http::HeaderValue;

use crate::VerifiedClient;
use crate::jose::VerifiedClaims;

/// What a layer wants of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A credential, but where [`Authentication::open_to`] says that none is needed.
    #[default]
    AsConfigured,
    /// A credential, whatever that says.
    Credential,
    /// None. One that is shown is checked all the same.
    Nothing,
}

/// A request that may pass.
pub(crate) struct Passed {
    pub(crate) as_whose: Whose,
    /// The server proof, where the response must carry it.
    pub(crate) proof: Option<HeaderValue>,
    /// The request asks for the proof only: it ends here.
    pub(crate) is_probe: bool,
}

/// Whose a request is that may pass.
pub(crate) enum Whose {
    /// It passed every check. What its token says, where it came with one.
    Verified(VerifiedClient, Option<VerifiedClaims>),
    /// Another layer has verified it on this connection.
    VerifiedBefore,
    /// Nobody's: it shows no credential and needs none.
    Nobody,
}
