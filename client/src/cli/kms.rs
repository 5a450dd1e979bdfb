//! `kms …`: secrets that AWS KMS keeps, and hands to whom its key policy names: a user, or only this machine in this boot state.

mod asked;
mod decrypt;
mod encrypt;
mod recipient;

use clap::Subcommand;

use super::error::CliError;
use super::plaintext::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    /// Encrypt a secret of at most 4096 bytes with a key in KMS: what standard input holds goes to standard output as ciphertext.
    #[command(
        after_help = "Examples:\n  ekm-otp-client kms encrypt --key-id alias/app --aws-region eu-west-1 \\\n      --context app=web < secret > secret.kms"
    )]
    Encrypt(Box<encrypt::EncryptArgs>),
    /// Decrypt what KMS has encrypted. Only the plaintext leaves, to standard output, to a file in memory, or into a program.
    #[command(
        after_help = "Examples:\n  ekm-otp-client kms decrypt --key-id alias/app --aws-region eu-west-1 \\\n      --context app=web --ciphertext secret.kms --out /run/app/secret\n  ekm-otp-client kms decrypt --recipient --key-id alias/app \\\n      --aws-region eu-west-1 --ciphertext secret.kms --exec app --port 80"
    )]
    Decrypt(Box<decrypt::DecryptArgs>),
}

pub(crate) async fn run(command: KmsCommand) -> Result<Ending, CliError> {
    match command {
        KmsCommand::Encrypt(args) => encrypt::run(*args).await.map(Ending::of),
        KmsCommand::Decrypt(args) => decrypt::run(*args).await,
    }
}
