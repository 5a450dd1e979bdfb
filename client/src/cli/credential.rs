//! Which key, and how it is shown to which server: what `get` and `doctor` have in common.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Profile, Secret};

use super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::error::CliError;
use super::secret_file::{self, SecretFormat};

#[derive(Args, Debug)]
#[command(next_help_heading = "Key")]
pub(crate) struct CredentialArgs {
    /// The key id that the server knows the secret by
    #[arg(long)]
    pub(super) kid: Option<KeyId>,
    /// The key: a file (TSS2 PEM), as `key create` and `key import` or tpm2-tools write it, or a persistent handle, handle:0x81008001[=NAME|=FILE]
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref, conflicts_with = "secret_file")]
    pub(super) key: Option<KeyRef>,
    /// Instead of --key, a file with the secret itself, for machines without a TPM; - is standard input
    #[arg(long, value_name = "FILE", requires_all = ["kid", "url"])]
    pub(super) secret_file: Option<PathBuf>,
    /// How the secret stands in its file
    #[arg(long, value_enum, default_value_t, requires = "secret_file")]
    secret_format: SecretFormat,
    /// Take a secret of fewer than 16 bytes. A rogue server can guess it offline
    #[arg(long, hide_short_help = true)]
    unsafe_weak_secret: bool,
    #[command(flatten)]
    pub(super) use_key: UseKeyArgs,
    /// What goes with a request: the connection's one-time password, or a token that covers that request (signed; signed and encrypted)
    /// [default: otp; doctor tries one after the other]
    #[arg(long, help_heading = "Request")]
    #[arg(value_parser = PossibleValuesParser::new(CredentialKind::ALL.map(CredentialKind::as_str)).try_map(|kind| kind.parse::<CredentialKind>()))]
    pub(super) credential: Option<CredentialKind>,
    /// Trust the certificates in this file (PEM) instead of the system's
    #[arg(long, visible_alias = "cacert", value_name = "FILE", help_heading = "TLS")]
    pub(super) ca: Option<PathBuf>,
    /// The server's name in TLS and in requests; the URL's host is then only the address to dial
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    pub(super) server_name: Option<String>,
    /// The wire to speak. go is that of the Go original, and weaker: the server proves nothing, so a rogue one with a valid certificate is
    /// not found out; the server's name is not covered; a token is bound to the connection, not to the request or the time
    #[arg(long, default_value = "v1", help_heading = "Compatibility", hide_short_help = true)]
    #[arg(value_parser = PossibleValuesParser::new(Profile::ALL.map(Profile::as_str)).try_map(|profile| profile.parse::<Profile>()))]
    pub(super) profile: Profile,
}

impl CredentialArgs {
    /// Whose name the server has, where it is dialled at this address.
    pub(super) fn origin(&self, dialled: &Authority) -> Result<Authority, CliError> {
        match &self.server_name {
            None => Ok(dialled.clone()),
            Some(name) => {
                Authority::parse(&format!("{name}:{}", dialled.port())).map_err(|e| CliError::Usage(format!("--server-name {name}: {e}")))
            }
        }
    }

    /// The secret of `--secret-file`, if that is given.
    pub(super) async fn secret(&self) -> Result<Option<Secret>, CliError> {
        match &self.secret_file {
            None => Ok(None),
            Some(path) => secret_file::read(path, self.secret_format, self.unsafe_weak_secret, self.profile).await.map(Some),
        }
    }
}
