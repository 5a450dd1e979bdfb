//! The configuration file: where it is, that nobody else can write it, and what stands in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use ekm_otp::Authority;
use ekm_otp_files::settings::{keys_of, nearest};

use super::access;
use super::settings::{ChannelSettings, KeySettings, Text, TpmSettings};
use super::table::{Faults, Table};
use crate::cli::error::CliError;
use crate::cli::secret_file::folder_of;
use crate::cli::shown::shown;

/// Names the file.
pub(crate) const CONFIG_VARIABLE: &str = "EKM_OTP_CONFIG";
/// More than any file of profiles takes; what is longer is refused, not cut off.
const MAX_LEN: u64 = 1024 * 1024;

/// The file as it was read.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    /// Where it is, or would be.
    pub(crate) path: PathBuf,
    /// In the order of their names.
    pub(super) profiles: Vec<FileProfile>,
}

/// One `[profile.NAME]`.
#[derive(Clone, Debug)]
pub(super) struct FileProfile {
    pub(super) name: String,
    /// Where it begins.
    pub(super) line: usize,
    pub(super) channel: ChannelSettings,
    pub(super) tpm: TpmSettings,
    /// In order of preference.
    pub(super) keys: Vec<FileKey>,
    /// The keys as they are written, with their lines.
    pub(super) written: BTreeMap<String, (usize, String)>,
}

/// A key, and the line that it begins in.
#[derive(Clone, Debug)]
pub(super) struct FileKey {
    pub(super) settings: KeySettings,
    pub(super) line: usize,
}

impl FileProfile {
    pub(super) fn has(&self, origin: &Authority) -> bool {
        self.channel.origins.iter().any(|Text(known)| known == origin)
    }

    pub(super) fn origins(&self) -> String {
        let origins: Vec<String> = self.channel.origins.iter().map(|Text(origin)| origin.audience()).collect();
        origins.join(" and ")
    }
}

/// Where the file is: `$EKM_OTP_CONFIG`, else below `$XDG_CONFIG_HOME` or `~/.config` (XDG Base Directory Specification).
pub(crate) fn path() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let below = || folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    named().or_else(|| below().map(|folder| folder.join("ekm-otp/config.toml")))
}

/// What the environment says.
fn named() -> Option<PathBuf> {
    std::env::var_os(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

impl ConfigFile {
    /// Reads it. One that is not there is empty, unless the environment names it.
    ///
    /// # Errors
    /// Where it cannot be read, others can write it, or something in it is wrong: all of that, with lines.
    pub(crate) fn read() -> Result<Self, CliError> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound && named().is_none() => {
                return Ok(Self { path, ..Self::default() });
            }
            Err(e) if named().is_some() => {
                return Err(match CliError::io("open", &path, &e) {
                    CliError::Unavailable(text) => {
                        CliError::Unavailable(format!("{text}. ${CONFIG_VARIABLE} names it: unset that, or make the file"))
                    }
                    other => other,
                });
            }
            Err(e) => return Err(CliError::io("open", &path, &e)),
        };
        access::nobody_else_writes(&file, &path)?;
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|e| CliError::io("read", &path, &e))?;
        if bytes.len() as u64 > MAX_LEN {
            return Err(CliError::Usage(format!("{} is longer than {MAX_LEN} bytes: is it a configuration file?", shown(&path))));
        }
        let text = String::from_utf8(bytes).map_err(|_| CliError::Usage(format!("{} is no text (UTF-8)", shown(&path))))?;
        Self::parse(&path, &text)
    }

    /// What stands in this text.
    ///
    /// # Errors
    /// All that is wrong, with lines.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, CliError> {
        let mut faults = Faults::default();
        let mut root = Table::parse(text.strip_prefix('\u{feff}').unwrap_or(text), path)?;
        let mut profiles = Vec::new();
        for (name, table) in root.take_tables("profile", &mut faults) {
            if !is_name(&name) {
                faults.add(table.line, "a profile's name has letters, digits and -_.@+ only");
            }
            profiles.push(profile(name, table, &mut faults));
        }
        let elsewhere = |key: &str| {
            let belongs = keys_of::<KeySettings>().iter().chain(keys_of::<TpmSettings>()).chain(keys_of::<ChannelSettings>());
            let is_profiles = belongs.copied().any(|known| known == key);
            is_profiles.then(|| format!("`{key}` belongs to a profile: put it below a line [profile.NAME]"))
        };
        root.left_over(elsewhere, &mut faults);
        faults.into_result(path)?;
        profiles.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { path: path.to_owned(), profiles })
    }

    /// What relative paths in it are relative to.
    pub(super) fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// The names of its profiles.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.profiles.iter().map(|profile| profile.name.as_str()).collect()
    }

    /// The servers of a profile.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub(crate) fn origins(&self, name: &str) -> Result<Vec<Authority>, CliError> {
        let profile = self.named(name, "--profile-name")?;
        Ok(profile.channel.origins.iter().map(|Text(origin)| origin.clone()).collect())
    }

    /// # Errors
    /// Where there is none of this name.
    pub(super) fn named(&self, name: &str, from: &str) -> Result<&FileProfile, CliError> {
        let path = shown(&self.path);
        self.profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
            let advice = match (nearest(name, self.names()), self.names().as_slice()) {
                (Some(meant), _) => format!("{meant} is meant?"),
                (None, []) => "there is none at all: `ekm-otp-client enroll BUNDLE` makes one, or write it".to_owned(),
                (None, names) => format!("there are {}", names.join(", ")),
            };
            let name = crate::cli::shown::printable(name);
            CliError::Usage(format!("{from}: {path} has no profile {name}: {advice}"))
        })
    }
}

