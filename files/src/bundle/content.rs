//! What a bundle says.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::BundleError;

/// The version that this program writes and reads.
const VERSION: u64 = 1;
/// More than any content has: it is written in one piece of memory.
pub(super) const MOST: usize = 128 * 1024;

/// What a client needs to become a certain client of a server.
#[derive(Debug)]
pub struct Bundle {
    /// The key id.
    pub kid: String,
    /// The client's name in the registry.
    pub client: String,
    /// Where the key may be shown, such as `https://api.example.com`; at least one.
    pub origins: Vec<String>,
    /// The certificates to trust there (PEM) instead of the system's.
    pub ca: Option<String>,
    /// The kind of credential that the server wants: `otp`, `jws` or `jwe`.
    pub credential: String,
    /// Until when it must be used for the first time.
    pub expires: SystemTime,
    /// The secret.
    pub secret: BundleSecret,
}

/// A bundle's secret.
pub enum BundleSecret {
    /// As it is: only within a sealed bundle.
    Clear(Zeroizing<Vec<u8>>),
    /// As a key that one TPM's TPM2_Import takes.
    Wrapped {
        /// The name of the storage key that it is wrapped to (TCG part 1, 16).
        parent: Vec<u8>,
        /// TPM2B_PUBLIC.
        public: Vec<u8>,
        /// TPM2B_PRIVATE.
        duplicate: Vec<u8>,
        /// TPM2B_ENCRYPTED_SECRET.
        seed: Vec<u8>,
    },
}

impl fmt::Debug for BundleSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear(_) => "Clear(..)",
            Self::Wrapped { .. } => "Wrapped { .. }",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    version: u64,
    kid: String,
    client: String,
    origins: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    credential: String,
    /// Seconds since 1970.
    expires: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapped: Option<Wrapped>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    parent: String,
    public: String,
    duplicate: String,
    seed: String,
}

/// The version alone: a newer one may have other fields.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Bundle {
    pub(super) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let (secret, wrapped) = match &self.secret {
            BundleSecret::Clear(secret) => (Some(Zeroizing::new(STANDARD.encode(&**secret))), None),
            BundleSecret::Wrapped { parent, public, duplicate, seed } => {
                let [parent, public, duplicate, seed] = [parent, public, duplicate, seed].map(|bytes| STANDARD.encode(bytes));
                (None, Some(Wrapped { parent, public, duplicate, seed }))
            }
        };
        let fields = Fields {
            version: VERSION,
            kid: self.kid.clone(),
            client: self.client.clone(),
            origins: self.origins.clone(),
            ca: self.ca.clone(),
            credential: self.credential.clone(),
            expires: self.expires.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            secret,
            wrapped,
        };
        // With its capacity at once: a Vec that grows leaves pieces of the secret behind.
        let mut json = Zeroizing::new(Vec::with_capacity(MOST));
        serde_json::to_writer(&mut *json, &fields).map_err(|e| BundleError::Seal(e.to_string()))?;
        if json.len() > MOST { Err(BundleError::TooLong(MOST)) } else { Ok(json) }
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        let version: Version = serde_json::from_slice(json).map_err(|_| BundleError::Damaged)?;
        if version.version != VERSION {
            return Err(BundleError::Version(version.version));
        }
        let fields: Fields = serde_json::from_slice(json).map_err(|_| BundleError::Damaged)?;
        let decoded = |text: &str, what| STANDARD.decode(text).map_err(|_| BundleError::Field(what));
        let secret = match (&fields.secret, &fields.wrapped) {
            (Some(secret), None) => BundleSecret::Clear(Zeroizing::new(decoded(secret, "secret is no base64")?)),
            (None, Some(wrapped)) => BundleSecret::Wrapped {
                parent: decoded(&wrapped.parent, "parent is no base64")?,
                public: decoded(&wrapped.public, "public part is no base64")?,
                duplicate: decoded(&wrapped.duplicate, "wrapped key is no base64")?,
                seed: decoded(&wrapped.seed, "seed is no base64")?,
            },
            _ => return Err(BundleError::Field("secret stands in it not once")),
        };
        if fields.origins.is_empty() {
            return Err(BundleError::Field("origins are missing"));
        }
        let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(fields.expires));
        Ok(Self {
            kid: fields.kid,
            client: fields.client,
            origins: fields.origins,
            ca: fields.ca,
            credential: fields.credential,
            expires: expires.ok_or(BundleError::Field("expiry is no time"))?,
            secret,
        })
    }
}
