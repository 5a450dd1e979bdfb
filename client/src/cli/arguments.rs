//! Flags that several commands share: which TPM, which key, and what it takes to use it.

#[cfg(feature = "cloud")]
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ekm_otp_tpm::{KeyFile, KeySource, Parent, Password, Policy, PolicyPlan, Settings, Tcti, TpmHandle};

use super::error::CliError;
pub(super) use super::handle::persistent_handle;
use super::output::note;
#[cfg(feature = "cloud")]
use super::parent::template_name;
pub(super) use super::parent::{ParentKeyArgs, parent_template, under};
use super::password::{self, Asked};
use super::policy::{self, FulfilArgs};
use super::sealed_file;
use super::secret_file;
#[cfg(feature = "cloud")]
use super::shown::hex;
use super::shown::shown;

/// Which TPM, and what it takes to use it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TPM")]
pub(crate) struct TpmArgs {
    /// How to reach the TPM: device:/dev/tpmrm0, swtpm:host=HOST,port=PORT or tabrmd: [default: $TPM2TOOLS_TCTI, $TCTI, device:/dev/tpmrm0]
    #[arg(long, value_name = "TCTI")]
    pub(super) tcti: Option<String>,
    /// File with the owner hierarchy's password, where one is set; - is standard input [or: $TPM_OWNER_AUTH]
    #[arg(long, value_name = "FILE")]
    pub(super) owner_password_file: Option<PathBuf>,
    /// File with the password of a persistent parent; - is standard input [or: $TPM_PARENT_AUTH]
    #[arg(long, value_name = "FILE")]
    pub(super) parent_password_file: Option<PathBuf>,
    /// Salt sessions with the TPM's endorsement key, and only if that has this name, as `key ek-name` prints it (the RSA one's is taken, too):
    /// then nobody on the bus can pretend to be the TPM
    #[arg(long, aliases = ["tpm-session-encrypt-with-name"], value_name = "HEX", value_parser = name)]
    pub(super) session_key_name: Option<Name>,
    #[command(flatten)]
    pub(super) fulfil: FulfilArgs,
    /// The password of a persistent parent, where a command has a flag of its own for it.
    #[arg(skip)]
    pub(super) parent_password: Option<Password>,
    /// The owner hierarchy's, likewise.
    #[arg(skip)]
    pub(super) owner_password: Option<Password>,
    /// How long an answer may take, likewise.
    #[arg(skip)]
    pub(super) deadline: Option<Duration>,
}

/// The name of a key in the TPM, from hexadecimal digits.
#[derive(Clone, Debug)]
pub(super) struct Name(Vec<u8>);

pub(super) fn name(text: &str) -> Result<Name, String> {
    secret_file::unhex(text)
        .filter(|bytes| bytes.len() == 34 && bytes.starts_with(&[0, 0x0b]))
        .map(Name)
        .ok_or_else(|| "a name is 000b and 64 more hexadecimal digits".to_owned())
}

impl TpmArgs {
    pub(crate) fn tcti(&self) -> Result<Tcti, CliError> {
        let environment = || {
            let set = |name| variable(name).map(|value| (name, value));
            ["TPM2TOOLS_TCTI", "TCTI"].into_iter().find_map(set)
        };
        let (from, text) = match &self.tcti {
            Some(text) => ("--tcti", text.clone()),
            None => environment().unwrap_or_else(|| ("--tcti", Tcti::DEFAULT.to_owned())),
        };
        text.parse().map_err(|e| CliError::Usage(format!("{from} {text}: {e}")))
    }

    /// Leaves nothing behind, nor takes what another process did.
    pub(crate) fn open(&self) -> Result<TpmHandle, CliError> {
        self.warned()?.open_with(None)
    }

