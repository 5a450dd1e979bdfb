//! What a 401 tells its peer, in the challenge's `error`.

/// What a 401 tells its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Diagnosis {
    /// Nothing: the credential is missing or wrong, and why is nobody's business.
    None = 0,
    /// The credential was made for another connection. Says nothing about key ids.
    Channel = 1,
    /// It is of a kind that is not accepted here, or not from this key id.
    Credential = 2,
    /// It was made by the holder of the secret, at another time.
    Time = 3,
    /// It was made by the holder of the secret, for another request, or was used before.
    Claims = 4,
}

impl Diagnosis {
    /// Each, at the place that is its number.
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Channel, Self::Credential, Self::Time, Self::Claims];

    pub(crate) fn error(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Channel => Some("channel"),
            Self::Credential => Some("credential"),
            Self::Time => Some("time"),
            Self::Claims => Some("claims"),
        }
    }
}

/// In the extensions of a 401 that the application answers because the request shows too little: the layer makes a challenge of it.
#[cfg(feature = "axum")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanting(pub(crate) Diagnosis);
