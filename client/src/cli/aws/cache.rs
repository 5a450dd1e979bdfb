//! Session credentials that several commands share: in memory of this user's ($XDG_RUNTIME_DIR, XDG Base Directory Specification), made by one at a time.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use ekm_otp_cloud::Expires as _;
use ekm_otp_cloud::aws::SessionCredentials;
use ekm_otp_files::must_be_private;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::super::cloud::runtime_folder;
use super::super::error::CliError;
use super::super::output::note;

/// SDKs want new credentials from here on.
const MARGIN: Duration = Duration::from_secs(600);

/// The credentials of one key, role and set of parameters.
pub(super) struct Cache {
    folder: PathBuf,
    file: PathBuf,
    lock: PathBuf,
}

impl Cache {
    /// `key` says what the credentials are made from.
    pub(super) fn open(key: &[String]) -> Result<Self, CliError> {
        let folder = runtime_folder("leave out --cache")?;
        let mut name = Sha256::new();
        for part in key {
            name.update((part.len() as u64).to_be_bytes());
            name.update(part);
        }
        let name: String = name.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file: folder.join(format!("aws-{name}.json")), lock: folder.join(format!("aws-{name}.lock")), folder })
    }

    /// What is kept, or what `make` makes, which is kept then. Where that fails, what is kept goes on as long as it is good.
    pub(super) async fn get(
        &self,
        within: Duration,
        make: impl Future<Output = Result<SessionCredentials, CliError>>,
    ) -> Result<SessionCredentials, CliError> {
        if let Some(kept) = self.read().filter(|kept| is_good_for(MARGIN, kept)) {
            return Ok(kept);
        }
        let _lock = match self.lock(within).await {
            Ok(lock) => Some(lock),
            // What is kept goes on as long as it is good; and what cannot be kept can still be made.
            Err(why) => match self.read().filter(|kept| is_good_for(Duration::ZERO, kept)) {
                Some(kept) => {
                    note!("ekm-otp-client: warning: {why}. The credentials that are kept go on until {}", kept.expiration_text());
                    return Ok(kept);
                }
                None if matches!(why, CliError::Unavailable(_)) => return Err(why),
                None => {
                    note!("ekm-otp-client: warning: the credentials are not kept: {why}");
                    None
                }
            },
        };
        // Another process may have made them meanwhile.
        let kept = self.read();
        if let Some(kept) = kept.as_ref().filter(|kept| is_good_for(MARGIN, kept)) {
            return Ok(kept.clone());
        }
        match make.await {
            Ok(new) => {
                if let Err(why) = self.write(&new) {
                    note!("ekm-otp-client: warning: the credentials are not kept: {why}");
                }
                Ok(new)
            }
            Err(error) => match kept.filter(|kept| is_good_for(Duration::ZERO, kept)) {
                Some(kept) => {
                    note!("ekm-otp-client: warning: {error}. The credentials that are kept go on until {}", kept.expiration_text());
                    Ok(kept)
                }
                None => Err(error),
            },
        }
    }

    /// Nothing, where nothing is kept that this user alone wrote and can read.
    fn read(&self) -> Option<SessionCredentials> {
        let file = OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(&self.file).ok()?;
        must_be_private(&file).ok()?.ok()?;
        let text = Zeroizing::new(std::io::read_to_string(file).ok()?);
        serde_json::from_str(&text).ok()
    }

    fn write(&self, credentials: &SessionCredentials) -> std::io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in(".aws-", &self.folder)?;
        file.write_all(credentials.to_process_json().as_bytes())?;
        file.persist(&self.file)?;
        Ok(())
    }

    /// Held until dropped. A file of its own: the other is replaced.
    async fn lock(&self, within: Duration) -> Result<File, CliError> {
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(no_link).open(&self.lock);
        let lock = lock.map_err(|e| CliError::io("open", &self.lock, &e))?;
        let end = Instant::now() + within;
        while let Err(e) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(CliError::io("lock", &self.lock, &e.into()));
            }
            if Instant::now() > end {
                return Err(CliError::Unavailable(format!("another process makes the credentials, and has not done so within {within:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(lock)
    }
}

fn is_good_for(margin: Duration, credentials: &SessionCredentials) -> bool {
    credentials.expires() > SystemTime::now() + margin
}
