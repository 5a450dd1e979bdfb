//! `cms …`: messages to one key (RFC 5652, EnvelopedData), as KMS answers a recipient. What `openssl cms` makes and opens.

mod decrypt;
mod encrypt;

use clap::Subcommand;

use super::error::CliError;
use super::plaintext::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum CmsCommand {
    /// Decrypt a message with a key in the TPM or in a file. Only the plaintext leaves, to standard output, to a file in memory, or into a program.
    #[command(
        after_help = "Examples:\n  ekm-otp-client cms decrypt --inkey recipient.pem < secret.cms\n  ekm-otp-client cms decrypt --inkey recipient.pem --in secret.cms --exec app"
    )]
    Decrypt(Box<decrypt::DecryptArgs>),
    /// Encrypt to whoever has the private key of a certificate or of a public key: RSAES-OAEP with SHA-256, AES-256 in CBC mode.
    ///
    /// Nothing in such a message proves who made it, or that it is as it was made.
    #[command(after_help = "Examples:\n  ekm-otp-client cms encrypt --recip recipient.pub < secret > secret.cms")]
    Encrypt(Box<encrypt::EncryptArgs>),
}

pub(crate) async fn run(command: CmsCommand) -> Result<Ending, CliError> {
    match command {
        CmsCommand::Decrypt(args) => decrypt::run(*args).await,
        CmsCommand::Encrypt(args) => encrypt::run(*args).await.map(Ending::of),
    }
}
