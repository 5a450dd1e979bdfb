//! Where a Unix socket may be: in a folder where nobody else can put another in its place, which would then hear what programs tell this one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::error::CliError;
use super::super::shown::shown;

/// Looks at the socket's folder and those above it: each belongs to root or this user, and nobody else can write it. Above the socket's own, one with
/// the sticky bit (/tmp) will do: what is in there is only its owner's to rename.
///
/// # Errors
/// Which folder is somebody else's, and what to do.
pub(super) fn must_be_ours(socket: &Path) -> Result<(), CliError> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where links lead, and nothing above that is left out.
    let folder = fs::canonicalize(folder).map_err(|e| CliError::io("find", folder, &e))?;
    let own = rustix::process::getuid().as_raw();
    for (depth, at) in folder.ancestors().enumerate() {
        let found = fs::metadata(at).map_err(|e| CliError::io("look at", at, &e))?;
        let is_sticky = found.mode() & 0o1000 != 0;
        let why = if found.uid() != 0 && found.uid() != own {
            "belongs to another user"
        } else if found.mode() & 0o022 != 0 && (depth == 0 || !is_sticky) && !is_private_group(&found, own) {
            "can be written by others"
        } else {
            continue;
        };
        return Err(CliError::NotPermitted(format!(
            "{}: its folder {} {why}, who could put a socket of their own in its place: use a folder of your own, such as \
             $XDG_RUNTIME_DIR or /run/NAME (RuntimeDirectory=), or --unsafe-listen",
            shown(socket),
            shown(at)
        )));
    }
    Ok(())
}

/// Written by a group that is this user's own on systems with one for each user: never true for what the world may write.
fn is_private_group(found: &fs::Metadata, own: u32) -> bool {
    found.mode() & 0o002 == 0 && found.uid() == own && found.gid() == rustix::process::getgid().as_raw() && found.gid() == own && own != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_write_is_no_place_for_a_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        let socket = inner.join("a.sock");
        must_be_ours(&socket).expect("ours");
        for mode in [0o777, 0o1777] {
            set(&inner, mode);
            assert!(must_be_ours(&socket).is_err(), "{mode:o}");
        }
        set(&inner, 0o700);
        set(folder.path(), 0o777);
        assert!(must_be_ours(&socket).is_err(), "the folder above can be exchanged");
        set(folder.path(), 0o1777);
        must_be_ours(&socket).expect("only its owner renames what is in a sticky folder");
    }
}
