//! What the environment says: each key of a profile as `EKM_OTP_` and its name in capitals. An empty variable says nothing.

use ekm_otp::Authority;
use ekm_otp_files::settings::keys_of;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::settings::{ChannelSettings, KeySettings, Text, TpmSettings};
use crate::cli::error::CliError;

/// Names a profile.
pub(crate) const PROFILE_VARIABLE: &str = "EKM_OTP_PROFILE";

/// The environment's settings.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) key: KeySettings,
    pub(super) tpm: TpmSettings,
    pub(super) channel: ChannelSettings,
}

/// Those that are no texts.
const BOOLEANS: [&str; 2] = ["tls12", "require_post_quantum"];
const LISTS: [&str; 4] = ["origins", "signed_policy", "policy_signing_key", "policy_secret"];

impl Environment {
    /// # Errors
    /// Where a variable cannot be read: which, and what it should be.
    pub(super) fn read() -> Result<Self, CliError> {
        Self::of(&|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(CliError::Usage(format!("${name} is no text (UTF-8)"))),
        })
    }

    fn of(variable: &dyn Fn(&str) -> Result<Option<String>, CliError>) -> Result<Self, CliError> {
        let it = Self { key: part(variable)?, tpm: part(variable)?, channel: part(variable)? };
        let key = &it.key;
        for (one, other, both) in [
            ("key", "secret_file", key.key.is_some() && key.secret_file.is_some()),
            ("pcrs", "policy", key.pcrs.is_some() && key.policy.is_some()),
        ] {
            if both {
                return Err(CliError::Usage(format!("${} and ${}: set one of them only", name_of(one), name_of(other))));
            }
        }
        Ok(it)
    }

    /// Whether what it says of a key is meant for this origin. Where it names none, the caller's URL is trusted, as with flags.
    pub(super) fn is_for(&self, origin: &Authority) -> bool {
        let origins = &self.channel.origins;
        origins.is_empty() || origins.iter().any(|Text(known)| known == origin)
    }
}

/// The variable of a key.
pub(super) fn name_of(key: &str) -> String {
    format!("EKM_OTP_{}", key.to_ascii_uppercase())
}

fn part<T: Default + DeserializeOwned>(variable: &dyn Fn(&str) -> Result<Option<String>, CliError>) -> Result<T, CliError> {
    let mut all = Table::new();
    for key in keys_of::<T>() {
        let name = name_of(key);
        let Some(text) = variable(&name)? else { continue };
        let value = match text.as_str() {
            "true" | "1" if BOOLEANS.contains(key) => Value::Boolean(true),
            "false" | "0" if BOOLEANS.contains(key) => Value::Boolean(false),
            _ if BOOLEANS.contains(key) => return Err(CliError::Usage(format!("${name}: write true or false"))),
            list if LISTS.contains(key) => Value::Array(list.split(',').map(|member| Value::from(member.trim())).collect()),
            text => Value::from(text),
        };
        let alone: Table = [((*key).to_owned(), value.clone())].into_iter().collect();
        T::deserialize(alone).map_err(|e| CliError::Usage(format!("${name}: {}", e.message())))?;
        all.insert((*key).to_owned(), value);
    }
    T::deserialize(all).map_err(|e| CliError::Usage(e.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment, CliError> {
        Environment::of(&|name| Ok(variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())))
    }

    #[test]
    fn each_key_of_a_profile_has_its_variable() -> Result<(), CliError> {
        let it = of(&[
            ("EKM_OTP_KID", "client1"),
            ("EKM_OTP_TLS12", "1"),
            ("EKM_OTP_ORIGINS", "https://a.example, https://b.example:8443"),
            ("EKM_OTP_POLICY_SECRET", "owner=a.txt"),
        ])?;
        assert_eq!(it.key.kid.map(|kid| kid.to_string()).as_deref(), Some("client1"));
        assert_eq!((it.channel.tls12, it.channel.origins.len(), it.tpm.policy_secret.len()), (Some(true), 2, 1));
        Ok(())
    }

    #[test]
    fn a_variable_that_says_nothing_that_is_known_is_named() {
        for (name, value, told) in [
            ("EKM_OTP_TLS12", "maybe", "true or false"),
            ("EKM_OTP_MUTUAL", "never", "require"),
            ("EKM_OTP_ORIGINS", "http://a.example", "https://"),
            ("EKM_OTP_KID", "", "EKM_OTP_KID"),
        ] {
            let refused = of(&[(name, value)]).map_err(|e| e.to_string());
            assert!(refused.as_ref().is_err_and(|why| why.contains(name) && why.contains(told)), "{name}: {refused:?}");
        }
    }
}
