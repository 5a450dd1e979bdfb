//! The files that the AWS CLI and SDKs read profiles from (AWS SDKs and Tools Reference Guide, "Shared config and credentials files"). What is not changed stays as it
//! is, byte for byte.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::super::error::CliError;
use super::super::shown::{printable, shown};

/// How long another process may take.
const LOCKED_WITHIN: Duration = Duration::from_secs(30);

/// A file of profiles, locked against others who change it with this program, until dropped.
pub(super) struct ProfileFile {
    /// Where it really is: a symbolic link stays one.
    path: PathBuf,
    text: Zeroizing<String>,
    _lock: File,
}

/// A lock that nobody else can take: the file is this user's alone. Held until dropped.
async fn lock(path: &Path) -> Result<File, CliError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    let lock = lock.map_err(|e| CliError::io("open", path, &e))?;
    let end = Instant::now() + LOCKED_WITHIN;
    while let Err(e) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK {
            return Err(CliError::io("lock", path, &e.into()));
        }
        if Instant::now() > end {
            return Err(CliError::Unavailable(format!("another process changes the file, and has not ended within {LOCKED_WITHIN:?}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(lock)
}

/// What goes between brackets.
pub(super) fn must_be_name(name: &str) -> Result<(), CliError> {
    let is_one = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b));
    if is_one { Ok(()) } else { Err(CliError::Usage(format!("--profile {}: letters, digits and -_.@+", printable(name)))) }
}

impl ProfileFile {
    /// What the variable names, or `name` in ~/.aws.
    pub(super) fn path(variable: &str, name: &str) -> Result<PathBuf, CliError> {
        let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
        match (set(variable), set("HOME")) {
            (Some(path), _) => Ok(path.into()),
            (None, Some(home)) => Ok(Path::new(&home).join(".aws").join(name)),
            (None, None) => Err(CliError::Usage(format!("neither ${variable} nor $HOME is set: where is the file?"))),
        }
    }

    /// Reads it; one that is not there is empty. It is written with mode 0600.
    pub(super) async fn open(path: &Path) -> Result<Self, CliError> {
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let path = match std::fs::canonicalize(path) {
            Ok(path) => path,
            Err(e) if is_link => return Err(CliError::io("follow the link", path, &e)),
            Err(_) => path.to_owned(),
        };
        let folder = folder_of(&path);
        std::fs::create_dir_all(folder).map_err(|e| CliError::io("create", folder, &e))?;
        let lock = lock(&folder.join(".ekm-otp.lock")).await?;
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| CliError::Usage(format!("{} is no text in UTF-8", shown(&path))))?,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(CliError::io("read", &path, &e)),
        };
        Ok(Self { path, text: Zeroizing::new(text), _lock: lock })
    }

    /// The settings of a section, or nothing where it is not there.
    pub(super) fn settings(&self, section: &str) -> Vec<(String, String)> {
        let Some(range) = self.section(section) else { return Vec::new() };
        let lines = self.text[range].lines().skip(1).filter(|line| !line.starts_with([' ', '\t', '#', ';']));
        let settings = lines.filter_map(|line| line.split_once(['=', ':']));
        settings.map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
    }

    /// Sets these in a section, which is made at the end where it is not there. Its other settings stay.
    pub(super) fn set(&mut self, section: &str, settings: &[(&str, &str)]) {
        let Some(range) = self.section(section) else {
            let gap = match self.text.as_str() {
                "" => "",
                text if text.ends_with("\n\n") => "",
                text if text.ends_with('\n') => "\n",
                _ => "\n\n",
            };
            let lines: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            *self.text += &format!("{gap}[{section}]\n{lines}");
            return;
        };
        let mut lines: Vec<String> = self.text[range.clone()].split_inclusive('\n').map(str::to_owned).collect();
        for (key, value) in settings {
            let is_it = |line: &String| !line.starts_with([' ', '\t']) && line.split_once('=').is_some_and(|(name, _)| name.trim() == *key);
            let at = lines.iter().position(is_it);
            let end = lines.last().is_none_or(|line| line.ends_with('\n'));
            if at.is_none() && !end {
                lines.extend(["\n".to_owned()]);
            }
            let from = at.unwrap_or(lines.len());
            // With the lines that go on with its value.
            let goes_on = lines.iter().skip(from + 1).take_while(|line| line.starts_with([' ', '\t'])).count();
            let to = at.map_or(from, |at| at + 1 + goes_on);
            lines.splice(from..to, [format!("{key} = {value}\n")]);
        }
        self.text.replace_range(range, &lines.concat());
    }

    /// From its header to the last line that is neither empty nor a comment: those belong to what follows.
    fn section(&self, section: &str) -> Option<Range<usize>> {
        let (mut begun, mut end, mut at) = (None, 0, 0);
        for line in self.text.split_inclusive('\n') {
            if let Some(header) = line.trim_end().strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name) {
                if begun.is_some() {
                    break;
                }
                if words(header) == words(section) {
                    (begun, end) = (Some(at), at + line.len());
                }
            }
            at += line.len();
            if begun.is_some() && !line.trim().is_empty() && !line.starts_with(['#', ';']) {
                end = at;
            }
        }
        begun.map(|begun| begun..end)
    }

    /// The whole text, as it would be written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Writes it beside, and gives it its name when it is on the disk as a whole. Unlocks it.
    pub(super) fn write(self) -> Result<(), CliError> {
        let failed = |e: std::io::Error| CliError::io("write", &self.path, &e);
        let mut file = NamedTempFile::with_prefix_in(".ekm-otp-", folder_of(&self.path)).map_err(failed)?;
        file.write_all(self.text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&self.path).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

/// `profile "a b"` is `profile`, `a b`.
fn words(header: &str) -> (&str, &str) {
    let (first, rest) = header.trim().split_once(char::is_whitespace).unwrap_or((header.trim(), ""));
    (first, rest.trim().trim_matches(['"', '\'']))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "# mine\n[default]\nregion=eu-west-1\n\n# the other\n[ profile  \"a b\" ]\noutput = json\ns3 =\n  max_queue_size = 2\nregion = x\n\n; end";

    async fn changed(section: &str, settings: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config"), FILE).expect("writing");
        let mut file = ProfileFile::open(&folder.path().join("config")).await.expect("the file");
        file.set(section, settings);
        file.write().expect("writing");
        std::fs::read_to_string(folder.path().join("config")).expect("the file")
    }

    #[tokio::test]
    async fn a_section_is_made_at_the_end_and_all_else_stays() {
        let expected = format!("{FILE}\n\n[profile tpm]\ncredential_process = x\n");
        assert_eq!(changed("profile tpm", &[("credential_process", "x")]).await, expected);
    }

    #[tokio::test]
    async fn settings_are_replaced_with_the_lines_that_go_on_with_them() {
        let expected = FILE.replace("s3 =\n  max_queue_size = 2\n", "s3 = y\n").replace("region = x\n", "region = x\nnew = z\n");
        assert_eq!(changed("profile a b", &[("s3", "y"), ("new", "z")]).await, expected);
        assert_eq!(changed("default", &[("region", "us-east-1")]).await, FILE.replace("region=eu-west-1", "region = us-east-1"));
    }

    #[tokio::test]
    async fn a_link_stays_a_link_and_the_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, "").expect("writing");
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).expect("chmod");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).expect("a link");
        assert!(ProfileFile::open(&folder.path().join("dangling")).await.is_err());
        let mut file = ProfileFile::open(&link).await.expect("the file");
        file.set("default", &[("a", "b")]);
        file.write().expect("writing");
        assert!(std::fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(std::fs::metadata(&real).expect("the file").permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_to_string(&real).expect("the file"), "[default]\na = b\n");
    }
}
