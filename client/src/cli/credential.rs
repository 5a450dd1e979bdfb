//! Which key, and how it is shown to which server: the flags that every command has which connects. What they leave open a profile says
//! (`profiles`).

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Profile, Secret};

use super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::error::CliError;
use super::secret_file::{self, SecretFormat};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Key")]
pub(crate) struct CredentialArgs {
    /// The profile of the configuration file to use, for one of its origins [or: $EKM_OTP_PROFILE; else the one that has the URL's origin]
    #[arg(long, short = 'P', value_name = "NAME")]
    pub(super) profile_name: Option<String>,
    /// The key id that the server knows the secret by
    #[arg(long)]
    pub(super) kid: Option<KeyId>,
    /// The key: a file (TSS2 PEM), as `key create` and `key import` or tpm2-tools write it, or a persistent handle, handle:0x81008001[=NAME|=FILE]
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref, conflicts_with = "secret_file")]
    pub(super) key: Option<KeyRef>,
    /// Instead of --key, a file with the secret itself, for machines without a TPM; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
    /// How the secret stands in its file
    /// [default: base64]
    #[arg(long, value_enum, requires = "secret_file")]
    pub(super) secret_format: Option<SecretFormat>,
    /// Take a secret of fewer than 16 bytes. A rogue server can guess it offline
    #[arg(long, hide_short_help = true)]
    pub(super) unsafe_weak_secret: bool,
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
    /// not found out; the server's name is not covered; a token is bound to the connection, not to the request or the time [default: v1, possible values: v1, go]
    #[arg(long, visible_alias = "wire", value_name = "WIRE", help_heading = "Compatibility", hide_short_help = true)]
    #[arg(value_parser = wire)]
    pub(super) profile: Option<Profile>,
}

fn wire(text: &str) -> Result<Profile, String> {
    text.parse().map_err(|_| "a wire is v1 or go; a profile of the configuration file is named with -P NAME".to_owned())
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

    /// The wire to speak.
    pub(super) fn wire(&self) -> Profile {
        self.profile.unwrap_or_default()
    }

    /// The secret of `--secret-file`, if that is given.
    pub(super) async fn secret(&self) -> Result<Option<Secret>, CliError> {
        match &self.secret_file {
            None => Ok(None),
            Some(path) => {
                let format = self.secret_format.unwrap_or_default();
                secret_file::read(path, format, self.unsafe_weak_secret, self.wire()).await.map(Some)
            }
        }
    }
}

/// How a connection is to be made: with which key, and what it has to be like.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(super) who: CredentialArgs,
    /// Let the HMAC's input and result travel in clear between this process and the TPM
    #[arg(long, hide_short_help = true, help_heading = "TPM")]
    pub(super) unsafe_plain_bus: bool,
    /// When the server must prove itself: before the request is sent, or where its answer carries a proof (a diagnosis only)
    /// [default: require; with --profile go the server proves nothing]
    #[arg(long, value_enum, help_heading = "Request")]
    pub(super) mutual: Option<MutualArg>,
    /// Take TLS 1.2 too, with extended master secret and without resumption; =false where a profile says so
    #[arg(long, help_heading = "TLS", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) tls12: Option<bool>,
    /// Refuse every key exchange but X25519MLKEM768; =false where a profile says so
    #[arg(long, help_heading = "TLS", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) require_post_quantum: Option<bool>,
}

/// What `--mutual` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MutualArg {
    Require,
    Prefer,
}
