//! One entry of a registry file.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use ekm_otp::field::CredentialKind;
use ekm_otp::{KeyId, Profile, Secret, ServerName};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::RegisteredKey;

/// What an entry may hold.
pub(super) const FIELDS: [&str; 13] = [
    "secret",
    "client",
    "credential",
    "profile",
    "state",
    "not_before",
    "not_after",
    "enrol_by",
    "enrolled",
    "server_names",
    "successor",
    "created",
    "comment",
];

/// The same, as it is written.
#[derive(Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Fields(Written);

impl TryFrom<Written> for Fields {
    type Error = &'static str;

    fn try_from(fields: Written) -> Result<Self, Self::Error> {
        // As serde says it of a field that must be there.
        let is_missing = fields.secret.is_none() && fields.state.as_deref() != Some(KeyState::Removed.as_str());
        if is_missing { Err("missing field `secret`") } else { Ok(Self(fields)) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    secret: Option<Zeroizing<String>>,
    client: String,
    #[serde(default)]
    credential: Option<String>,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    not_before: Option<String>,
    #[serde(default)]
    not_after: Option<String>,
    #[serde(default)]
    enrol_by: Option<String>,
    #[serde(default)]
    enrolled: Option<String>,
    #[serde(default)]
    server_names: Option<Vec<String>>,
    #[serde(default)]
    successor: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    comment: Option<String>,
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// In its time it may.
    #[default]
    Active,
    /// Not for now.
    Disabled,
    /// Never again: somebody else may have its secret.
    Revoked,
    /// It is gone; its key id stays taken, so that it is never bound to another secret.
    Removed,
}

impl KeyState {
    const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Revoked, Self::Removed];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for KeyState {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or("active, disabled, revoked or removed are states")
    }
}

/// One key of the registry as a file holds it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The key id.
    pub kid: KeyId,
    /// The name of the client that owns it.
    pub client: String,
    /// The secret; in a file, `None` if and only if it was [removed](KeyState::Removed).
    pub secret: Option<Secret>,
    /// The weakest kind of credential that it takes.
    pub minimum: CredentialKind,
    /// Which wire it is for.
    pub profile: Profile,
    /// Whether it may be used.
    pub state: KeyState,
    /// From when it is valid.
    pub not_before: Option<SystemTime>,
    /// Until when it is valid.
    pub not_after: Option<SystemTime>,
    /// Until when it is to be used for the first time: it went to its client in a bundle, and is no key from then on if nobody took that in.
    pub enrol_by: Option<SystemTime>,
    /// When it was used for the first time, which lifts [`enrol_by`](Self::enrol_by).
    pub enrolled: Option<SystemTime>,
    /// For which of the server's names it is; for all, where there are none.
    pub server_names: Vec<ServerName>,
    /// The key id that takes its place: until it ends, both are valid.
    pub successor: Option<KeyId>,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When it was last used, to some minutes. A file does not say it.
    pub last_use: Option<SystemTime>,
    /// What somebody noted.
    pub comment: Option<String>,
}

impl Entry {
    /// An active key, valid for ever, for any server name. Without a secret it is good for looking at, or [removed](KeyState::Removed).
    #[must_use]
    pub fn new(kid: KeyId, client: impl Into<String>, secret: impl Into<Option<Secret>>) -> Self {
        Self {
            kid,
            client: client.into(),
            secret: secret.into(),
            minimum: CredentialKind::default(),
            profile: Profile::default(),
            state: KeyState::Active,
            not_before: None,
            not_after: None,
            enrol_by: None,
            enrolled: None,
            server_names: Vec::new(),
            successor: None,
            created: None,
            last_use: None,
            comment: None,
        }
    }

    pub(super) fn read(kid: &str, Fields(fields): Fields, weak_secrets: bool) -> Result<Self, String> {
        let kid = KeyId::new(kid).map_err(|e| format!("a key id is not usable: {e}"))?;
        let state = parsed::<KeyState>(&kid, "state", fields.state)?.unwrap_or_default();
        let profile = parsed::<Profile>(&kid, "profile", fields.profile)?.unwrap_or_default();
        let secret = match fields.secret {
            Some(_) if state == KeyState::Removed => return Err(format!("{kid}: it was removed, and has a secret: take that out")),
            Some(text) => {
                let bytes = Secret::decode_base64(text.trim()).map_err(|e| format!("{kid}: {e}"))?;
                let bytes = if profile == Profile::Go { Secret::fold(bytes) } else { bytes };
                Some(if weak_secrets { Secret::weak(bytes) } else { Secret::new(bytes) }.map_err(|e| format!("{kid}: {e}"))?)
            }
            None if state == KeyState::Removed => None,
            None => return Err(format!("{kid}: `secret` is missing")),
        };
        if fields.server_names.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{kid}: server_names names none: take it out, and the key is for all, or name one"));
        }
        let names = fields.server_names.iter().flatten().map(|name| ServerName::from_host(name));
        Ok(Self {
            client: fields.client,
            secret,
            minimum: parsed(&kid, "credential", fields.credential)?.unwrap_or_default(),
            profile,
            state,
            not_before: instant(&kid, "not_before", fields.not_before)?,
            not_after: instant(&kid, "not_after", fields.not_after)?,
            enrol_by: instant(&kid, "enrol_by", fields.enrol_by)?,
            enrolled: instant(&kid, "enrolled", fields.enrolled)?,
            server_names: names.collect::<Result<_, _>>().map_err(|_| format!("{kid}: server_names: one is no host name"))?,
            successor: fields.successor.map(|kid| KeyId::new(&kid)).transpose().map_err(|e| format!("{kid}: successor: {e}"))?,
            created: instant(&kid, "created", fields.created)?,
            last_use: None,
            comment: fields.comment,
            kid,
        })
    }

    /// Whether it waits for its first use.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.enrol_by.is_some() && self.enrolled.is_none()
    }

    /// The key itself; `None` if it was removed.
    #[must_use]
    pub fn into_key(self) -> Option<RegisteredKey> {
        let is_awaited = self.is_awaited();
        let until = self.enrol_by.filter(|_| is_awaited);
        let not_after = match (self.not_after, until) {
            (Some(not_after), Some(until)) => Some(not_after.min(until)),
            (not_after, until) => not_after.or(until),
        };
        let key = RegisteredKey::new(self.kid, self.client, self.secret?)
            .with_minimum(self.minimum)
            .with_profile(self.profile)
            .with_server_names(self.server_names)
            .with_validity(self.not_before, not_after)
            .with_awaited(is_awaited)
            .with_last_use(self.last_use);
        if self.state != KeyState::Active {
            key.revoke();
        }
        Some(key)
    }
}

fn parsed<T: FromStr<Err: fmt::Display>>(kid: &KeyId, field: &str, text: Option<String>) -> Result<Option<T>, String> {
    text.map(|text| text.parse().map_err(|e| format!("{kid}: {field}: {e}"))).transpose()
}

fn instant(kid: &KeyId, field: &str, text: Option<String>) -> Result<Option<SystemTime>, String> {
    let read = |text: String| OffsetDateTime::parse(&text, &Rfc3339).map(SystemTime::from);
    text.map(read).transpose().map_err(|_| format!("{kid}: {field}: write it as 2027-01-31T12:00:00Z"))
}
