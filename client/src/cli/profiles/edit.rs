//! Changes to the configuration file: one profile is made or changed, comments and order stay, and nobody reads half of it.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ekm_otp::{Authority, KeyId};
use ekm_otp_files::settings::keys_of;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::access;
use super::file::{self, ConfigFile, is_name};
use super::settings::KeySettings;
use crate::cli::error::CliError;
use crate::cli::file_lock::lock;
use crate::cli::secret_file::{PrivateFile, folder_of};
use crate::cli::shown::{printable, shown};

/// The configuration file, locked against others who change it with this program, until written or dropped.
pub(crate) struct Editor {
    /// As it is named: relative paths in it are relative to that folder.
    named: PathBuf,
    /// Where it really is: a symbolic link stays one.
    path: PathBuf,
    /// As it was read; `None` where it is not there yet.
    before: Option<String>,
    document: DocumentMut,
    _lock: File,
}

impl Editor {
    /// Locks and reads it. One that is not there yet is empty; its folder is made, for this user alone.
    ///
    /// # Errors
    /// Where it cannot be read, others can write it, something in it is wrong, or another process holds it for too long.
    pub(crate) async fn open() -> Result<Self, CliError> {
        let named = file::path().ok_or_else(|| CliError::Usage("neither $HOME nor $EKM_OTP_CONFIG is set: where is the file?".into()))?;
        Self::open_at(&named).await
    }

    async fn open_at(named: &Path) -> Result<Self, CliError> {
        let named = &std::path::absolute(named).map_err(|e| CliError::io("find", named, &e))?;
        let path = match std::fs::canonicalize(named) {
            Ok(path) => path,
            Err(e) if std::fs::symlink_metadata(named).is_ok_and(|found| found.is_symlink()) => {
                return Err(CliError::io("follow the link", named, &e));
            }
            Err(_) => named.clone(),
        };
        let folder = folder_of(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| CliError::io("create", folder, &e))?;
        let lock = lock(&folder.join(".ekm-otp.lock")).await?;
        let before = match File::open(&path) {
            Ok(file) => {
                access::nobody_else_writes(&file, named)?;
                Some(read(&path)?)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(CliError::io("open", &path, &e)),
        };
        let text = before.as_deref().unwrap_or_default();
        ConfigFile::parse(&path, text)?;
        let document = text.parse().map_err(|e: toml_edit::TomlError| CliError::Usage(format!("{}: {}", shown(&path), e.message())))?;
        Ok(Self { named: named.clone(), path, before, document, _lock: lock })
    }

    /// What it says, as it was read; nothing, where it is not there yet.
    ///
    /// # Errors
    /// None but those of [`open`](Self::open).
    pub(crate) fn as_read(&self) -> Result<ConfigFile, CliError> {
        ConfigFile::parse(&self.path, self.before.as_deref().unwrap_or_default())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that relative paths in it are relative to: where the files of its keys belong.
    pub(crate) fn folder(&self) -> &Path {
        folder_of(&self.named)
    }

    /// Whether there is such a profile.
    pub(crate) fn has(&self, profile: &str) -> bool {
        self.document.get("profile").and_then(Item::as_table_like).is_some_and(|profiles| profiles.contains_key(profile))
    }

    /// Sets a key of a profile (`credential`, `mutual`, `tcti` …), which is made where it is not there.
    ///
    /// # Errors
    /// Where a profile cannot be called so.
    pub(crate) fn set(&mut self, profile: &str, key: &str, value: impl Into<Value>) -> Result<(), CliError> {
        let table = self.table(profile)?;
        put(table, key, value.into());
        Ok(())
    }

    /// Takes a key of a profile out, where it is there.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub(crate) fn unset(&mut self, profile: &str, key: &str) -> Result<(), CliError> {
        self.table(profile)?.remove(key);
        Ok(())
    }

    /// Sets the servers that it is for.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub(crate) fn set_origins(&mut self, profile: &str, origins: &[Authority]) -> Result<(), CliError> {
        let origins: Array = origins.iter().map(Authority::audience).collect();
        self.set(profile, "origins", origins)
    }

