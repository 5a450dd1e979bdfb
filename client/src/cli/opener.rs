//! What was encrypted to a key of ours: read as it comes, and opened by a key in the TPM or in this process.

use std::io::Read as _;
use std::path::Path;

use ekm_otp_attestation::cms::{Enveloped, SoftwareKey};
use ekm_otp_files::pem;
#[cfg(feature = "cloud")]
use ekm_otp_tpm::EphemeralRsaKey;
use ekm_otp_tpm::TpmKey;
use zeroize::Zeroizing;

use super::arguments::{KeyRef, UseKeyArgs};
use super::encoded;
use super::error::CliError;
use super::secret_file::read_private;
use super::shown::shown;

/// A private key in a file is not longer.
const MAX_KEY: usize = 64 * 1024;
/// How files of keys in a TPM begin.
const TSS2: &str = "-----BEGIN TSS2 PRIVATE KEY-----";

/// An RSA key that decrypts.
pub(crate) enum Opener {
    Software(SoftwareKey),
    Tpm(TpmKey),
    #[cfg(feature = "cloud")]
    Ephemeral(EphemeralRsaKey),
}

impl Opener {
    /// The key that `--inkey` names: in the TPM (a TSS2 file, or a handle), or a private key in a file (PEM, DER).
    pub(crate) async fn named(key: &KeyRef, use_key: &UseKeyArgs) -> Result<Self, CliError> {
        if let KeyRef::File(path) = key
            && !is_tss2(path)?
        {
            if is_public(path)? {
                return Err(CliError::Usage(format!(
                    "--inkey {}: it is a public key or a certificate, and opening a message takes the private key",
                    shown(path)
                )));
            }
            let path = path.clone();
            // Standard input or a FIFO may never end: a signal must still be heard.
            let file = tokio::task::spawn_blocking(move || read_private(&path, "a private key", MAX_KEY).map(|file| (file, path)));
            let (file, path) = file.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the key failed: {e}"))))?;
            let key = SoftwareKey::read(&file).map_err(|e| CliError::Usage(format!("--inkey {}: {e}", shown(&path))))?;
            return Ok(Self::Software(key));
        }
        let tpm = use_key.tpm.open_for_use()?;
        let source = use_key.source(key, &tpm).await?;
        Ok(Self::Tpm(tpm.load(source)))
    }

    /// The plaintext of a message (CMS EnvelopedData).
    pub(crate) async fn open(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let message = Enveloped::parse(message)?;
        let content_key = match self {
            Self::Software(key) => key.decrypt(message.encrypted_key())?,
            Self::Tpm(key) => key.rsa_decrypt(message.encrypted_key()).await?,
            #[cfg(feature = "cloud")]
            Self::Ephemeral(key) => key.decrypt(message.encrypted_key()).await?,
        };
        Ok(message.open(&content_key)?)
    }
}

/// Whether it is the file of a key in a TPM, which is no secret. Standard input is none.
pub(super) fn is_tss2(path: &Path) -> Result<bool, CliError> {
    Ok(has(&start_of(path)?, TSS2))
}

/// Whether it has a public key or a certificate (PEM), and no private key beside it.
fn is_public(path: &Path) -> Result<bool, CliError> {
    let start = start_of(path)?;
    Ok((has(&start, "PUBLIC KEY-----") || has(&start, "CERTIFICATE-----")) && !has(&start, "PRIVATE KEY-----"))
}

fn has(bytes: &[u8], mark: &str) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
}

/// What is in a file. Nothing of standard input, and of what else can be read once.
fn start_of(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut start = Zeroizing::new(Vec::with_capacity(MAX_KEY));
    if path != Path::new("-") {
        let file = std::fs::File::open(path).map_err(|e| CliError::io("open", path, &e))?;
        if file.metadata().is_ok_and(|found| found.is_file()) {
            file.take(MAX_KEY as u64).read_to_end(&mut start).map_err(|e| CliError::io("read", path, &e))?;
        }
    }
    Ok(start)
}

/// Reads what is no secret, without what others put around it: PEM, base64, hexadecimal digits. `-` is standard input.
pub(crate) async fn read(path: &Path, holds: &str, limit: usize) -> Result<Vec<u8>, CliError> {
    // As much longer as digits make it, with line ends.
    let bytes = encoded::read(path, 3 * limit + 1024).await?;
    let name = shown(path);
    let bytes = if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
        let blocks = pem::blocks(&bytes).map_err(|e| CliError::Usage(format!("{name}: {e}")))?;
        blocks.into_iter().next().map(|block| block.bytes.to_vec()).unwrap_or_default()
    } else {
        encoded::decoded(bytes)
    };
    if bytes.len() > limit {
        return Err(CliError::Usage(format!("{name} holds more than {limit} bytes, which is too much for {holds}")));
    }
    Ok(bytes)
}
