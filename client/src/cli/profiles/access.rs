//! Who else can write the configuration file. Whoever can sends the key's password to a TPM of their own (`tcti`), or has another CA trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::cli::error::CliError;
use crate::cli::output::note;
use crate::cli::secret_file::folder_of;
use crate::cli::shown::shown;

/// Mode bits (chmod(2)): written by everyone, by the group; and in such a folder, names can only be taken by their owners.
const EVERYONE: u32 = 0o002;
const GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// # Errors
/// Where another user than this one and root can write the file, or put another in its place.
pub(super) fn nobody_else_writes(file: &File, path: &Path) -> Result<(), CliError> {
    let metadata = file.metadata().map_err(|e| CliError::io("look at", path, &e))?;
    // /dev/null is what is named where there is to be no file.
    if metadata.file_type().is_char_device() {
        return Ok(());
    }
    let name = shown(path);
    let refused = |why: String, advice: String| {
        CliError::NotPermitted(format!("{name} is not read, since others can change it: {why}. If what stands in it is yours: {advice}"))
    };
    let me = rustix::process::geteuid().as_raw();
    if ![me, 0].contains(&metadata.uid()) {
        return Err(refused(format!("it belongs to the user {}", metadata.uid()), format!("chown {me} {name}")));
    }
    // On what is mounted for reading only, as Kubernetes does it, nobody writes whatever the modes say.
    if is_read_only(path) {
        return Ok(());
    }
    // With an access control list the group's bits are the list's mask: what they forbid nobody in it can.
    if metadata.mode() & (EVERYONE | GROUP) != 0 {
        return Err(refused(format!("its mode is {:04o}", metadata.mode() & 0o7777), format!("chmod og-w {name}")));
    }
    let there = std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?;
    let real = std::fs::canonicalize(path).map_err(|e| CliError::io("find", path, &e))?;
    // Each once.
    let mut all = BTreeMap::new();
    for (folder, is_own) in folders(&there).into_iter().chain(folders(&real)) {
        *all.entry(folder).or_insert(false) |= is_own;
    }
    for (folder, is_own) in all {
        let found = std::fs::metadata(&folder).map_err(|e| CliError::io("look at", &folder, &e))?;
        let (mode, shown) = (found.mode() & 0o7777, shown(&folder));
        if is_own && ![me, 0].contains(&found.uid()) {
            return Err(refused(format!("its folder {shown} belongs to the user {}", found.uid()), format!("chown {me} {shown}")));
        }
        if mode & EVERYONE != 0 && mode & STICKY == 0 && !is_read_only(&folder) {
            return Err(refused(
                format!("the mode of {shown} is {mode:04o}, so everyone can put another file there"),
                format!("chmod o-w {shown}"),
            ));
        }
        if mode & GROUP != 0 && mode & STICKY == 0 && found.gid() != 0 {
            note!(
                "ekm-otp-client: warning: whoever is in the group {} can replace {name}: the mode of {shown} is {mode:04o}. If others are in it: chmod g-w {shown}",
                found.gid()
            );
        }
    }
    Ok(())
}

/// The folder that it lies in, which is told of, and those above it.
fn folders(path: &Path) -> Vec<(PathBuf, bool)> {
    folder_of(path).ancestors().enumerate().map(|(at, folder)| (folder.to_owned(), at == 0)).collect()
}

/// "Unknown" is no.
fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}
