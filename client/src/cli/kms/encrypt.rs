//! `kms encrypt`: a secret, once, where it is known; its ciphertext may then lie anywhere.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use ekm_otp_cloud::aws::{Encrypt, MAX_PLAINTEXT};

use super::super::aws::CallerArgs;
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::secret_file::{PrivateFile, read_private};
use super::super::shown::printable;
use super::asked::{Asked, CipherArgs};

#[derive(Args, Debug)]
pub(crate) struct EncryptArgs {
    /// The key in KMS: its ARN, its id, or alias/NAME
    #[arg(long, value_name = "KEY", help_heading = "Key in KMS")]
    key_id: String,
    #[command(flatten)]
    cipher: CipherArgs,
    /// The file with the secret; - is standard input. All its bytes count, a last line feed, too
    #[arg(long, value_name = "FILE", default_value = "-")]
    plaintext: PathBuf,
    /// Write the ciphertext to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print it in base64, as the AWS CLI does
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    caller: CallerArgs,
}

pub(super) async fn run(mut args: EncryptArgs) -> Result<(), CliError> {
    let out = args.out.as_deref().filter(|path| *path != Path::new("-"));
    if out.is_none() && !args.base64 && std::io::stdout().is_terminal() {
        return Err(CliError::Usage("a ciphertext is no text: send standard output to a file, or say --out or --base64".into()));
    }
    let out = out.map(PrivateFile::create).transpose()?;
    let context = args.cipher.context()?;
    let asked = Asked::open(&mut args.caller, Some(&args.key_id)).await?;
    let path = args.plaintext.clone();
    // Standard input may never end: a signal must still be heard.
    let reading = tokio::task::spawn_blocking(move || read_private(&path, "a secret for KMS", MAX_PLAINTEXT));
    let plaintext = reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the secret failed: {e}"))))?;
    let call =
        Encrypt { key_id: &args.key_id, plaintext: &plaintext, context: &context, algorithm: args.cipher.encryption_algorithm.as_deref() };
    let encrypted = asked.kms().encrypt(&call).await;
    asked.caller.tell_skew();
    let encrypted = encrypted?;
    let bytes =
        if args.base64 { format!("{}\n", BASE64_STANDARD.encode(&encrypted.ciphertext)).into_bytes() } else { encrypted.ciphertext };
    match out {
        None => output::result(&bytes),
        Some(mut file) => {
            file.write(&bytes)?;
            let name = file.keep()?;
            note!("wrote to {name} what {} decrypts", printable(&encrypted.key_id));
            Ok(())
        }
    }
}
