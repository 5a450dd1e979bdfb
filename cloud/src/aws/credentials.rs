//! What AWS hands out for some time, and what its SDKs read.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::refresh::Expires;
use crate::{Clock, CloudError, utc};

/// The longest that AWS gives (GetSessionToken), and a margin for clocks.
const MAX_LIFETIME: Duration = Duration::from_secs(37 * 3600);

/// Credentials that end.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionCredentials {
    /// The access key id, which is no secret.
    pub access_key_id: String,
    /// The secret that requests are signed with.
    pub secret_access_key: Zeroizing<String>,
    /// What says that the secret is for this session.
    pub session_token: Zeroizing<String>,
    /// When they end, by this machine's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub expiration: OffsetDateTime,
}

impl SessionCredentials {
    /// What a service sent, if it is of use: not empty, and good for some time. Its end is told by this machine's clock, right or not, which all look at that compare it.
    pub(super) fn checked(mut self, clock: &Clock, service: &str) -> Result<Self, CloudError> {
        let wrong = |why: &str| CloudError::Answer { service: service.to_owned(), wanted: "credentials", why: why.to_owned() };
        if self.access_key_id.is_empty() || self.secret_access_key.is_empty() || self.session_token.is_empty() {
            return Err(wrong("one of their three parts is empty"));
        }
        let (end, now) = (SystemTime::from(self.expiration), clock.now());
        if end <= now || end > now + MAX_LIFETIME {
            return Err(wrong("they have ended, or end in more than 36 hours"));
        }
        self.expiration = clock.here(end).into();
        Ok(self)
    }

    /// As `credential_process` prints them (AWS SDKs and Tools Reference Guide, "Process credential provider"): version 1, the end in UTC.
    #[must_use]
    pub fn to_process_json(&self) -> Zeroizing<String> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Output<'a> {
            version: u8,
            #[serde(flatten)]
            credentials: &'a SessionCredentials,
        }
        let output = Output { version: 1, credentials: self };
        Zeroizing::new(serde_json::to_string_pretty(&output).unwrap_or_else(|_| unreachable!("strings and numbers")))
    }

    /// The end, as RFC 3339 in UTC, to the second.
    #[must_use]
    pub fn expiration_text(&self) -> String {
        utc(self.expiration.into())
    }
}

impl Expires for SessionCredentials {
    fn expires(&self) -> SystemTime {
        self.expiration.into()
    }
}

impl fmt::Debug for SessionCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}
