//! Which key of the TPM a key lies under.

use std::path::Path;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ekm_otp_tpm::{KeyFile, Parent, PrimaryAlgorithm};

use super::error::CliError;
use super::handle::persistent_handle;

pub(super) fn template_name(template: Parent) -> Option<&'static str> {
    TEMPLATES.into_iter().find(|(_, parent)| *parent == template).map(|(name, _)| name)
}

/// What `--parent-template` names.
const TEMPLATES: [(&str, Parent); 4] = [
    ("rsa", Parent::ToolsPrimary(PrimaryAlgorithm::Rsa)),
    ("ecc", Parent::ToolsPrimary(PrimaryAlgorithm::Ecc)),
    ("ek-rsa", Parent::EndorsementKey(PrimaryAlgorithm::Rsa)),
    ("ek-ecc", Parent::EndorsementKey(PrimaryAlgorithm::Ecc)),
];

/// What `--parent-template` names by this name.
pub(super) fn template_of(name: &str) -> Result<Parent, String> {
    let names = || TEMPLATES.map(|(name, _)| name).join(", ");
    TEMPLATES.into_iter().find(|(known, _)| *known == name).map(|(_, parent)| parent).ok_or_else(|| format!("one of {}", names()))
}

pub(super) fn parent_template() -> impl TypedValueParser<Value = Parent> {
    PossibleValuesParser::new(TEMPLATES.map(|(name, _)| name))
        .map(|name| TEMPLATES.into_iter().find(|(known, _)| *known == name).map_or(Parent::H2Primary, |(_, parent)| parent))
}

/// The storage key that a key is put under.
#[derive(Args, Debug)]
pub(super) struct ParentKeyArgs {
    /// A persistent storage key to put it under, such as 0x81000001 [default: the H-2 primary of the owner hierarchy]
    #[arg(long, value_name = "HANDLE", value_parser = persistent_handle, conflicts_with = "parent_template")]
    parent: Option<u32>,
    /// A primary to put it under: the one that tpm2_createprimary makes (rsa, ecc), or the endorsement key (ek-rsa, ek-ecc). The key's file tells of
    /// ek-rsa only: any other is to be named wherever the key is used
    #[arg(long, value_name = "TEMPLATE", value_parser = parent_template())]
    parent_template: Option<Parent>,
}

impl ParentKeyArgs {
    pub(super) fn given(&self) -> Option<Parent> {
        self.parent.map(Parent::Persistent).or(self.parent_template)
    }

    pub(super) fn parent(&self) -> Parent {
        self.given().unwrap_or(Parent::H2Primary)
    }

    /// The flag that a key's user has to give, since the key's file does not tell.
    pub(super) fn to_be_named(&self) -> Option<String> {
        let template = self.parent_template.filter(|template| *template != Parent::EndorsementKey(PrimaryAlgorithm::Rsa));
        template.and_then(template_name).map(|name| format!("--parent-template {name}"))
    }
}

/// The key under the primary that `--parent-template` names.
pub(super) fn under(file: KeyFile, template: Option<Parent>, path: &Path) -> Result<KeyFile, CliError> {
    match (template, file.parent()) {
        (None, _) => Ok(file),
        (Some(_), Parent::Persistent(handle)) => {
            Err(CliError::Usage(format!("--parent-template: {} names its parent itself: 0x{handle:08x}", path.display())))
        }
        (Some(parent), _) => Ok(file.with_parent(parent)),
    }
}
