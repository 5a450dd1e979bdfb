//! Where key and profile go. Files get their names at the very end; none is overwritten.

use std::path::{Path, PathBuf};

use ekm_otp::KeyId;
use ekm_otp_tpm::KeyFile;

use super::args::EnrollArgs;
use super::offered::Offered;
use crate::cli::error::CliError;
use crate::cli::key_file::pem;
use crate::cli::output::note;
use crate::cli::profiles::Editor;
use crate::cli::secret_file::PrivateFile;
use crate::cli::shown::shown;

/// The files to be, and the profile.
pub(super) struct Place {
    profile: String,
    /// The key's file, and the CA's where the bundle has one.
    key: PathBuf,
    ca: Option<PathBuf>,
    files: Vec<PrivateFile>,
    /// What got its name.
    kept: Vec<PathBuf>,
    is_new: bool,
}

impl Place {
    /// Finds free names, and refuses what would overwrite something.
    pub(super) fn find(editor: &Editor, args: &EnrollArgs, offered: &Offered) -> Result<Self, CliError> {
        let file = editor.as_read()?;
        let is_for = |name: &&&str| file.origins(name).is_ok_and(|origins| origins.iter().any(|origin| offered.origins.contains(origin)));
        let names = file.names();
        let holders: Vec<&&str> = names.iter().filter(is_for).collect();
        let profile = match (&args.profile, holders.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [one]) => (**one).to_owned(),
            (None, []) => file_name(&offered.origin()?.host()),
            (None, several) => {
                let several: Vec<&str> = several.iter().map(|name| **name).collect();
                return Err(CliError::Usage(format!(
                    "the profiles {} are for the bundle's server: say with --profile which one it is to be",
                    several.join(" and ")
                )));
            }
        };
        let is_new = !editor.has(&profile);
        if !is_new && !args.replace {
            return Err(CliError::Usage(format!(
                "the profile {profile} is there already ({}): --replace gives it the bundle's key in the place of its own, --profile NAME makes another",
                shown(editor.path())
            )));
        }
        let key = match &args.key_out {
            Some(path) => path.clone(),
            None => free(editor.folder(), &file_name(offered.kid.as_str()), "pem")?,
        };
        let ca = offered.ca.is_some().then(|| free(editor.folder(), &format!("{profile}-ca"), "pem")).transpose()?;
        let mut files = vec![PrivateFile::create(&key)?];
        if let Some(ca) = &ca {
            files.push(PrivateFile::create(ca)?);
        }
        Ok(Self { profile, key, ca, files, kept: Vec::new(), is_new })
    }

    /// Writes the files, on the disk but without their names.
    pub(super) fn write(&mut self, key: &KeyFile, offered: &Offered) -> Result<(), CliError> {
        let ca = offered.ca.as_deref().unwrap_or_default();
        for (file, text) in self.files.iter_mut().zip([pem(key)?.as_str(), ca]) {
            file.write(text.as_bytes())?;
        }
        Ok(())
    }

    /// Gives them their names, and makes the profile, which is still to be written.
    pub(super) fn keep(&mut self, editor: &mut Editor, args: &EnrollArgs, offered: &Offered) -> Result<(), CliError> {
        let named = [Some(&self.key), self.ca.as_ref()].into_iter().flatten().cloned();
        for (file, path) in std::mem::take(&mut self.files).into_iter().zip(named) {
            if let Err(e) = file.keep() {
                self.take_back();
                return Err(e);
            }
            self.kept.push(path);
        }
        self.set(editor, args, offered).inspect_err(|_| self.take_back())
    }

    fn set(&self, editor: &mut Editor, args: &EnrollArgs, offered: &Offered) -> Result<(), CliError> {
        let name = &self.profile;
        editor.set_origins(name, &offered.origins)?;
        editor.set_key(name, &offered.kid, &self.key)?;
        match offered.credential.as_str() {
            "otp" => editor.unset(name, "credential")?,
            kind => editor.set(name, "credential", kind)?,
        }
        match &self.ca {
            Some(ca) => editor.set_path(name, "ca", ca)?,
            None => editor.unset(name, "ca")?,
        }
        let guard = &args.guard;
        if let Some(path) = guard.password_file.as_deref().filter(|path| *path != Path::new("-")) {
            editor.set_path(name, "password_file", path)?;
        }
        if let Some((_, template)) = guard.parent.to_be_named().as_deref().and_then(|flag| flag.split_once(' ')) {
            editor.set(name, "parent_template", template)?;
        }
        if let Some(tcti) = &guard.tpm.tcti {
            editor.set(name, "tcti", tcti.as_str())?;
        }
        Ok(())
    }

    /// What was made here a moment ago.
    pub(super) fn take_back(&self) {
        for path in &self.kept {
            let _ = std::fs::remove_file(path);
        }
    }

    pub(super) fn tell(&self, offered: &Offered) {
        let (profile, key) = (&self.profile, shown(&self.key));
        let url = offered.origins.first().map(ekm_otp::Authority::audience).unwrap_or_default();
        note!("enrolled as {} ({}): the key is in this TPM ({key}), the profile is {profile}", offered.kid, offered.client);
        if !self.is_new {
            note!(
                "the profile's key before is used no more: delete its file, and have the server revoke its key id where somebody else may have it"
            );
        }
        note!("delete the bundle, and try: ekm-otp-client get {url}/");
    }
}

/// As a file and a profile may be called.
fn file_name(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.@+".contains(c) { c } else { '-' })
        .collect::<String>()
        .trim_start_matches('.')
        .to_owned()
}

/// The first of NAME.pem, NAME-2.pem … that is not there.
fn free(folder: &Path, name: &str, extension: &str) -> Result<PathBuf, CliError> {
    let numbered = |number: u32| if number == 1 { format!("{name}.{extension}") } else { format!("{name}-{number}.{extension}") };
    let found = (1..1000).map(|number| folder.join(numbered(number))).find(|path| path.symlink_metadata().is_err());
    found.ok_or_else(|| CliError::Usage(format!("{} holds a thousand files of that name: give another with --key-out", shown(folder))))
}

/// The file that a key's successor goes to, beside it: `NAME-2.pem` of `NAME.pem`, `NAME-3.pem` of `NAME-2.pem`.
pub(in crate::cli) fn next_to(key: &Path, kid: &KeyId) -> PathBuf {
    let stem = key.file_stem().and_then(|stem| stem.to_str()).unwrap_or(kid.as_str());
    let counted = stem.rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse::<u32>().ok()?)));
    let (stem, number) = counted.unwrap_or((stem, 1));
    key.with_file_name(format!("{}-{}.pem", file_name(stem), number.saturating_add(1)))
}