    /// Sets a key whose value is a file. One below the configuration's folder is named relative to that.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub(crate) fn set_path(&mut self, profile: &str, key: &str, path: &Path) -> Result<(), CliError> {
        let path = self.relative(path)?;
        self.set(profile, key, path)
    }

    /// Makes this the profile's only key. What went with the one before (its password's file, its policy) is taken out.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub(crate) fn set_key(&mut self, profile: &str, kid: &KeyId, key: &Path) -> Result<(), CliError> {
        let path = self.relative(key)?;
        let table = self.table(profile)?;
        table.remove("keys");
        for name in keys_of::<KeySettings>().iter().filter(|name| !["kid", "key"].contains(name)) {
            table.remove(name);
        }
        put(table, "kid", kid.as_str().into());
        put(table, "key", path.into());
        Ok(())
    }

    /// Puts this key before the profile's others, which are used where this one is refused.
    ///
    /// # Errors
    /// As of [`set`](Self::set), and where the profile's keys are written as tables of their own.
    pub(crate) fn prefer_key(&mut self, profile: &str, kid: &KeyId, key: &Path) -> Result<(), CliError> {
        let path = self.relative(key)?;
        let shown = shown(&self.path);
        let table = self.table(profile)?;
        let mut keys = match table.remove("keys").map(Item::into_value) {
            Some(Ok(Value::Array(keys))) => keys,
            Some(_) => return Err(CliError::Usage(format!("{shown}: the `keys` of the profile {profile} are no list: write them as one"))),
            None => Array::new(),
        };
        let mut single = InlineTable::new();
        for name in keys_of::<KeySettings>() {
            if let Some(Ok(value)) = table.remove(name).map(Item::into_value) {
                single.insert(*name, value);
            }
        }
        if !single.is_empty() {
            single.fmt();
            keys.insert(0, single);
        }
        let mut new = InlineTable::new();
        new.insert("kid", kid.as_str().into());
        new.insert("key", path.into());
        // As the list is written, in one line or in several.
        let prefix = keys.get(0).and_then(|first| first.decor().prefix()).and_then(|prefix| prefix.as_str()).unwrap_or_default();
        // Without the comment that may stand before the first.
        let prefix = prefix.rfind('\n').map_or("", |at| &prefix[at..]).to_owned();
        if let Some(first) = keys.get_mut(0).filter(|_| prefix.is_empty()) {
            first.decor_mut().set_prefix(" ");
        }
        keys.insert_formatted(0, Value::InlineTable(new).decorated(prefix, ""));
        put(table, "keys", Value::Array(keys));
        Ok(())
    }

    /// Writes it beside, and gives it its name when it is on the disk as a whole. What others may do with it stays as it was. Unlocks it.
    ///
    /// # Errors
    /// Where it cannot be written, somebody else has written meanwhile, or what would be written cannot be read again.
    pub(crate) fn write(self) -> Result<(), CliError> {
        let text = self.document.to_string();
        ConfigFile::parse(&self.path, &text)?;
        // Other programs know nothing of the lock, and a person may have been asked meanwhile.
        let now = if self.path.exists() { Some(read(&self.path)?) } else { None };
        if now != self.before {
            return Err(CliError::Unavailable(format!(
                "{} was changed by somebody else meanwhile: nothing was written, try again",
                shown(&self.path)
            )));
        }
        let mut new = PrivateFile::beside(&self.path)?;
        new.write(text.as_bytes())?;
        if self.before.is_some() {
            new.take_owner_and_mode(&self.path)?;
        }
        new.replace()
    }

    fn relative(&self, path: &Path) -> Result<String, CliError> {
        let path = std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?;
        let near = path.strip_prefix(self.folder()).unwrap_or(&path);
        near.to_str().map(str::to_owned).ok_or_else(|| CliError::Usage(format!("{}: a name in UTF-8 is wanted", shown(&path))))
    }

    fn table(&mut self, profile: &str) -> Result<&mut dyn TableLike, CliError> {
        if !is_name(profile) {
            return Err(CliError::Usage(format!("{}: a profile's name has letters, digits and -_.@+ only", printable(profile))));
        }
        let no_table = || CliError::Usage(format!("the profile {profile} is no table: write [profile.{profile}]"));
        let mut all = Table::new();
        all.set_implicit(true);
        let profiles = self.document.entry("profile").or_insert(Item::Table(all)).as_table_like_mut().ok_or_else(no_table)?;
        profiles.entry(profile).or_insert_with(toml_edit::table).as_table_like_mut().ok_or_else(no_table)
    }
}

