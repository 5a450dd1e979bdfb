//! Gives up writing to files but where the configuration has it write (Landlock, landlock(7)): its logs' folders, those of its sockets and of its
//! database. Reading stays as it is, so that a reload finds renewed files wherever links lead. Best effort: an old kernel confines less, or nothing,
//! and the log says so.

use std::path::{Path, PathBuf};

use landlock::{ABI, AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules};

use crate::config::Config;

/// The newest of which this program knows what it means.
const KNOWN: ABI = ABI::V5;

/// Holds for this thread and those that it starts from now on: call it before there are others. What was done, for the log.
pub(crate) fn confine(config: &Config) -> String {
    let folders: Vec<PathBuf> = config.written().iter().map(|file| folder_of(file)).collect();
    match restrict(&folders) {
        Ok(RulesetStatus::FullyEnforced) => "enforced".into(),
        Ok(RulesetStatus::PartiallyEnforced) => "enforced as far as this kernel can".into(),
        Ok(RulesetStatus::NotEnforced) => "not enforced: this kernel has no Landlock".into(),
        Err(error) => format!("not enforced: {error}"),
    }
}

fn restrict(folders: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let writing = AccessFs::from_write(KNOWN);
    // A folder that is not there is passed over: who needs it tells so.
    let devices = path_beneath_rules(["/dev/null", "/dev/tty", "/dev/pts"], AccessFs::WriteFile | AccessFs::IoctlDev);
    Ruleset::default()
        .handle_access(writing)?
        .create()?
        .add_rules(path_beneath_rules(folders, writing))?
        .add_rules(devices)?
        .restrict_self()
        .map(|status| status.ruleset)
}

/// The folder, not the file: logs and sockets are made anew.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
