//! What AWS hands out for some time, and what its SDKs read.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::refresh::Expires;
use crate::{Clock, utc};

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
    /// With the end that the service told by this machine's clock, right or not, which all look at that compare it.
    pub(super) fn here(mut self, clock: &Clock) -> Self {
        self.expiration = clock.here(self.expiration.into()).into();
        self
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