/// Whether a profile may be called so: what means nothing to a shell or to TOML.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b))
}

fn profile(name: String, mut table: Table<'_>, faults: &mut Faults) -> FileProfile {
    let (line, written) = (table.line, table.written());
    let channel: ChannelSettings = table.take(faults);
    if channel.origins.is_empty() && !written.contains_key("origins") {
        faults.add(line, format!("the profile {name} has no `origins`: its key id is sent to no server but those, such as origins = [\"https://api.example.com\"]"));
    }
    let tpm: TpmSettings = table.take(faults);
    let entries = table.take_list("keys", faults);
    let own = |key: &&&str| written.contains_key(**key);
    let single = keys_of::<KeySettings>().iter().find(own).copied();
    let mut keys = Vec::new();
    if let (Some(key), false) = (single, entries.is_empty()) {
        let line = written.get(key).map_or(line, |(line, _)| *line);
        faults.add(line, format!("{key}: there are several `keys`: put it into one of them"));
    }
    let settings: KeySettings = table.take(faults);
    if entries.is_empty() {
        keys.push(one_key(settings, line, faults));
    }
    for mut entry in entries {
        let line = entry.line;
        let settings: KeySettings = entry.take(faults);
        if settings.kid.is_none() || settings.key.is_none() && settings.secret_file.is_none() {
            faults.add(line, "keys: each has a `kid`, and a `key` or `secret_file`");
        }
        keys.push(one_key(settings, line, faults));
        entry.left_over(elsewhere, faults);
    }
    table.left_over(elsewhere, faults);
    FileProfile { name, line, channel, tpm, keys, written }
}

fn one_key(settings: KeySettings, line: usize, faults: &mut Faults) -> FileKey {
    for (one, other, both) in [
        ("key", "secret_file", settings.key.is_some() && settings.secret_file.is_some()),
        ("pcrs", "policy", settings.pcrs.is_some() && settings.policy.is_some()),
    ] {
        if both {
            faults.add(line, format!("either `{one}` or `{other}`, not both"));
        }
    }
    if settings.secret_format.is_some() && settings.secret_file.is_none() {
        faults.add(line, "secret_format: it goes with `secret_file`");
    }
    FileKey { settings, line }
}

/// What people look for in a profile, and is not there for a reason.
fn elsewhere(key: &str) -> Option<String> {
    match key {
        "secret" | "password" | "passphrase" | "owner_password" | "parent_password" => {
            let file = if key == "secret" { "secret_file" } else { "password_file" };
            Some(format!(
                "`{key}`: no secret stands in this file: write it into a file of its own (mode 0600), and name that with `{file}`"
            ))
        }
        "url" | "origin" | "server" => Some(format!("unknown key `{key}`: the servers are named by `origins` = [\"https://HOST\"]")),
        "profile" => Some("unknown key `profile`: the wire (v1 or go) is named by `wire`".to_owned()),
        _ => None,
    }
}
