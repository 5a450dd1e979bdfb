//! Where a primary's context is kept from one process to the next: one file for each TPM and template, in a folder of this user's that nobody
//! else can look into. It is worth nothing on another TPM or after this one's next reset. Whatever is wrong with folder or file, it is as if there were
//! none: the primary is made anew.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, open, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{Settings, Tcti};
use crate::object::saved::SavedPrimary;

/// The contexts of one TPM's primaries.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    tpm: String,
}

impl Kept {
    /// `None` where nothing is to be kept: not wanted, or the owner's password guards the making of primaries, which a kept one would pass by.
    pub(super) fn of(tcti: &Tcti, settings: &Settings) -> Option<Self> {
        let folder = settings.kept_primaries.clone().filter(|folder| folder.is_absolute() && settings.owner_password.is_none())?;
        let tpm = tcti.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Some(Self { folder, tpm })
    }

    pub(super) fn read(&self, template: &str) -> Option<SavedPrimary> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(self.folder(false).ok()?, self.name(template), flags, Mode::empty()).ok()?;
        must_be_ours(&file, FileType::RegularFile).ok()?;
        let mut bytes = Vec::new();
        // A TPMS_CONTEXT is at most 5206 bytes.
        File::from(file).take(8192).read_to_end(&mut bytes).ok()?;
        SavedPrimary::from_bytes(&bytes)
    }

    pub(super) fn write(&self, template: &str, primary: &SavedPrimary) {
        if let Err(error) = primary.to_bytes().ok_or(Errno::INVAL).and_then(|bytes| self.put(template, &bytes)) {
            tracing::debug!(%error, folder = %self.folder.display(), "a primary's context is not kept");
        }
    }

    pub(super) fn remove(&self, template: &str) {
        let _ = self.folder(false).and_then(|folder| unlinkat(folder, self.name(template), AtFlags::empty()));
    }

    /// The file gets its name when it is whole. It need not survive a crash of the machine, nor does the TPM's state.
    fn put(&self, template: &str, bytes: &[u8]) -> Result<(), Errno> {
        let (folder, name) = (self.folder(true)?, self.name(template));
        let new = format!(".{name}.{}", std::process::id());
        // Of a process that was killed, and had this number.
        let _ = unlinkat(&folder, &new, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, &new, flags, Mode::RUSR | Mode::WUSR)?;
        let written = File::from(file).write_all(bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
        written.and_then(|()| renameat(&folder, &new, &folder, &name)).inspect_err(|_| {
            let _ = unlinkat(&folder, &new, AtFlags::empty());
        })
    }

    fn name(&self, template: &str) -> String {
        format!("{}.{template}", self.tpm)
    }

    /// The folder, and the one above it, which others could exchange it in.
    fn folder(&self, is_made: bool) -> Result<OwnedFd, Errno> {
        let (above, name) = self.folder.parent().zip(self.folder.file_name()).ok_or(Errno::INVAL)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = open(above, flags, Mode::empty())?;
        must_be_ours(&above, FileType::Directory)?;
        if is_made {
            match mkdirat(&above, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        let folder = openat(above, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        must_be_ours(&folder, FileType::Directory).map(|()| folder)
    }
}

/// It is of this kind, belongs to this process's user, and its mode lets nobody else in.
fn must_be_ours(file: &OwnedFd, kind: FileType) -> Result<(), Errno> {
    let stat = fstat(file)?;
    let is_kind = FileType::from_raw_mode(stat.st_mode) == kind;
    let is_private = !Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO);
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if is_kind && is_private && is_ours { Ok(()) } else { Err(Errno::PERM) }
}
