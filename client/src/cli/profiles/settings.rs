//! What a profile, or the environment, can say: each key is that of a flag, with `_` for `-`.

use std::fmt::Display;
use std::path::PathBuf;

use clap::ValueEnum;
use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Profile};
use ekm_otp_tpm::{Parent, PolicyPlan};
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::cli::arguments::{Name, name};
use crate::cli::credential::MutualArg;
use crate::cli::origin::origin_alone;
use crate::cli::parent::template_of;
use crate::cli::policy;
use crate::cli::secret_file::SecretFormat;

/// Which key, and what it takes to use that one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeySettings {
    #[serde(deserialize_with = "text")]
    pub(super) kid: Option<KeyId>,
    /// As `--key` has it: a file, or a handle.
    pub(super) key: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
    #[serde(deserialize_with = "text")]
    pub(super) secret_format: Option<SecretFormat>,
    pub(super) password_file: Option<PathBuf>,
    #[serde(deserialize_with = "text")]
    pub(super) pcrs: Option<PolicyPlan>,
    pub(super) policy: Option<PathBuf>,
    #[serde(deserialize_with = "text")]
    pub(super) parent_template: Option<Parent>,
}

/// Which TPM, and what it takes to use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TpmSettings {
    pub(super) tcti: Option<String>,
    pub(super) owner_password_file: Option<PathBuf>,
    pub(super) parent_password_file: Option<PathBuf>,
    #[serde(deserialize_with = "text")]
    pub(super) session_key_name: Option<Name>,
    #[serde(deserialize_with = "one_or_many")]
    pub(super) signed_policy: Vec<Text<PathBuf>>,
    #[serde(deserialize_with = "one_or_many")]
    pub(super) policy_signing_key: Vec<Text<PathBuf>>,
    #[serde(deserialize_with = "one_or_many")]
    pub(super) policy_secret: Vec<Text<PolicySecret>>,
}

/// Which servers, and how connections to them are made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChannelSettings {
    #[serde(deserialize_with = "one_or_many")]
    pub(super) origins: Vec<Text<Authority>>,
    #[serde(deserialize_with = "text")]
    pub(super) credential: Option<CredentialKind>,
    #[serde(deserialize_with = "text")]
    pub(super) mutual: Option<MutualArg>,
    #[serde(deserialize_with = "text")]
    pub(super) wire: Option<Profile>,
    pub(super) ca: Option<PathBuf>,
    pub(super) tls12: Option<bool>,
    pub(super) require_post_quantum: Option<bool>,
}

/// A hierarchy or object, and the file with its password.
#[derive(Clone, Debug)]
pub(super) struct PolicySecret(pub(super) u32, pub(super) PathBuf);

/// What can be read from a text, by the rules of its flag.
pub(super) trait FromText: Sized {
    /// What to write instead, where it cannot.
    fn from_text(text: &str) -> Result<Self, String>;
}

fn told<T, E: Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

impl FromText for KeyId {
    fn from_text(text: &str) -> Result<Self, String> {
        told(text.parse())
    }
}

impl FromText for CredentialKind {
    fn from_text(text: &str) -> Result<Self, String> {
        told(text.parse())
    }
}

impl FromText for Profile {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write \"v1\" or \"go\"".to_owned())
    }
}

impl FromText for PolicyPlan {
    fn from_text(text: &str) -> Result<Self, String> {
        told(text.parse())
    }
}

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, String> {
        name(text)
    }
}

impl FromText for Parent {
    fn from_text(text: &str) -> Result<Self, String> {
        template_of(text)
    }
}

impl FromText for SecretFormat {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_str(text, false).map_err(|_| "write \"base64\", \"hex\" or \"raw\"".to_owned())
    }
}

impl FromText for MutualArg {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_str(text, false).map_err(|_| "write \"require\" or \"prefer\"".to_owned())
    }
}

impl FromText for Authority {
    fn from_text(text: &str) -> Result<Self, String> {
        origin_alone(text)
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl FromText for PolicySecret {
    fn from_text(text: &str) -> Result<Self, String> {
        policy::secret(text).map(|(handle, file)| Self(handle, file))
    }
}

/// A value that stands in a list.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::from_text(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

fn text<'de, D: Deserializer<'de>, T: FromText>(deserializer: D) -> Result<Option<T>, D::Error> {
    Text::deserialize(deserializer).map(|Text(value)| Some(value))
}

/// A text, or a list of texts.
fn one_or_many<'de, D: Deserializer<'de>, T: FromText>(deserializer: D) -> Result<Vec<Text<T>>, D::Error> {
    struct OneOrMany<T>(std::marker::PhantomData<T>);
    impl<'de, T: FromText> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<Text<T>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of texts in quotes, in brackets")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            T::from_text(text).map(|value| vec![Text(value)]).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = members.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
    deserializer.deserialize_any(OneOrMany(std::marker::PhantomData))
}
