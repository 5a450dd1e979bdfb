//! Where systemd's services find credentials that others keep for them (systemd.exec(5), `LoadCredential=`, `ImportCredential=`).

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use super::super::error::CliError;
use super::new_file::NewFile;

/// Of the three folders that it looks into, the one that is gone after a restart.
const STORE: &str = "/run/credstore";

/// As systemd has them, and without what means something to its units (`%`, `:`, blanks, patterns).
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_one = (1..=255).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
    if is_one { Ok(text.to_owned()) } else { Err("a credential's name is letters, digits and -_.@, such as database.password".to_owned()) }
}

/// A new one, which takes the place of one with the same name.
pub(super) fn create(name: &str) -> Result<NewFile, CliError> {
    let store = Path::new(STORE);
    let is_new = match DirBuilder::new().mode(0o700).create(store) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(not_root()),
        Err(e) => return Err(CliError::io("create", store, &e)),
    };
    create_in(store, name).inspect_err(|_| {
        // Made a moment ago, here, for nothing. One that somebody has put something into stays.
        if is_new {
            let _ = std::fs::remove_dir(store);
        }
    })
}

fn create_in(store: &Path, name: &str) -> Result<NewFile, CliError> {
    let found = std::fs::symlink_metadata(store).map_err(|e| CliError::io("look at", store, &e))?;
    if !found.is_dir() || found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(CliError::NotPermitted(format!(
            "{STORE} is not a folder that only root can write to, as systemd makes it (0700, root)"
        )));
    }
    let file = NewFile::to_replace(&store.join(name)).map_err(|e| match e {
        CliError::NotPermitted(_) => not_root(),
        e => e,
    })?;
    if !file.is_in_memory()? {
        return Err(CliError::NotPermitted(format!(
            "{STORE} is not in memory (tmpfs), as /run is where systemd runs: the credential would be written to a disk"
        )));
    }
    Ok(file)
}

fn not_root() -> CliError {
    CliError::NotPermitted(format!("--systemd-credential: only root may write to {STORE}: run this as root, or in a unit of systemd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_s_name_leads_nowhere_else() {
        for good in ["a", "database.password", "user@1", "a_b-c.d"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "../a", "a:b", "a b", "%n", "*", "ä", &"a".repeat(256)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
