//! What the commands `aws`, `gcp` and `azure` have in common: which key, how the service is reached, what errors exit with.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use ekm_otp_client::cloud::{TpmMac, TpmSigner};
use ekm_otp_cloud::{
    Certificate, CertificateError, Certificates, CloudError, Http, HttpSettings, KeyError, LoopbackError, MacKey, SigningKey, SoftwareMac,
    SoftwareSigner, utc,
};
use ekm_otp_files::pem;
use ekm_otp_tpm::TpmError;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::error::CliError;
use super::moment::duration;
use super::output;
use super::secret_file::read_private;
use super::shown::shown;

/// A private key in a PEM file is not longer.
const MAX_PEM: usize = 64 * 1024;

/// The key in the TPM.
#[derive(Args, Debug)]
#[command(next_help_heading = "Key")]
pub(crate) struct CloudKeyArgs {
    /// The key: a file (TSS2 PEM), as `key import` or tpm2-tools write it, or a persistent handle, handle:0x81008001[=NAME|=FILE]
    #[arg(long, visible_aliases = ["keyfile", "credential-file", "private-key"], alias = "in", value_name = "KEY", value_parser = key_ref)]
    pub(super) key: Option<KeyRef>,
    /// Instead of --key, a file with the key itself, for machines without a TPM: a private key (PEM); for AWS the secret access key. - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub(super) software_key: Option<PathBuf>,
    #[command(flatten)]
    pub(super) use_key: UseKeyArgs,
}

impl CloudKeyArgs {
    /// A private key that signs.
    pub(super) async fn signing_key(&self) -> Result<Box<dyn SigningKey>, CliError> {
        match (&self.key, &self.software_key) {
            (Some(key), _) => {
                let tpm = self.use_key.tpm.open_for_use()?;
                let source = self.use_key.source(key, &tpm).await?;
                Ok(Box::new(TpmSigner::new(tpm.load(source)).await?))
            }
            (None, Some(path)) => {
                let file = read_blocking(path, "a private key", MAX_PEM).await?;
                Ok(Box::new(SoftwareSigner::from_pem(&file).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?))
            }
            (None, None) => Err(no_key()),
        }
    }

    /// A secret for HMAC-SHA256. What a file holds, without the line end, begins with `prefix` as the secret in the TPM does.
    pub(super) async fn mac_key(&self, prefix: &str) -> Result<Box<dyn MacKey>, CliError> {
        match (&self.key, &self.software_key) {
            (Some(key), _) => {
                let tpm = self.use_key.tpm.open_for_use()?;
                let source = self.use_key.source(key, &tpm).await?;
                Ok(Box::new(TpmMac(tpm.load(source))))
            }
            (None, Some(path)) => {
                let mut secret = read_blocking(path, "a secret", 1024).await?;
                while secret.last().is_some_and(|b| b"\r\n".contains(b)) {
                    secret.pop();
                }
                let secret = Zeroizing::new([prefix.as_bytes(), &secret].concat());
                Ok(Box::new(SoftwareMac::new(secret)))
            }
            (None, None) => Err(no_key()),
        }
    }
}

/// Standard input or a FIFO may never end: a signal must still be heard.
async fn read_blocking(path: &Path, holds: &'static str, limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_private(&path, holds, limit));
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the key failed: {e}"))))
}

fn no_key() -> CliError {
    CliError::Usage("no key: name one in the TPM with --key, or, on a machine without a TPM, a file with --software-key".into())
}

/// How the cloud's services are reached.
#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct HttpArgs {
    /// Trust the certificates in this file (PEM) instead of the system's
    #[arg(long, visible_alias = "cacert", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// How long it may take until there are credentials, all tries together: seconds, or 500ms, 30s, 1m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) timeout: Duration,
}

impl HttpArgs {
    pub(super) fn http(&self) -> Result<Http, CliError> {
        http(self.ca_file.as_deref(), self.timeout)
    }
}

