//! `cms decrypt`

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::super::error::CliError;
use super::super::opener::{self, Opener};
use super::super::plaintext::{Ending, PlaintextArgs};

/// A message is held in memory as a whole, and its plaintext is.
const MAX_MESSAGE: usize = 1024 * 1024;

#[derive(Args, Debug)]
pub(crate) struct DecryptArgs {
    /// The private key that it is for: in the TPM (a file, TSS2 PEM, or handle:0x81008001), or in a file (PEM or DER); - is standard input
    #[arg(long, visible_alias = "key", value_name = "KEY", value_parser = key_ref)]
    inkey: KeyRef,
    /// The message: binary, base64 or PEM; - is standard input
    #[arg(long = "in", value_name = "FILE", default_value = "-")]
    message: PathBuf,
    #[command(flatten)]
    output: PlaintextArgs,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

pub(super) async fn run(args: DecryptArgs) -> Result<Ending, CliError> {
    if matches!(&args.inkey, KeyRef::File(path) if path == Path::new("-")) && args.message == Path::new("-") {
        return Err(CliError::Usage("--inkey -: standard input has the message, unless --in names a file".into()));
    }
    let outlet = args.output.open()?;
    let key = Opener::named(&args.inkey, &args.use_key).await?;
    let message = opener::read(&args.message, "a message", MAX_MESSAGE).await?;
    outlet.whole(key.open(&message).await?).await
}