/// In its place, with the comment behind it, where it is there already.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(before) => {
            *value.decor_mut() = before.decor().clone();
            *before = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A key that is written in several lines.
    const LINES: &str = "[profile.a]\norigins = \"https://a.test\"\nkeys = [\n  # first\n  { kid = \"one\", key = \"one.pem\" },\n]\n";
    const FILE: &str = "# mine\n\n[profile.b] # second letter\norigins = [\"https://b.test\"] # where\nkid = \"old\" # who\nkey = \"old.pem\"\npassword_file = \"old.txt\"\nmutual = \"prefer\"\n\n# the other\n[profile.a]\norigins = \"https://a.test\"\nkeys = [{ kid = \"one\", key = \"one.pem\" }]\n# end\n";

    fn kid(text: &str) -> KeyId {
        text.parse().expect("a key id")
    }

    async fn changed(file: &str, change: impl FnOnce(&mut Editor)) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, file).expect("writing");
        let mut editor = Editor::open_at(&path).await.expect("the file");
        change(&mut editor);
        editor.write().expect("writing");
        std::fs::read_to_string(&path).expect("the file")
    }

    #[tokio::test]
    async fn one_profile_changes_and_all_else_stays_byte_for_byte() {
        let replaced = changed(FILE, |it| {
            let key = it.folder().join("new.pem");
            it.set_key("b", &kid("new"), &key).expect("a key");
        });
        let expected =
            FILE.replace("\"old\"", "\"new\"").replace("\"old.pem\"", "\"new.pem\"").replace("password_file = \"old.txt\"\n", "");
        assert_eq!(replaced.await, expected);
        let preferred = changed(FILE, |it| it.prefer_key("a", &kid("two"), Path::new("/keys/two.pem")).expect("a key"));
        let expected = FILE.replace("[{ kid = \"one\"", "[{ kid = \"two\", key = \"/keys/two.pem\" }, { kid = \"one\"");
        assert_eq!(preferred.await, expected);
        let preferred = changed(LINES, |it| it.prefer_key("a", &kid("two"), Path::new("/two.pem")).expect("a key")).await;
        assert!(preferred.contains("\n  { kid = \"two\", key = \"/two.pem\" },\n  # first\n  { kid = \"one\""), "{preferred}");
        let single = changed(FILE, |it| it.prefer_key("b", &kid("two"), Path::new("/two.pem")).expect("a key")).await;
        let keys = "keys = [{ kid = \"two\", key = \"/two.pem\" }, { kid = \"old\", key = \"old.pem\", password_file = \"old.txt\" }]";
        assert!(single.contains(keys) && !single.contains("\nkid"), "{single}");
    }

    #[tokio::test]
    async fn a_new_profile_is_made_at_the_end() {
        let origin = Authority::parse("c.test:8443").expect("an origin");
        let made = changed(FILE, |it| {
            assert!(it.has("a") && !it.has("c"));
            it.set_origins("c", &[origin]).expect("origins");
            it.set_key("c", &kid("c"), Path::new("/c.pem")).expect("a key");
            assert!(it.set("c d", "kid", "x").is_err());
        });
        let made = made.await;
        let (before, new) = made.split_at(made.find("[profile.c]").expect("the new one"));
        assert_eq!(before.replace("# end\n", "").trim_end(), FILE.replace("# end\n", "").trim_end());
        assert!(new.starts_with("[profile.c]\norigins = [\"https://c.test:8443\"]\nkid = \"c\"\nkey = \"/c.pem\"\n"), "{new}");
    }

    #[tokio::test]
    async fn nothing_is_written_over_what_somebody_else_wrote_nor_what_cannot_be_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/config.toml");
        let mut editor = Editor::open_at(&path).await.expect("the file");
        editor.set("a", "mutual", "never").expect("a value");
        assert!(editor.write().is_err_and(|e| e.to_string().contains("mutual")));
        assert!(!path.exists());
        assert_eq!(folder.path().join("new").metadata().expect("a folder").permissions().mode() & 0o777, 0o700);
        let mut editor = Editor::open_at(&path).await.expect("the file");
        editor.set_origins("a", &[Authority::parse("a.test").expect("an origin")]).expect("origins");
        std::fs::write(&path, "# theirs\n").expect("writing");
        assert!(editor.write().is_err_and(|e| e.to_string().contains("somebody else")));
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "# theirs\n");
    }

    #[tokio::test]
    async fn a_second_writer_waits_and_a_link_and_a_mode_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (folder.path().join("real.toml"), folder.path().join("links/config.toml"));
        std::fs::create_dir(folder.path().join("links")).expect("a folder");
        std::fs::write(&real, FILE).expect("writing");
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o644)).expect("chmod");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        let mut first = Editor::open_at(&link).await.expect("the file");
        let second = Editor::open_at(&link);
        tokio::pin!(second);
        let soon = tokio::time::timeout(std::time::Duration::from_millis(100), &mut second).await;
        assert!(soon.is_err(), "two hold it");
        first.set("b", "mutual", "require").expect("a value");
        first.write().expect("writing");
        let mut second = second.await.expect("the file");
        second.set("a", "mutual", "prefer").expect("a value");
        second.write().expect("writing");
        let text = std::fs::read_to_string(&real).expect("the file");
        assert!(text.contains("mutual = \"require\"") && text.contains("mutual = \"prefer\""), "{text}");
        assert!(link.is_symlink());
        assert_eq!(Editor::open_at(&link).await.expect("the file").folder(), folder.path().join("links"));
        assert_eq!(real.metadata().expect("the file").permissions().mode() & 0o777, 0o644);
    }
}
