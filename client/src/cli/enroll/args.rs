//! The flags of `enroll`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::new_key::GuardArgs;

#[derive(Args, Debug)]
pub(crate) struct EnrollArgs {
    /// The bundle that `ekm-otp-server key add --bundle-out` wrote; a saved mail with it does, too
    #[arg(value_name = "BUNDLE")]
    pub(super) bundle: PathBuf,
    /// The file with the bundle's passphrase; - is standard input [or: $SSH_ASKPASS, a prompt]
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// The fingerprint of a bundle that is wrapped to this TPM and has no passphrase, as `key add` told it: it says that the bundle is the server's
    #[arg(long, value_name = "HEX")]
    pub(super) fingerprint: Option<String>,
    /// The profile to write [default: the one that is for the bundle's server already, or one named after that]
    #[arg(long = "profile-name", short = 'P', visible_alias = "profile", value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Write the key (TSS2 PEM) to this new file [default: named after the key id, beside the configuration file]
    #[arg(long, value_name = "FILE")]
    pub(super) key_out: Option<PathBuf>,
    /// Give an existing profile this key in the place of its own: after the TPM was cleared, or the board swapped
    #[arg(long)]
    pub(super) replace: bool,
    /// Go on although the bundle was used before, because that was on this machine: a try that was cut off, or one before the TPM was cleared
    #[arg(long)]
    pub(super) accept_used: bool,
    /// Refuse every key exchange but X25519MLKEM768; =false takes others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", help_heading = "TLS")]
    pub(super) require_post_quantum: bool,
    /// How long each phase may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) guard: GuardArgs,
}