    /// To use a key, as is done again and again: what the TPM needs for that is kept in memory of this user's, which ends with the session (XDG Base
    /// Directory Specification).
    pub(crate) fn open_for_use(&self) -> Result<TpmHandle, CliError> {
        self.warned()?.open_with(std::env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("ekm-otp")))
    }

    fn warned(&self) -> Result<&Self, CliError> {
        if let Some(managed) = self.tcti()?.managed() {
            note!("ekm-otp-client: warning: this device has no resource manager, and takes one program at a time: use --tcti {managed}");
        }
        Ok(self)
    }

    /// Without a warning: `doctor` has its own.
    pub(super) fn open_with(&self, kept_primaries: Option<PathBuf>) -> Result<TpmHandle, CliError> {
        let owner = Asked { flag: "--owner-password-file", variable: "TPM_OWNER_AUTH", prompt: "Password of the owner hierarchy" };
        let parent = Asked { flag: "--parent-password-file", variable: "TPM_PARENT_AUTH", prompt: "Password of the parent key" };
        let known_or_given = |known: &Option<Password>, asked, file: &Option<PathBuf>| match known {
            Some(password) => Ok(Some(password.clone())),
            None => password::given(asked, file.as_deref()),
        };
        let mut settings = Settings {
            owner_password: known_or_given(&self.owner_password, owner, &self.owner_password_file)?,
            parent_password: known_or_given(&self.parent_password, parent, &self.parent_password_file)?,
            session_key_name: self.session_key_name.clone().map(|name| name.0),
            kept_primaries,
            ..Settings::default()
        };
        self.fulfil.add_to(&mut settings)?;
        let tpm = TpmHandle::open_with(self.tcti()?, settings)?;
        Ok(match self.deadline {
            Some(deadline) => tpm.with_deadline(deadline),
            None => tpm,
        })
    }
}

/// Which key of it, and what it takes to use that.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Key")]
pub(crate) struct UseKeyArgs {
    /// File with the key's password; - is standard input [or: $TPM_KEY_AUTH, $SSH_ASKPASS, a prompt]
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Registers that the key is bound to, such as sha256:0,7, where its file does not say so (tpm2-tools write no policy; a persistent key
    /// has no file). They must be now as they were when the key was made
    #[arg(long, alias = "pcr", value_name = "BANK:LIST")]
    pub(super) pcrs: Option<PolicyPlan>,
    /// File with the policy that the key is bound to (JSON, TSS policy language), where its file does not say so
    #[arg(long, value_name = "FILE", conflicts_with = "pcrs")]
    pub(super) policy: Option<PathBuf>,
    /// The primary that the key lies under, where its file does not say so: the one that tpm2_createprimary makes (rsa, ecc), or the endorsement key (ek-rsa, ek-ecc)
    #[arg(long, value_name = "TEMPLATE", value_parser = parent_template())]
    pub(super) parent_template: Option<Parent>,
    #[command(flatten)]
    pub(crate) tpm: TpmArgs,
    /// The key's password, where a command has a flag of its own for it.
    #[arg(skip)]
    pub(super) password: Option<Password>,
}

/// `--key`: a file, `handle:0x81…`, `handle:0x81…=NAME`, or `handle:0x81…=FILE`.
#[derive(Clone, Debug)]
pub(crate) enum KeyRef {
    File(PathBuf),
    /// With what is known of the key there.
    Handle(u32, Known),
}

/// What is known of the key at a handle, that its user need not be asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Another key than this is refused.
    name: Option<Vec<u8>>,
    /// What its file states.
    pub(super) policy: Policy,
}

impl Known {
    /// The key at the handle, with nothing that it takes to use it.
    pub(super) fn at(&self, handle: u32) -> KeySource {
        self.with_policy(handle, Policy::default())
    }

    pub(super) fn with_policy(&self, handle: u32, policy: Policy) -> KeySource {
        KeySource::handle(handle, policy).with_name(self.name.clone())
    }
}

