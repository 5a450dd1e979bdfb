//! Policies in files (TSS policy language).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ekm_otp_tpm::PolicyPlan;

use super::error::CliError;
use super::shown::shown;

/// More than any policy takes; what is longer is refused, not cut off.
const MAX_LEN: u64 = 64 * 1024;

pub(super) fn read(path: &Path) -> Result<PolicyPlan, CliError> {
    let refused = |why: &str| CliError::Usage(format!("--policy {}: {why}", shown(path)));
    let file = File::open(path).map_err(|e| CliError::io("open", path, &e))?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|e| CliError::io("read", path, &e))?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(refused("it is longer than 65536 bytes, so it is no policy"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is no text (UTF-8)"))?;
    PolicyPlan::from_json(text).map_err(|e| refused(&e.to_string()))
}
