//! A service account, and the file that Google makes for its key.

use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A service account, but for its key.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its e-mail address.
    #[serde(rename = "client_email")]
    pub email: String,
    /// The key's id, as Google knows it.
    #[serde(rename = "private_key_id")]
    pub key_id: Option<String>,
    /// Its project.
    pub project_id: Option<String>,
    /// Where tokens are asked for.
    pub token_uri: Option<String>,
    /// The universe that it lives in, where that is not `googleapis.com`.
    pub universe_domain: Option<String>,
}

impl ServiceAccount {
    /// Of this address, with nothing more known.
    #[must_use]
    pub fn new(email: &str) -> Self {
        Self { email: email.to_owned(), key_id: None, project_id: None, token_uri: None, universe_domain: None }
    }

    /// From the file that Google makes (`"type": "service_account"`), with or without the private key.
    ///
    /// # Errors
    /// When it is another kind of file.
    pub fn from_json(file: &[u8]) -> Result<Self, AccountError> {
        let object = object(file)?;
        serde_json::from_value(Value::Object(object)).map_err(|_| AccountError::Member("client_email"))
    }

    /// Takes a file apart: the private key (PEM), and what remains without it.
    ///
    /// # Errors
    /// When it is another kind of file, or there is no key in it.
    pub fn take_key(file: &[u8]) -> Result<(Zeroizing<String>, Vec<u8>), AccountError> {
        Self::from_json(file)?;
        let mut object = object(file)?;
        let Some(Value::String(key)) = object.remove("private_key") else { return Err(AccountError::Member("private_key")) };
        let key = Zeroizing::new(key);
        // A second copy under another name would stay behind.
        if object.values().any(|value| value.to_string().contains("PRIVATE KEY")) {
            return Err(AccountError::AnotherKey);
        }
        let mut rest = serde_json::to_vec_pretty(&Value::Object(object)).unwrap_or_else(|_| unreachable!("JSON can be written"));
        rest.push(b'\n');
        Ok((key, rest))
    }
}

fn object(file: &[u8]) -> Result<Map<String, Value>, AccountError> {
    let Ok(Value::Object(object)) = serde_json::from_slice(file) else { return Err(AccountError::Json) };
    match object.get("type").and_then(Value::as_str) {
        Some("service_account") => Ok(object),
        Some(other) => Err(AccountError::Type(other.chars().filter(|c| !c.is_control()).take(40).collect())),
        None => Err(AccountError::Member("type")),
    }
}

/// Why a file is no service account's. Shows nothing of its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// No JSON object.
    #[error("it is no JSON object")]
    Json,
    /// Another kind of credentials.
    #[error("it is of type {0:?}, not \"service_account\": only those hold a private key")]
    Type(String),
    /// Something is missing.
    #[error("{0:?} is missing in it, or no text")]
    Member(&'static str),
    /// A private key where none is to be.
    #[error("a private key stands in it a second time")]
    AnotherKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_taken_out_and_all_else_stays() {
        let file = br#"{"type": "service_account", "client_email": "a@b", "private_key_id": "1", "private_key": "-----BEGIN PRIVATE KEY-----", "x": [1]}"#;
        let (key, rest) = ServiceAccount::take_key(file).expect("a file");
        assert_eq!(*key, "-----BEGIN PRIVATE KEY-----");
        let rest: Value = serde_json::from_slice(&rest).expect("JSON");
        assert_eq!(rest, serde_json::json!({"type": "service_account", "client_email": "a@b", "private_key_id": "1", "x": [1]}));
    }

    #[test]
    fn another_kind_of_file_is_named() {
        let refused = |text: &str| ServiceAccount::take_key(text.as_bytes()).expect_err("it is refused");
        assert_eq!(refused("[]"), AccountError::Json);
        assert_eq!(refused(r#"{"type": "external_account"}"#), AccountError::Type("external_account".into()));
        assert_eq!(refused(r#"{"type": "service_account", "private_key": "x"}"#), AccountError::Member("client_email"));
        assert_eq!(refused(r#"{"type": "service_account", "client_email": "a@b"}"#), AccountError::Member("private_key"));
        let twice = r#"{"type": "service_account", "client_email": "a@b", "private_key": "x", "old": "-----BEGIN PRIVATE KEY-----"}"#;
        assert_eq!(refused(twice), AccountError::AnotherKey);
    }
}