pub(crate) fn key_ref(text: &str) -> Result<KeyRef, String> {
    match text.strip_prefix("handle:") {
        Some(handle) => {
            let (handle, pinned) = handle.split_once('=').map_or((handle, None), |(handle, pinned)| (handle, Some(pinned)));
            Ok(KeyRef::Handle(persistent_handle(handle)?, pinned.map_or_else(|| Ok(Known::default()), known)?))
        }
        None if text.starts_with("0x81") || text.starts_with("0X81") => {
            Err(format!("a key at a persistent handle is written handle:{text}"))
        }
        None => Ok(KeyRef::File(text.into())),
    }
}

/// A name, or the file of the key that was made persistent: it is the same key, with the same name and policy.
fn known(pinned: &str) -> Result<Known, String> {
    match name(pinned) {
        Ok(name) => Ok(Known { name: Some(name.0), policy: Policy::default() }),
        Err(why) if pinned.bytes().all(|b| b.is_ascii_hexdigit()) => Err(why),
        Err(_) => {
            let file = read_key_file(Path::new(pinned)).map_err(|e| e.to_string())?;
            Ok(Known { name: Some(file.describe().name), policy: file.policy().clone() })
        }
    }
}

pub(crate) fn read_key_file(path: &Path) -> Result<KeyFile, CliError> {
    match sealed_file::read(path)? {
        (file, None) => Ok(file),
        (_, Some(_)) => Err(CliError::Usage(format!(
            "{}: what is sealed in it is the key of the data that is encrypted behind it, and would be parted from it: `unseal`, `reseal`, `policy show` and \
             `key inspect` take such a file",
            path.display()
        ))),
    }
}

/// What the environment says, where it says anything.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(feature = "cloud")]
impl UseKeyArgs {
    pub(super) fn has_password_file(&self) -> bool {
        self.password_file.is_some()
    }

    /// The flags that say the same again, for a program that is started without a person: names, and values that stand alone.
    pub(super) fn again(&self) -> Result<Vec<(&'static str, OsString)>, CliError> {
        if self.password.is_some() || self.tpm.parent_password.is_some() {
            return Err(CliError::Usage("a password goes into no other program's arguments: put it into a file (--password-file)".into()));
        }
        let file = |path: &PathBuf| match path.to_str() {
            Some("-") => Err(CliError::Usage("standard input is this program's: name a file".into())),
            _ => std::path::absolute(path).map(PathBuf::into_os_string).map_err(|e| CliError::io("find", path, &e)),
        };
        let files = [
            ("--password-file", &self.password_file),
            ("--policy", &self.policy),
            ("--owner-password-file", &self.tpm.owner_password_file),
            ("--parent-password-file", &self.tpm.parent_password_file),
        ];
        let files = files.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        let mut words: Vec<_> = files.map(|(flag, path)| Ok((flag, file(path)?))).collect::<Result<_, CliError>>()?;
        let texts = [
            ("--pcrs", self.pcrs.as_ref().map(ToString::to_string)),
            ("--parent-template", self.parent_template.and_then(template_name).map(str::to_owned)),
            ("--tcti", self.tpm.tcti.clone()),
            ("--session-key-name", self.tpm.session_key_name.as_ref().map(|name| hex(&name.0))),
        ];
        words.extend(texts.into_iter().filter_map(|(flag, text)| Some((flag, text?.into()))));
        Ok(words)
    }
}

#[cfg(feature = "cloud")]
impl KeyRef {
    /// As [`UseKeyArgs::again`] does for `--key`.
    pub(super) fn again(&self) -> Result<OsString, CliError> {
        match self {
            Self::File(path) => std::path::absolute(path).map(PathBuf::into_os_string).map_err(|e| CliError::io("find", path, &e)),
            Self::Handle(handle, Known { name, policy }) if policy.is_empty() => {
                Ok(format!("handle:0x{handle:08x}{}", name.as_ref().map(|name| format!("={}", hex(name))).unwrap_or_default()).into())
            }
            Self::Handle(..) => Err(CliError::Usage("--key: the key has a policy, which its file states: name that file alone".into())),
        }
    }
}

impl UseKeyArgs {
    pub(crate) const PASSWORD: Asked<'static> = Asked { flag: "--password-file", variable: "TPM_KEY_AUTH", prompt: "Password of the key" };

