//! The files that the AWS CLI and SDKs read profiles from (AWS SDKs and Tools Reference Guide, "Shared config and credentials files"). What is not changed stays as it
//! is, byte for byte.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::super::error::CliError;
use super::super::file_lock::lock;
use super::super::secret_file::folder_of;
use super::super::shown::{printable, shown};

/// A file of profiles, locked against others who change it with this program, until dropped.
pub(super) struct ProfileFile {
    /// Where it really is: a symbolic link stays one.
    path: PathBuf,
    /// As it was read.
    before: Zeroizing<String>,
    text: Zeroizing<String>,
    _lock: File,
}

/// What a section sets: names in lower case, and values, which may be secrets.
#[derive(Default)]
pub(super) struct Settings(Vec<(String, Zeroizing<String>)>);

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, where there is one. Of two the last, as the AWS CLI's parser has it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// What goes between brackets.
pub(super) fn must_be_name(name: &str) -> Result<(), CliError> {
    let is_one = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b));
    if is_one { Ok(()) } else { Err(CliError::Usage(format!("--profile {}: letters, digits and -_.@+", printable(name)))) }
}

/// A profile's section in ~/.aws/config. In ~/.aws/credentials it has the profile's name.
pub(super) fn config_section(profile: &str) -> String {
    if profile == "default" { profile.to_owned() } else { format!("profile {profile}") }
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
        let text = read(&path)?;
        Ok(Self { path, before: text.clone(), text, _lock: lock })
    }

    /// What a section sets, or nothing where it is not there.
    pub(super) fn keys(&self, section: &str) -> Vec<String> {
        keys(&self.text, section)
    }

    /// What a section of a file sets that is not to be changed.
    pub(super) fn keys_in(path: &Path, section: &str) -> Result<Vec<String>, CliError> {
        Ok(keys(&read(path)?, section))
    }

    /// What a section of a file sets, with its values. Of one that is not there nothing.
    pub(super) fn settings_in(path: &Path, section: &str) -> Result<Settings, CliError> {
        let text = read(path)?;
        let Some(range) = find(&text, section) else { return Ok(Settings::default()) };
        let setting = |line: &str| {
            let key = key_of(line)?;
            let (_, value) = line.split_once(['=', ':'])?;
            Some((key, Zeroizing::new(value.trim().to_owned())))
        };
        Ok(Settings(text[range].lines().skip(1).filter_map(setting).collect()))
    }

    /// Sets these in a section, which is made at the end where it is not there. Its other settings stay.
    pub(super) fn set(&mut self, section: &str, settings: &[(&str, &str)]) {
        let Some(range) = find(&self.text, section) else {
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
            let end = lines.last().is_none_or(|line| line.ends_with('\n'));
            let mut at = None;
            // A setting that is there twice is one that the AWS CLI does not read.
            while let Some(found) = lines.iter().position(|line| key_of(line).is_some_and(|name| name == *key)) {
                // With the lines that go on with its value.
                let goes_on = lines.iter().skip(found + 1).take_while(|line| line.starts_with([' ', '\t'])).count();
                lines.drain(found..=found + goes_on);
                at = at.or(Some(found));
            }
            if at.is_none() && !end {
                lines.push("\n".to_owned());
            }
            lines.insert(at.unwrap_or(lines.len()), format!("{key} = {value}\n"));
        }
        self.text.replace_range(range, &lines.concat());
    }

    /// Whether there is anything to write.
    pub(super) fn is_changed(&self) -> bool {
        *self.text != *self.before
    }

    /// Writes it beside, and gives it its name when it is on the disk as a whole. It stays its owner's, whoever writes. Unlocks it.
    pub(super) fn write(self) -> Result<(), CliError> {
        // Other programs know nothing of the lock, and a person may have been asked meanwhile.
        if *read(&self.path)? != *self.before {
            return Err(CliError::Unavailable(format!(
                "{} was changed by somebody else meanwhile: nothing was written, try again",
                shown(&self.path)
            )));
        }
        let failed = |e: std::io::Error| CliError::io("write", &self.path, &e);
        let mut file = NamedTempFile::with_prefix_in(".ekm-otp-", folder_of(&self.path)).map_err(failed)?;
        if let Ok(before) = std::fs::metadata(&self.path) {
            let made = file.as_file().metadata().map_err(failed)?;
            if (before.uid(), before.gid()) != (made.uid(), made.gid()) {
                fchown(file.as_file(), Some(before.uid()), Some(before.gid())).map_err(failed)?;
            }
        }
        file.write_all(self.text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&self.path).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

/// From its header to the last line that is neither empty nor a comment: those belong to what follows.
fn find(text: &str, section: &str) -> Option<Range<usize>> {
    let (mut begun, mut end, mut at) = (None, 0, 0);
    for line in text.split_inclusive('\n') {
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

/// The text; of a file that is not there an empty one.
fn read(path: &Path) -> Result<Zeroizing<String>, CliError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| CliError::Usage(format!("{} is no text in UTF-8", shown(path))))?;
            Ok(Zeroizing::new(text))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Zeroizing::default()),
        Err(e) => Err(CliError::io("read", path, &e)),
    }
}

fn keys(text: &str, section: &str) -> Vec<String> {
    let Some(range) = find(text, section) else { return Vec::new() };
    text[range].lines().skip(1).filter_map(key_of).collect()
}

/// What a line sets: upper and lower case are the same.
fn key_of(line: &str) -> Option<String> {
    let (key, _) = line.split_once(['=', ':']).filter(|_| !line.starts_with([' ', '\t', '#', ';']))?;
    Some(key.trim().to_ascii_lowercase())
}

/// `profile "a b"` is `profile`, `a b`.
fn words(header: &str) -> (&str, &str) {
    let (first, rest) = header.trim().split_once(char::is_whitespace).unwrap_or((header.trim(), ""));
    (first, rest.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "# mine\n[default]\nregion=eu-west-1\n\n# the other\n[ profile  \"a b\" ]\noutput = json\ns3 =\n  max_queue_size = 2\nregion = x\n\n; end";

    async fn changed(section: &str, settings: &[(&str, &str)]) -> String {
        changed_in(FILE, section, settings).await
    }

    async fn changed_in(file: &str, section: &str, settings: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config"), file).expect("writing");
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
    async fn a_setting_is_there_once_however_it_was_written() {
        let file = "[default]\nRegion : a\noutput = json\nREGION=b\n more\n";
        assert_eq!(changed_in(file, "default", &[("region", "c")]).await, "[default]\nregion = c\noutput = json\n");
    }

    #[tokio::test]
    async fn what_somebody_else_wrote_meanwhile_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        std::fs::write(&path, "").expect("writing");
        let mut file = ProfileFile::open(&path).await.expect("the file");
        file.set("default", &[("region", "c")]);
        std::fs::write(&path, "[other]\n").expect("writing");
        assert!(file.write().is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "[other]\n");
    }

    #[tokio::test]
    async fn a_file_stays_its_owners() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        std::fs::write(&path, "").expect("writing");
        // Only root can give a file away; for anybody else it is their own.
        let is_root = std::os::unix::fs::chown(&path, Some(1234), Some(1235)).is_ok();
        let mut file = ProfileFile::open(&path).await.expect("the file");
        file.set("default", &[("region", "c")]);
        file.write().expect("writing");
        let now = std::fs::metadata(&path).expect("the file");
        assert_eq!((now.uid(), now.gid()) == (1234, 1235), is_root);
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
