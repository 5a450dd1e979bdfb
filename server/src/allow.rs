//! Which verified clients may use a site, or a target of tunnels.

use std::collections::BTreeMap;

use ekm_otp_tower::{VerifiedClaims, VerifiedClient};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::pattern::whole;

/// One entry of `allow`: all that it names must match.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowSettings {
    /// A pattern for the client's name.
    client: Option<String>,
    /// For each claim that its token must have, a pattern.
    #[serde(default)]
    claims: BTreeMap<String, String>,
}

/// The allowed clients. Empty: every verified client.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowList(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    client: Option<Regex>,
    claims: Vec<(String, Regex)>,
}

/// Why an entry cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AllowError {
    /// It names nothing.
    #[error("allows nobody in particular: write {{ client = \"alice.*\" }}, {{ claims = {{ role = \"admin\" }} }}, or both")]
    Empty,
    /// A pattern.
    #[error("has a pattern that is none: {0}")]
    Pattern(#[from] regex::Error),
}

impl AllowList {
    /// What is wrong goes to `mistake`, with the place of the entry where it is one's.
    pub(crate) fn of(settings: Option<&[AllowSettings]>, mut mistake: impl FnMut(Option<usize>, String)) -> Self {
        let mut list = Self::default();
        if settings.is_some_and(<[_]>::is_empty) {
            // Without any, everyone would be let in, and whoever wrote this hardly meant that.
            mistake(None, "names nobody: take it out to allow every verified client, or name someone".to_owned());
        }
        for (at, entry) in settings.unwrap_or_default().iter().enumerate() {
            if let Err(e) = list.add(entry) {
                mistake(Some(at), e.to_string());
            }
        }
        list
    }

    /// Adds one. A pattern must match the whole name or claim, with `^` and `$` or without: one that was meant for a part lets in too few, never too many.
    fn add(&mut self, settings: &AllowSettings) -> Result<(), AllowError> {
        let client = settings.client.as_deref().map(whole).transpose()?;
        let claims: Vec<_> =
            settings.claims.iter().map(|(name, text)| Ok((name.clone(), whole(text)?))).collect::<Result<_, regex::Error>>()?;
        if client.is_none() && claims.is_empty() {
            return Err(AllowError::Empty);
        }
        self.0.push(Entry { client, claims });
        Ok(())
    }

    pub(crate) fn admits(&self, client: &VerifiedClient, claims: Option<&VerifiedClaims>) -> bool {
        self.matches(client.client(), claims.map(VerifiedClaims::extra))
    }

    fn matches(&self, client: &str, claims: Option<&Map<String, Value>>) -> bool {
        self.0.is_empty() || self.0.iter().any(|entry| entry.matches(client, claims))
    }
}

impl Entry {
    fn matches(&self, client: &str, claims: Option<&Map<String, Value>>) -> bool {
        let has = |(name, pattern): &(String, Regex)| {
            claims.and_then(|claims| claims.get(name)).is_some_and(|value| value_matches(value, pattern))
        };
        self.client.as_ref().is_none_or(|pattern| pattern.is_match(client)) && self.claims.iter().all(has)
    }
}

/// A text is matched as it is, a number or a boolean as JSON writes it; of a list, one member must match. An object and null never do.
fn value_matches(value: &Value, pattern: &Regex) -> bool {
    match value {
        Value::String(text) => pattern.is_match(text),
        Value::Number(_) | Value::Bool(_) => pattern.is_match(&value.to_string()),
        Value::Array(values) => values.iter().any(|value| !value.is_array() && value_matches(value, pattern)),
        Value::Object(_) | Value::Null => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        #[derive(Deserialize)]
        struct File {
            allow: Vec<AllowSettings>,
        }
        let file: File = toml::from_str(text).expect("settings");
        let mut list = AllowList::default();
        file.allow.iter().for_each(|entry| list.add(entry).expect("an entry"));
        list
    }

    #[test]
    fn a_pattern_matches_the_whole_name() {
        let list = list("allow = [{ client = \"alice|bob\" }, { client = \"^team-.*\" }]");
        for name in ["alice", "bob", "team-a"] {
            assert!(list.matches(name, None), "{name}");
        }
        for name in ["malice", "alice2", "bobby", "a team-a", "alice\n", ""] {
            assert!(!list.matches(name, None), "{name:?}");
        }
    }

    #[test]
    fn all_that_an_entry_names_must_match() {
        let list = list("allow = [{ client = \"alice\", claims = { role = \"admin\", level = \"[3-9]\" } }]");
        let claims = |json: &str| serde_json::from_str::<Map<String, Value>>(json).expect("claims");
        assert!(list.matches("alice", Some(&claims(r#"{"role":["reader","admin"],"level":3}"#))));
        assert!(!list.matches("bob", Some(&claims(r#"{"role":"admin","level":3}"#))));
        assert!(!list.matches("alice", Some(&claims(r#"{"role":"administrator","level":3}"#))));
        assert!(!list.matches("alice", Some(&claims(r#"{"role":"admin"}"#))));
        assert!(!list.matches("alice", Some(&claims(r#"{"role":{"admin":1},"level":null}"#))));
        assert!(!list.matches("alice", None), "a password has no claims");
    }

    #[test]
    fn an_empty_list_admits_everyone_and_an_empty_entry_is_refused() {
        assert!(AllowList::default().matches("anyone", None));
        assert!(AllowList::default().add(&AllowSettings::default()).is_err());
    }
}
