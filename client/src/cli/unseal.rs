//! `unseal`: what was sealed, to where it is wanted and nowhere else.

use clap::Args;
use ekm_otp_tpm::TpmKey;

use super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::error::CliError;
use super::pieces::{Decryption, EnvelopeKey};
use super::plaintext::{Ending, PlaintextArgs};
use super::progress;
use super::sealed_file::{self, Envelope};

#[derive(Args, Debug)]
pub(crate) struct UnsealArgs {
    /// What is sealed: a file (TSS2 PEM), as `seal` writes it, or handle:0x81…
    #[arg(long, visible_alias = "key-file", value_name = "FILE", value_parser = key_ref)]
    key: KeyRef,
    #[command(flatten)]
    output: PlaintextArgs,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

pub(crate) async fn run(args: UnsealArgs) -> Result<Ending, CliError> {
    let mut outlet = args.output.open()?;
    let (sealed, envelope) = open(&args.key, &args.use_key).await?;
    let data = sealed.unseal().await?;
    // From here on no TPM is wanted.
    drop(sealed);
    let Some((key, envelope)) = key_of(&data, envelope)? else { return outlet.whole(data).await };
    drop(data);
    let wrong = |e: std::io::Error| CliError::Other(format!("what is sealed cannot be opened: {e}"));
    let mut decryption = Decryption::new(&key, envelope).map_err(wrong)?;
    let bar = progress::bytes(None);
    loop {
        // The file may lie on a slow disk or be a pipe: a signal must still be heard.
        let (piece, rest) =
            tokio::task::spawn_blocking(move || (decryption.next(), decryption)).await.map_err(|e| CliError::Other(e.to_string()))?;
        decryption = rest;
        let Some(piece) = piece.map_err(wrong)? else { break };
        bar.inc(piece.len() as u64);
        outlet.write(piece).await?;
    }
    bar.finish_and_clear();
    outlet.finish().await
}

/// What is sealed, with all that it takes to open it.
pub(super) async fn open(key: &KeyRef, use_key: &UseKeyArgs) -> Result<(TpmKey, Option<Envelope>), CliError> {
    let tpm = use_key.tpm.open_for_use()?;
    match key {
        KeyRef::Handle(..) => Ok((tpm.load(use_key.source(key, &tpm).await?), None)),
        KeyRef::File(path) => {
            let (file, envelope) = sealed_file::read_patiently(path).await?;
            if !file.is_sealed() {
                return Err(CliError::Usage(format!("{}: it holds a key, which never leaves the TPM, and no sealed data", path.display())));
            }
            Ok((tpm.load(use_key.file_source(file, path, &tpm).await?), envelope))
        }
    }
}

/// The key of an envelope, and the envelope; `None` where the data is the secret itself.
pub(super) fn key_of(data: &[u8], envelope: Option<Envelope>) -> Result<Option<(EnvelopeKey, Envelope)>, CliError> {
    match (EnvelopeKey::from_sealed(data), envelope) {
        (Some(key), Some(envelope)) => Ok(Some((key, envelope))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(CliError::Other("the sealed key is there, and what is encrypted with it is not: the file was cut off".into()))
        }
        (None, Some(_)) => {
            Err(CliError::Other("what is encrypted in this file is not encrypted with what is sealed in it: two files were mixed".into()))
        }
    }
}