/// How a token is shown.
#[derive(Args, Debug)]
pub(super) struct Format {
    /// The token alone, or JSON with its kind and end
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: FormatArg,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum FormatArg {
    #[default]
    Text,
    Json,
}

impl Format {
    /// `name` is what JSON calls it.
    pub(super) fn print(&self, name: &str, token: &str, expires: SystemTime) -> Result<(), CliError> {
        match self.format {
            FormatArg::Text => output::line(token),
            FormatArg::Json => {
                let expires = utc(expires);
                output::line(&serde_json::json!({ name: token, "token_type": "Bearer", "expires_at": expires }).to_string())
            }
        }
    }
}

/// Trusting the certificates in `ca`, or the system's.
pub(crate) fn http(ca: Option<&Path>, within: Duration) -> Result<Http, CliError> {
    let roots = match ca {
        None => Vec::new(),
        Some(path) => {
            let file = std::fs::read(path).map_err(|e| CliError::io("read", path, &e))?;
            pem::certificates(&file).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?
        }
    };
    Ok(Http::new(HttpSettings { roots, within })?)
}

/// Reads certificate and chain.
pub(crate) fn read_certificates(certificate: &Path, intermediates: Option<&Path>) -> Result<Certificates, CliError> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| CliError::io("read", path, &e));
    let wrong = |path: &Path, e: CertificateError| CliError::Usage(format!("{}: {e}", shown(path)));
    let certificates = Certificates::read(&read(certificate)?).map_err(|e| wrong(certificate, e))?;
    match intermediates {
        None => Ok(certificates),
        Some(path) => {
            let more = Certificate::read_all(&read(path)?).map_err(|e| wrong(path, e))?;
            certificates.with_intermediates(more).map_err(|e| wrong(path, e))
        }
    }
}

/// Our folder in memory of this user's, which ends with the session (XDG Base Directory Specification). `instead` is what can be done without it.
pub(super) fn runtime_folder(instead: &str) -> Result<PathBuf, CliError> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_absolute());
    let runtime = runtime.ok_or_else(|| {
        CliError::Usage(format!(
            "$XDG_RUNTIME_DIR is not set, where secrets are kept that end with the user's session: set it, or {instead}"
        ))
    })?;
    let folder = Path::new(&runtime).join("ekm-otp");
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(CliError::io("create", &folder, &e)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&folder).map_err(|e| CliError::io("look at", &folder, &e))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(CliError::NotPermitted(format!("{} is not this user's alone: $XDG_RUNTIME_DIR must be", shown(&folder))));
    }
    Ok(folder)
}

/// A file with a secret that another program of this user reads. Removed at the end.
pub(super) struct SharedFile(PathBuf);

impl SharedFile {
    /// Writes it, over what another run may have left: a token alone. What else is there is not overwritten, and not removed at the end.
    pub(super) fn create(path: &Path, secret: &[u8]) -> Result<Self, CliError> {
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(CliError::io("look at", path, &e)),
            Ok(found) if !found.is_file() || !is_token(path).map_err(|e| CliError::io("read", path, &e))? => {
                return Err(CliError::io("create", path, &ErrorKind::AlreadyExists.into()));
            }
            Ok(_) => {}
        }
        let file = Self(path.to_owned());
        file.replace(secret)?;
        Ok(file)
    }

    /// Beside it, and renamed: a reader sees the old or the new.
    pub(super) fn replace(&self, secret: &[u8]) -> Result<(), CliError> {
        let failed = |e: std::io::Error| CliError::io("write", &self.0, &e);
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Mode 0600.
        let mut file = NamedTempFile::with_prefix_in(".ekm-otp-", folder).map_err(|e| failed(e.kind().into()))?;
        file.write_all(secret).map_err(failed)?;
        file.persist(&self.0).map_err(|e| failed(e.error))?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a file holds nothing but one token, or nothing yet.
fn is_token(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(MAX_PEM as u64).read_to_end(&mut start)?;
    Ok(start.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)))
}

/// A time that services count in seconds.
pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.subsec_millis() == 0 { Ok(time) } else { Err("whole seconds".to_owned()) })
}

impl From<CloudError> for CliError {
    fn from(error: CloudError) -> Self {
        let text = error.to_string();
        match error {
            CloudError::Key(KeyError::Holder(error)) => match error.downcast::<TpmError>() {
                Ok(error) => (*error).into(),
                Err(other) => Self::Other(other.to_string()),
            },
            CloudError::Key(KeyError::Unverified) => Self::NotPermitted(text),
            CloudError::Usage(_) => Self::Usage(text),
            CloudError::Unreachable { .. } | CloudError::Deadline { .. } => Self::Unavailable(text),
            CloudError::Refused { .. } | CloudError::NotProven { .. } => Self::NotPermitted(text),
            _ => Self::Other(text),
        }
    }
}

impl From<LoopbackError> for CliError {
    fn from(error: LoopbackError) -> Self {
        match error {
            LoopbackError::NotLoopback(_) => Self::Usage(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
