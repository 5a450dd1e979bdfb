//! `nitro attest`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use ekm_otp_attestation::nitro::Document;
use ekm_otp_tpm::{NitroRequest, TpmError, TpmHandle};
use openssl::pkey::PKey;

use crate::cli::arguments::TpmArgs;
use crate::cli::encoded::{self, HexOrFile, hex_or_file};
use crate::cli::error::CliError;
use crate::cli::secret_file::PrivateFile;
use crate::cli::shown::shown;

/// What AWS takes of each.
const MAX_LEN: usize = 1024;

#[derive(Args, Debug)]
pub(crate) struct AttestArgs {
    /// The public key that answers are to be encrypted to (PEM or DER; at most 1 KiB); - is standard input
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// What whoever reads the document is to know (at most 1 KiB); - is standard input
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// What whoever reads the document has chosen, so that no older one will do (at most 1 KiB): hexadecimal digits, or a file; - is standard input
    #[arg(long, value_name = "HEX|FILE", value_parser = hex_or_file)]
    nonce: Option<HexOrFile>,
    /// Write the document to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

pub(super) async fn attest(args: AttestArgs) -> Result<(), CliError> {
    let nonce_file = if let Some(HexOrFile::File(path)) = &args.nonce { Some(path) } else { None };
    let named = [args.public_key.as_ref(), args.user_data.as_ref(), nonce_file];
    if named.into_iter().flatten().filter(|path| *path == Path::new("-")).count() > 1 {
        return Err(CliError::Usage("standard input is one file: name another one for the others".into()));
    }
    if args.out.is_none() && std::io::stdout().is_terminal() {
        return Err(CliError::Usage("the document is no text: name a file with --out, or lead standard output somewhere else".into()));
    }
    let mut out = PrivateFile::create(args.out.as_deref().unwrap_or(Path::new("-")))?;
    let request = NitroRequest {
        public_key: match &args.public_key {
            Some(path) => Some(public_key(path).await?),
            None => None,
        },
        user_data: match &args.user_data {
            Some(path) => Some(encoded::read(path, MAX_LEN).await?),
            None => None,
        },
        nonce: match &args.nonce {
            Some(nonce) => Some(nonce.read(MAX_LEN).await?),
            None => None,
        },
    };
    let document = document(&args.tpm.open()?, request).await?;
    out.write(&document)?;
    out.keep().map(|_| ())
}

/// A document that carries what was asked for. Nothing on the way from the TPM is authenticated but the document itself: with another public key in it, a secret
/// would go to whoever put that there. Whose signature it bears, whoever reads it verifies.
pub(crate) async fn document(tpm: &TpmHandle, request: NitroRequest) -> Result<Vec<u8>, CliError> {
    let bytes = tpm.nitro_document(request.clone()).await?;
    let document = Document::decode(&bytes).map_err(|e| CliError::Other(format!("the NitroTPM's document cannot be read: {e}")))?;
    let is_carried = |asked: &Option<Vec<u8>>, carried: Option<&[u8]>| asked.as_deref() == carried;
    let carries_all = is_carried(&request.public_key, document.public_key())
        && is_carried(&request.user_data, document.user_data())
        && is_carried(&request.nonce, document.nonce());
    if carries_all { Ok(bytes) } else { Err(TpmError::Contradiction("the attestation document").into()) }
}

/// KMS wants DER, and PEM is longer. What is no PEM is taken as it is.
async fn public_key(path: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = encoded::read(path, 2 * MAX_LEN).await?;
    let der = PKey::public_key_from_pem(&bytes).and_then(|key| key.public_key_to_der()).unwrap_or(bytes);
    if der.len() > MAX_LEN {
        return Err(CliError::Usage(format!(
            "{} has more than {MAX_LEN} bytes, which an attestation document does not carry",
            shown(path)
        )));
    }
    Ok(der)
}
