//! `cms encrypt`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use ekm_otp_attestation::cms::{Recipient, encrypt};

use super::super::encoded;
use super::super::error::CliError;
use super::super::output;
use super::super::secret_file::{PrivateFile, read_open};
use super::super::shown::shown;

/// A message is held in memory as a whole.
const MAX_PLAINTEXT: usize = 1024 * 1024 - 4096;
/// A certificate, with what people put around it.
const MAX_RECIPIENT: usize = 64 * 1024;

#[derive(Args, Debug)]
pub(crate) struct EncryptArgs {
    /// Whom it is for: a certificate or a public key (RSA; PEM or DER); - is standard input
    #[arg(long, value_name = "FILE")]
    recip: PathBuf,
    /// The file with the secret, at most 1044480 bytes; - is standard input. All its bytes count, a last line feed, too
    #[arg(long = "in", value_name = "FILE", default_value = "-")]
    plaintext: PathBuf,
    /// Write the message to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print it in base64 instead of binary
    #[arg(long)]
    base64: bool,
}

pub(super) async fn run(args: EncryptArgs) -> Result<(), CliError> {
    let out = args.out.as_deref().filter(|path| *path != Path::new("-"));
    if out.is_none() && !args.base64 && std::io::stdout().is_terminal() {
        return Err(CliError::Usage("a message is no text: send standard output to a file, or say --out or --base64".into()));
    }
    let out = out.map(PrivateFile::create).transpose()?;
    if args.recip == Path::new("-") && args.plaintext == Path::new("-") {
        return Err(CliError::Usage("--recip -: standard input has the secret, unless --in names a file".into()));
    }
    let recipient = encoded::read(&args.recip, MAX_RECIPIENT).await?;
    let recipient = Recipient::read(&recipient).map_err(|e| CliError::Usage(format!("--recip {}: {e}", shown(&args.recip))))?;
    // Standard input may never end: a signal must still be heard.
    let reading = tokio::task::spawn_blocking(move || read_open(&args.plaintext, "a secret for a message", MAX_PLAINTEXT));
    let plaintext = reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the secret failed: {e}"))))?;
    let message = encrypt(&recipient, &plaintext)?;
    let message = if args.base64 { format!("{}\n", BASE64_STANDARD.encode(message)).into_bytes() } else { message };
    match out {
        None => output::result(&message),
        Some(mut file) => {
            file.write(&message)?;
            file.keep().map(drop)
        }
    }
}
