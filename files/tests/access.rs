//! Real files with real access control lists.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use ekm_otp_files::{Exposed, must_be_private};
use rustix::fs::{XattrFlags, setxattr};

/// POSIX_ACL_XATTR_VERSION, then entries: owner, one user, the group, the mask, others.
fn list(user: u32) -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat();
    let nobody = u32::MAX;
    let entries = [entry(1, 4, nobody), entry(2, 4, user), entry(4, 0, nobody), entry(16, 4, nobody), entry(32, 0, nobody)];
    [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
}

#[test]
fn a_list_that_lets_the_own_user_in_is_private_and_one_for_another_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("credential");
    fs::write(&path, "test data").expect("writing");
    let me = rustix::process::geteuid().as_raw();
    for (user, judged) in [(me, Ok(())), (54321, Err(Exposed::AclUser(54321)))] {
        setxattr(&path, "system.posix_acl_access", &list(user), XattrFlags::empty()).expect("a list");
        let file = File::open(&path).expect("opening");
        assert_eq!(file.metadata().expect("its mode").permissions().mode() & 0o777, 0o440, "as systemd's credentials have it");
        assert_eq!(must_be_private(&file).expect("an answer"), judged);
    }
}

#[test]
fn the_mode_counts_where_there_is_no_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    fs::write(&path, "test data").expect("writing");
    for (mode, judged) in [(0o600, Ok(())), (0o400, Ok(())), (0o440, Ok(())), (0o604, Err(Exposed::Everyone(0o604)))] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(must_be_private(&File::open(&path).expect("opening")).expect("an answer"), judged, "{mode:04o}");
    }
}