    /// What `--pcrs` or `--policy` states, where the key's file does not.
    fn stated(&self, of_file: &Policy, file: &str) -> Result<Option<PolicyPlan>, CliError> {
        match self.plan()? {
            Some(_) if !of_file.is_empty() => {
                Err(CliError::Usage(format!("{}: {file} states its policy itself: {of_file}", self.plan_flag())))
            }
            plan => Ok(plan),
        }
    }

    /// What `--pcrs` or `--policy` states.
    pub(super) fn plan(&self) -> Result<Option<PolicyPlan>, CliError> {
        match (&self.pcrs, &self.policy) {
            (Some(pcrs), _) => Ok(Some(pcrs.clone())),
            (None, Some(path)) => policy::read(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Which of the two is given.
    pub(super) fn plan_flag(&self) -> &'static str {
        if self.pcrs.is_some() { "--pcrs" } else { "--policy" }
    }

    /// The key with all that it takes to use it. A password that was not given is asked for where it may have one.
    pub(crate) async fn source(&self, key: &KeyRef, tpm: &TpmHandle) -> Result<KeySource, CliError> {
        let (source, may_need_password) = match key {
            KeyRef::Handle(handle, known) => {
                let policy = match self.stated(&known.policy, &format!("the file of 0x{handle:08x}"))? {
                    None => known.policy.clone(),
                    Some(plan) => {
                        let description = tpm.load(known.at(*handle)).prepare().await?;
                        tpm.policy_for(plan, description.auth_policy.as_deref().unwrap_or_default()).await?
                    }
                };
                let may_need_password = policy.needs_password() || policy.is_empty();
                (known.with_policy(*handle, policy), may_need_password)
            }
            KeyRef::File(path) => return self.file_source(read_key_file(path)?, path, tpm).await,
        };
        self.with_password(source, may_need_password, tpm).await
    }

    /// The key of a file with all that it takes to use it, likewise.
    pub(super) async fn file_source(&self, file: KeyFile, path: &Path, tpm: &TpmHandle) -> Result<KeySource, CliError> {
        let file = under(file, self.parent_template, path)?;
        let file = match self.stated(file.policy(), &shown(path))? {
            None => file,
            Some(plan) => {
                let asked = file.describe().auth_policy.unwrap_or_default();
                file.with_policy(tpm.policy_for(plan, &asked).await?)
            }
        };
        let may_need_password = file.may_need_password();
        self.with_password(KeySource::from(file), may_need_password, tpm).await
    }

    async fn with_password(&self, source: KeySource, may_need_password: bool, tpm: &TpmHandle) -> Result<KeySource, CliError> {
        let given = match &self.password {
            Some(password) => Some(password.clone()),
            None => password::given(Self::PASSWORD, self.password_file.as_deref())?,
        };
        let has_choice = source.policy().needs_password() && source.policy().may_do_without_password();
        match given {
            // Another branch may be open, and where none is and nobody can be asked, what keeps them shut is told.
            None if has_choice => match !password::can_ask() || tpm.load(source.clone()).opens_without_password().await? {
                true => Ok(source),
                false => Ok(source.with_password(password::optional(Self::PASSWORD).await?)),
            },
            None if may_need_password => Self::ask(source, tpm).await,
            given => Ok(source.with_password(given)),
        }
    }

    /// Nothing tells whether it has a password: tries without, then asks. A try that would count as a wrong password, of a key that is protected
    /// against guessing, is made if it is the only one that the TPM remembers, or nobody is there to ask.
    async fn ask(source: KeySource, tpm: &TpmHandle) -> Result<KeySource, CliError> {
        if source.policy().is_empty() {
            let failures = if password::can_ask() { 0 } else { u32::MAX };
            if tpm.load(source.clone()).works_without_password(failures).await? == Some(true) {
                return Ok(source);
            }
        }
        Ok(source.with_password(password::optional(Self::PASSWORD).await?))
    }
}
