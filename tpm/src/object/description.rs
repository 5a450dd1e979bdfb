//! What a key's public area says, for people.

use std::fmt;

use tss_esapi::attributes::ObjectAttributes;
use tss_esapi::structures::Public;

use super::kind::algorithm;
use super::name::{hex, name_of};
use super::{KeyFileError, KeyKind, blob};

/// What a key's public area says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// What this crate can do with it; `None` where that is nothing.
    pub kind: Option<KeyKind>,
    /// Its algorithm, for people.
    pub algorithm: String,
    /// The object attributes as tpm2-tools names them (TCG part 2, 8.3).
    pub attributes: Vec<&'static str>,
    /// The name algorithm.
    pub name_algorithm: String,
    /// The authorisation policy's digest, if one is set.
    pub auth_policy: Option<Vec<u8>>,
    /// The name (TCG part 1, 16): algorithm and digest of the public area.
    pub name: Vec<u8>,
}

impl KeyDescription {
    pub(crate) fn unknown() -> Self {
        Self {
            kind: None,
            algorithm: "not known here".to_owned(),
            attributes: Vec::new(),
            name_algorithm: "not known here".to_owned(),
            auth_policy: None,
            name: Vec::new(),
        }
    }

    /// What a TPM2B_PUBLIC says, such as the storage key of another TPM: whoever encrypts a key to it first compares its name with what
    /// is shown there.
    ///
    /// # Errors
    /// When the blob is damaged, or not of the length that it states.
    pub fn from_public_blob(public: &[u8]) -> Result<Self, KeyFileError> {
        blob::public_from(public).map(|public| Self::of(&public))
    }

    /// The name in hexadecimal digits.
    #[must_use]
    pub fn name_hex(&self) -> String {
        hex(&self.name)
    }

    pub(crate) fn of(public: &Public) -> Self {
        let kind = KeyKind::of(public);
        let policy = public.auth_policy().value();
        Self {
            kind,
            algorithm: algorithm(public),
            attributes: attribute_names(public.object_attributes()),
            name_algorithm: format!("{:?}", public.name_hashing_algorithm()).to_lowercase(),
            auth_policy: (!policy.is_empty()).then(|| policy.to_vec()),
            name: name_of(public).unwrap_or_default(),
        }
    }
}

impl fmt::Display for KeyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kind:        {}", self.algorithm)?;
        writeln!(f, "attributes:  {}", self.attributes.join("|"))?;
        writeln!(f, "name:        {}", hex(&self.name))?;
        writeln!(f, "name-alg:    {}", self.name_algorithm)?;
        write!(f, "auth policy: {}", self.auth_policy.as_deref().map_or_else(|| "none".to_owned(), hex))
    }
}

fn attribute_names(attributes: ObjectAttributes) -> Vec<&'static str> {
    [
        (attributes.fixed_tpm(), "fixedtpm"),
        (attributes.st_clear(), "stclear"),
        (attributes.fixed_parent(), "fixedparent"),
        (attributes.sensitive_data_origin(), "sensitivedataorigin"),
        (attributes.user_with_auth(), "userwithauth"),
        (attributes.admin_with_policy(), "adminwithpolicy"),
        (attributes.no_da(), "noda"),
        (attributes.encrypted_duplication(), "encryptedduplication"),
        (attributes.restricted(), "restricted"),
        (attributes.decrypt(), "decrypt"),
        (attributes.sign_encrypt(), "sign"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}
