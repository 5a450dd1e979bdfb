//! Who can really read a file. The mode alone does not tell: with an access control list (POSIX.1e draft 17), its group bits are the list's
//! mask. So systemd's credentials (0440, and an entry for the service's user) and Kubernetes' secrets (root's, readable for the pod's group)
//! are private, and a file of mode 0640 may not be.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;

/// Somebody else can read or change a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Exposed {
    /// It belongs to another user than this process's and root.
    #[error("it belongs to the user {0}, who can read and change it")]
    Owner(u32),
    /// The mode lets everyone in.
    #[error("everyone can (mode {0:04o})")]
    Everyone(u32),
    /// The mode lets a group in that this process is not in.
    #[error("the group {gid} can (mode {mode:04o}), and this process is not in it")]
    Group {
        /// The group.
        gid: u32,
        /// The file's permission bits.
        mode: u32,
    },
    /// The access control list lets another user in.
    #[error("the user {0} can, by its access control list")]
    AclUser(u32),
    /// The access control list lets a group in that this process is not in.
    #[error("the group {0} can, by its access control list, and this process is not in it")]
    AclGroup(u32),
}

impl Exposed {
    /// What to do about it. `file` is its name.
    #[must_use]
    pub fn advice(&self, file: &str) -> String {
        match self {
            Self::Owner(_) => format!("chown it to the user that runs this, and chmod 600 {file}"),
            Self::Everyone(_) | Self::Group { .. } => format!("chmod 600 {file}"),
            Self::AclUser(_) | Self::AclGroup(_) => format!("setfacl --remove-all {file}, and chmod 600 {file}"),
        }
    }
}

/// Whether nobody but root, this process's user and its groups can read or change an open file.
///
/// # Errors
/// When the operating system does not tell.
pub fn must_be_private(file: &File) -> io::Result<Result<(), Exposed>> {
    let metadata = file.metadata()?;
    let me = Process { uid: rustix::process::geteuid().as_raw(), groups: groups()? };
    let mut list = vec![0; 64 * 1024];
    let entries = match rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list) {
        Ok(len) => Some(entries(&list[..len]).ok_or_else(|| io::Error::other("its access control list is not understood"))?),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(me.judge(metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, entries.as_deref()))
}

fn groups() -> io::Result<Vec<u32>> {
    let supplementary = rustix::process::getgroups()?;
    Ok(supplementary.into_iter().chain([rustix::process::getegid()]).map(rustix::process::Gid::as_raw).collect())
}

/// ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK (Linux, include/uapi/linux/posix_acl.h); owner and others stand in the mode, too.
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
/// To read or to write.
const ACCESS: u16 = 0o6;

/// One entry: tag, permissions, id.
type Entry = (u16, u16, u32);

/// The attribute's value (posix_acl_xattr.h): version 2, then entries of 8 bytes, all little-endian.
fn entries(value: &[u8]) -> Option<Vec<Entry>> {
    let (version, rest) = value.split_first_chunk::<4>()?;
    let (entries, remainder) = rest.as_chunks::<8>();
    let entry =
        |e: &[u8; 8]| (u16::from_le_bytes([e[0], e[1]]), u16::from_le_bytes([e[2], e[3]]), u32::from_le_bytes([e[4], e[5], e[6], e[7]]));
    (u32::from_le_bytes(*version) == 2 && remainder.is_empty()).then(|| entries.iter().map(entry).collect())
}

struct Process {
    uid: u32,
    groups: Vec<u32>,
}

impl Process {
    fn judge(&self, owner: u32, group: u32, mode: u32, list: Option<&[Entry]>) -> Result<(), Exposed> {
        if owner != self.uid && owner != 0 {
            return Err(Exposed::Owner(owner));
        }
        if mode & u32::from(ACCESS) != 0 {
            return Err(Exposed::Everyone(mode));
        }
        let Some(list) = list else {
            let is_open = mode & (u32::from(ACCESS) << 3) != 0;
            return if is_open && !self.groups.contains(&group) { Err(Exposed::Group { gid: group, mode }) } else { Ok(()) };
        };
        let mask = list.iter().find(|(tag, ..)| *tag == MASK).map_or(0o7, |(_, permissions, _)| *permissions);
        for (tag, _, id) in list.iter().filter(|(_, permissions, _)| permissions & mask & ACCESS != 0) {
            match *tag {
                USER if *id != self.uid && *id != 0 => return Err(Exposed::AclUser(*id)),
                GROUP if !self.groups.contains(id) => return Err(Exposed::AclGroup(*id)),
                GROUP_OBJ if !self.groups.contains(&group) => return Err(Exposed::AclGroup(group)),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: u32 = 999;

    fn judge(owner: u32, group: u32, mode: u32, list: Option<&[Entry]>) -> Result<(), Exposed> {
        Process { uid: SERVICE, groups: vec![SERVICE, 2000] }.judge(owner, group, mode, list)
    }

    #[test]
    fn a_systemd_credential_and_a_kubernetes_secret_are_private() {
        let credential = [(0x01, 4, u32::MAX), (USER, 4, SERVICE), (GROUP_OBJ, 0, u32::MAX), (MASK, 4, u32::MAX), (0x20, 0, u32::MAX)];
        assert_eq!(judge(0, 0, 0o440, Some(&credential)), Ok(()));
        assert_eq!(judge(0, 2000, 0o440, None), Ok(()), "fsGroup is one of the process's groups");
        assert_eq!(judge(SERVICE, SERVICE, 0o600, None), Ok(()));
        assert_eq!(judge(0, 0, 0o400, None), Ok(()));
    }

    #[test]
    fn whoever_else_can_read_or_change_it_is_named() {
        assert_eq!(judge(1000, SERVICE, 0o600, None), Err(Exposed::Owner(1000)));
        assert_eq!(judge(SERVICE, SERVICE, 0o604, None), Err(Exposed::Everyone(0o604)));
        assert_eq!(judge(SERVICE, SERVICE, 0o602, None), Err(Exposed::Everyone(0o602)));
        assert_eq!(judge(SERVICE, 100, 0o640, None), Err(Exposed::Group { gid: 100, mode: 0o640 }));
        assert_eq!(judge(SERVICE, 100, 0o620, None), Err(Exposed::Group { gid: 100, mode: 0o620 }));
        let list = |entry: Entry, mask| [entry, (MASK, mask, u32::MAX)];
        assert_eq!(judge(SERVICE, SERVICE, 0o640, Some(&list((USER, 4, 1000), 4))), Err(Exposed::AclUser(1000)));
        assert_eq!(judge(SERVICE, SERVICE, 0o640, Some(&list((GROUP, 4, 100), 4))), Err(Exposed::AclGroup(100)));
        assert_eq!(judge(SERVICE, 100, 0o640, Some(&list((GROUP_OBJ, 4, u32::MAX), 4))), Err(Exposed::AclGroup(100)));
        // The mask takes it away again.
        assert_eq!(judge(SERVICE, SERVICE, 0o600, Some(&list((USER, 4, 1000), 0))), Ok(()));
    }

    #[test]
    fn a_list_of_another_version_or_length_is_not_understood() {
        let value = [2, 0, 0, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0];
        assert_eq!(entries(&value), Some(vec![(USER, 4, 1000)]));
        assert_eq!(entries(&value[..11]), None);
        assert_eq!(entries(&[1, 0, 0, 0]), None);
    }
}
