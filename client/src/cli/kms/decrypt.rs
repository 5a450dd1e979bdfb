//! `kms decrypt`: only the plaintext leaves, and where to is chosen before there is any.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use ekm_otp_cloud::aws::{Decrypt, EncryptionContext, MAX_CIPHERTEXT, MAX_DOCUMENT};

use super::super::aws::CallerArgs;
use super::super::error::CliError;
use super::super::output;
use super::super::plaintext::{Ending, PlaintextArgs};
use super::asked::{Asked, CipherArgs, read};

#[derive(Args, Debug)]
pub(crate) struct DecryptArgs {
    /// The file with the ciphertext, as it is or in base64; - is standard input
    #[arg(long, visible_alias = "ciphertext-blob", value_name = "FILE")]
    ciphertext: PathBuf,
    /// The key in KMS that it must have been encrypted with: its ARN, its id, or alias/NAME. Without it any key does that you may use, and so a ciphertext that
    /// somebody else made
    #[arg(long, value_name = "KEY", help_heading = "Key in KMS")]
    key_id: Option<String>,
    #[command(flatten)]
    cipher: CipherArgs,
    /// An attestation document, as it is or in base64. KMS then encrypts the plaintext to the public key in it, and that message goes to standard output: `cms decrypt`
    /// opens it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "systemd_credential", "exec"], help_heading = "Attestation")]
    attestation_document: Option<PathBuf>,
    #[command(flatten)]
    output: PlaintextArgs,
    #[command(flatten)]
    caller: CallerArgs,
}

pub(super) async fn run(mut args: DecryptArgs) -> Result<Ending, CliError> {
    if let Some(path) = args.attestation_document.take() {
        return message(args, &path).await.map(Ending::of);
    }
    let outlet = args.output.open()?;
    let context = args.cipher.context()?;
    let ciphertext = args.ciphertext().await?;
    let asked = Asked::open(&mut args.caller, args.key_id.as_deref()).await?;
    let decrypted = asked.kms().decrypt(&args.call(&ciphertext, &context)).await;
    asked.caller.tell_skew();
    outlet.whole(decrypted?.plaintext).await
}

/// The message for whom the document names, as it is: no secret to anybody else.
async fn message(mut args: DecryptArgs, document: &Path) -> Result<(), CliError> {
    let context = args.cipher.context()?;
    let ciphertext = args.ciphertext().await?;
    let document = binary(read(document, "an attestation document", 2 * MAX_DOCUMENT).await?);
    let asked = Asked::open(&mut args.caller, args.key_id.as_deref()).await?;
    let message = asked.kms().decrypt_for(&args.call(&ciphertext, &context), &document).await;
    asked.caller.tell_skew();
    output::result(&message?.cms)
}

impl DecryptArgs {
    async fn ciphertext(&self) -> Result<Vec<u8>, CliError> {
        Ok(binary(read(&self.ciphertext, "a ciphertext of KMS", 2 * MAX_CIPHERTEXT).await?))
    }

    fn call<'a>(&'a self, ciphertext: &'a [u8], context: &'a EncryptionContext) -> Decrypt<'a> {
        let (key_id, algorithm) = (self.key_id.as_deref(), self.cipher.encryption_algorithm.as_deref());
        Decrypt { ciphertext, key_id, context, algorithm }
    }
}

/// Without the base64 that the AWS CLI and its like put around it. Neither ciphertexts nor documents are text themselves.
fn binary(bytes: Vec<u8>) -> Vec<u8> {
    let word: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    match BASE64_STANDARD.decode(&word) {
        Ok(decoded) if !decoded.is_empty() => decoded,
        _ => bytes,
    }
}
