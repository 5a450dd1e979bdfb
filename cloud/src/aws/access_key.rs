//! An access key whose secret is in this process's memory: somebody else's session, or one that a file or the environment holds.

use std::fmt;
use std::time::SystemTime;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::credentials::SessionCredentials;
use super::sigv4::{SECRET_PREFIX, Signatory};
use crate::SoftwareMac;

/// An access key with its secret.
pub struct AccessKey {
    /// The access key id, which is no secret.
    pub access_key_id: String,
    /// The secret that requests are signed with.
    pub secret_access_key: Zeroizing<String>,
    /// Where it is one of a session, what says so.
    pub session_token: Option<Zeroizing<String>>,
}

impl AccessKey {
    /// Reads what a `credential_process` prints (AWS SDKs and Tools Reference Guide, "Process credential provider").
    ///
    /// # Errors
    /// With what it is instead, and no word of it: it may hold secrets.
    pub fn from_process_json(text: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Printed {
            version: u64,
            access_key_id: String,
            secret_access_key: Zeroizing<String>,
            session_token: Option<Zeroizing<String>>,
            expiration: Option<String>,
        }
        let Printed { version, access_key_id, secret_access_key, session_token, expiration } =
            serde_json::from_slice(text).map_err(|_| "something else than credentials in JSON")?;
        if version != 1 {
            return Err("credentials of another version than 1");
        }
        // Written in another way than RFC 3339 has it, as some do, it is the service that tells.
        let end = expiration.and_then(|end| OffsetDateTime::parse(&end, &Rfc3339).ok());
        if end.is_some_and(|end| SystemTime::from(end) <= SystemTime::now()) {
            return Err("credentials that have ended");
        }
        Ok(Self { access_key_id, secret_access_key, session_token })
    }

    /// Whose signatures it makes.
    #[must_use]
    pub fn signatory(&self) -> Signatory<'_> {
        Signatory { access_key_id: &self.access_key_id, session_token: self.session_token.as_ref().map(|token| token.as_str()) }
    }

    /// What makes them.
    #[must_use]
    pub fn mac(&self) -> SoftwareMac {
        SoftwareMac::new(Zeroizing::new([SECRET_PREFIX, &self.secret_access_key].concat().into_bytes()))
    }
}

impl From<SessionCredentials> for AccessKey {
    fn from(session: SessionCredentials) -> Self {
        let SessionCredentials { access_key_id, secret_access_key, session_token, .. } = session;
        Self { access_key_id, secret_access_key, session_token: Some(session_token) }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_prints_is_credentials_or_is_refused_without_a_word_of_it() {
        let good = r#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2999-01-01T00:00:00Z", "More": 1}"#;
        let key = AccessKey::from_process_json(good.as_bytes()).expect("credentials");
        assert_eq!((key.signatory().access_key_id, key.signatory().session_token), ("A", Some("t")));
        assert!(AccessKey::from_process_json(br#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s"}"#).is_ok());
        assert!(AccessKey::from_process_json(good.replace("00Z", "00+0000").as_bytes()).is_ok());
        for (from, to) in [("1,", "2,"), ("2999", "1999"), ("\"s\"", "1"), ("{", "[")] {
            assert!(AccessKey::from_process_json(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }
}
