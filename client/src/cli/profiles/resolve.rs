//! From flags, environment and the configuration file to what one server is connected to with. Flags win over EKM_OTP_* variables, those over
//! the file, key by key; but what belongs to a key (its password's file, its policy) is only used with that key.

use std::path::{Path, PathBuf};

use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Profile, TlsPolicy};
use ekm_otp_tpm::{BusEncryption, Parent, PolicyPlan};

use super::choose::{choose, name_given};
use super::environment::{Environment, name_of};
use super::file::{ConfigFile, FileProfile};
use super::settings::{ChannelSettings, KeySettings, PolicySecret, Text, TpmSettings};
use crate::cli::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref};
use crate::cli::credential::{ConnectArgs, CredentialArgs, MutualArg};
use crate::cli::error::CliError;
use crate::cli::secret_file::SecretFormat;
use crate::cli::shown::shown;

/// What one server is connected to with: complete, and checked but for what only the TPM can tell.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The profile that it comes from, in part at least.
    pub(crate) profile: Option<String>,
    /// The server's name and port: what requests name, and the key id is for.
    pub(crate) origin: Authority,
    /// Where it is dialled.
    pub(crate) dialled: Authority,
    /// In order of preference; at least one, which may be empty where nothing names a key.
    pub(crate) keys: Vec<KeyChoice>,
    /// `None`: the connection's one-time password.
    pub(crate) credential: Option<CredentialKind>,
    /// `None`: require, but in the profile go.
    pub(crate) mutual: Option<MutualArg>,
    /// The wire to speak.
    pub(crate) wire: Profile,
    /// What TLS has to be like.
    pub(crate) tls: TlsPolicy,
    /// Whose certificates are trusted; `None`: the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Whether the MAC's input and result are encrypted on their way to the TPM.
    pub(crate) bus: BusEncryption,
    /// The configuration file, for what is said of it.
    pub(super) file: PathBuf,
}

/// A key, and what it takes to use it. Where a part of it is missing, nothing named it.
#[derive(Clone, Debug)]
pub(crate) struct KeyChoice {
    /// The key id that the server knows the secret by.
    pub(crate) kid: Option<KeyId>,
    /// Where the key is.
    pub(crate) material: Option<Material>,
    /// What it takes to use one in a TPM.
    pub(crate) use_key: UseKeyArgs,
}

/// Where a key is.
#[derive(Clone, Debug)]
pub(crate) enum Material {
    /// In a TPM.
    Tpm(KeyRef),
    /// In a file, in clear.
    File {
        /// `-` is standard input.
        path: PathBuf,
        /// How it stands there.
        format: SecretFormat,
        /// Whether fewer than 16 bytes are taken.
        is_weak_taken: bool,
    },
}

/// What flags, environment and file say for the server that is dialled at this address.
///
/// # Errors
/// Where the file or a variable is wrong, no or more than one profile fits, or a profile is for other servers.
pub(crate) fn resolve(args: &ConnectArgs, dialled: &Authority) -> Result<Resolved, CliError> {
    resolve_in(&ConfigFile::read()?, args, dialled)
}

/// The same with a file that was read already.
pub(crate) fn resolve_in(file: &ConfigFile, args: &ConnectArgs, dialled: &Authority) -> Result<Resolved, CliError> {
    let mut resolved = resolve_credential(file, &args.who, dialled)?;
    resolved.mutual = args.mutual.or(resolved.mutual);
    resolved.tls.tls12 = args.tls12.unwrap_or(resolved.tls.tls12);
    resolved.tls.require_post_quantum = args.require_post_quantum.unwrap_or(resolved.tls.require_post_quantum);
    resolved.bus = if args.unsafe_plain_bus { BusEncryption::Off } else { BusEncryption::On };
    Ok(resolved)
}

/// What is said by the flags of the credential alone, for a command that looks at connections of all kinds.
pub(crate) fn resolve_credential(file: &ConfigFile, flags: &CredentialArgs, dialled: &Authority) -> Result<Resolved, CliError> {
    let origin = flags.origin(dialled)?;
    let environment = Environment::read()?;
    let profile = choose(file, name_given(flags).as_ref(), &origin, flags.kid.as_ref().or(environment.key.kid.as_ref()))?;
    let has_flag_key = flags.key.is_some() || flags.secret_file.is_some();
    let uses_environment = flags.kid.is_none() && environment.key.kid.is_some() || !has_flag_key && names_key(&environment.key);
    if uses_environment && !environment.is_for(&origin) {
        return Err(CliError::Usage(format!(
            "$EKM_OTP_KID and $EKM_OTP_KEY are for $EKM_OTP_ORIGINS only, and {} is none of them: unset them, or add it there",
            origin.audience()
        )));
    }
    let none = ChannelSettings::default();
    let (over, channel) = (&environment.channel, profile.map_or(&none, |profile| &profile.channel));
    let ca = flags.ca.clone().or_else(|| over.ca.clone());
    Ok(Resolved {
        profile: profile.map(|profile| profile.name.clone()),
        keys: keys(file, flags, &environment, profile)?,
        credential: flags.credential.or(over.credential).or(channel.credential),
        mutual: over.mutual.or(channel.mutual),
        wire: flags.profile.or(over.wire).or(channel.wire).unwrap_or_default(),
        tls: TlsPolicy {
            tls12: over.tls12.or(channel.tls12).unwrap_or_default(),
            require_post_quantum: over.require_post_quantum.or(channel.require_post_quantum).unwrap_or_default(),
        },
        ca: ca.or_else(|| channel.ca.as_deref().map(|ca| rebased(file.folder(), ca))),
        bus: BusEncryption::On,
        file: file.path.clone(),
        origin,
        dialled: dialled.clone(),
    })
}

impl Resolved {
    /// The flags that say the same with one of the keys.
    pub(crate) fn as_flags(&self, flags: &CredentialArgs, choice: &KeyChoice) -> CredentialArgs {
        let mut said = CredentialArgs {
            kid: choice.kid.clone(),
            key: None,
            secret_file: None,
            use_key: choice.use_key.clone(),
            credential: self.credential,
            ca: self.ca.clone(),
            profile: Some(self.wire),
            ..flags.clone()
        };
        match &choice.material {
            Some(Material::Tpm(key)) => said.key = Some(key.clone()),
            Some(Material::File { path, format, is_weak_taken }) => {
                (said.secret_file, said.secret_format) = (Some(path.clone()), Some(*format));
                said.unsafe_weak_secret = *is_weak_taken;
            }
            None => {}
        }
        said
    }
}

/// One layer's key: the flags', the environment's, or the file's.
#[derive(Clone, Default)]
struct Layer {
    kid: Option<KeyId>,
    material: Option<Material>,
    secret_format: Option<SecretFormat>,
    password_file: Option<PathBuf>,
    /// Registers or a policy's file.
    plan: Option<(Option<PolicyPlan>, Option<PathBuf>)>,
    parent_template: Option<Parent>,
}

fn names_key(settings: &KeySettings) -> bool {
    settings.key.is_some() || settings.secret_file.is_some()
}

fn keys(
    file: &ConfigFile,
    flags: &CredentialArgs,
    environment: &Environment,
    profile: Option<&FileProfile>,
) -> Result<Vec<KeyChoice>, CliError> {
    let tpm = tpm(file, &flags.use_key.tpm, &environment.tpm, profile);
    let by_flags = Layer {
        kid: flags.kid.clone(),
        material: match (&flags.key, &flags.secret_file) {
            (Some(key), _) => Some(Material::Tpm(key.clone())),
            (None, Some(path)) => Some(secret(path, flags.secret_format, flags)),
            (None, None) => None,
        },
        secret_format: flags.secret_format,
        password_file: flags.use_key.password_file.clone(),
        plan: plan(&flags.use_key.pcrs, &flags.use_key.policy),
        parent_template: flags.use_key.parent_template,
    };
    let by_environment = layer(&environment.key, None, flags, &|key| format!("${}", name_of(key)))?;
    let over = [by_flags, by_environment];
    let kid = over[0].kid.as_ref().or(over[1].kid.as_ref());
    let is_named = over.iter().any(|layer| layer.material.is_some());
    let of_file = profile.map_or(&[][..], |profile| &profile.keys);
    let mut choices = Vec::new();
    for key in of_file {
        // Of several the one that is asked for. A single one may go by another key id for once.
        if of_file.len() > 1 && !is_named && kid.is_some_and(|kid| key.settings.kid.as_ref() != Some(kid)) {
            continue;
        }
        let place = |name: &str| format!("{}: line {}: {name}", shown(&file.path), key.line);
        let mut settings = key.settings.clone();
        if is_named {
            // It is not looked for where another is used.
            (settings.key, settings.secret_file) = (None, None);
        }
        let of_file = layer(&settings, Some(file.folder()), flags, &place)?;
        choices.push(merged([&over[0], &over[1], &of_file], &flags.use_key, &tpm));
        if is_named {
            break;
        }
    }
    match (choices.is_empty(), profile, kid) {
        (true, Some(profile), Some(kid)) => Err(CliError::Usage(format!(
            "the profile {} ({}, line {}) has no key of the key id {kid}: name it with --key, or leave --kid out",
            profile.name,
            shown(&file.path),
            profile.line
        ))),
        (true, ..) => Ok(vec![merged([&over[0], &over[1], &Layer::default()], &flags.use_key, &tpm)]),
        (false, ..) => Ok(choices),
    }
}

fn layer(settings: &KeySettings, folder: Option<&Path>, flags: &CredentialArgs, place: &dyn Fn(&str) -> String) -> Result<Layer, CliError> {
    let at = |path: &Path| folder.map_or_else(|| path.to_owned(), |folder| rebased(folder, path));
    let material = match (&settings.key, &settings.secret_file) {
        (Some(key), _) => {
            let key = folder.map_or_else(|| key.clone(), |folder| rebased_key(folder, key));
            Some(Material::Tpm(key_ref(&key).map_err(|e| CliError::Usage(format!("{}: {e}", place("key"))))?))
        }
        (None, Some(path)) => Some(secret(&at(path), settings.secret_format, flags)),
        (None, None) => None,
    };
    Ok(Layer {
        kid: settings.kid.clone(),
        material,
        secret_format: settings.secret_format,
        password_file: settings.password_file.as_deref().map(at),
        plan: plan(&settings.pcrs, &settings.policy.as_deref().map(at)),
        parent_template: settings.parent_template,
    })
}

fn plan(pcrs: &Option<PolicyPlan>, policy: &Option<PathBuf>) -> Option<(Option<PolicyPlan>, Option<PathBuf>)> {
    (pcrs.is_some() || policy.is_some()).then(|| (pcrs.clone(), policy.clone()))
}

fn secret(path: &Path, format: Option<SecretFormat>, flags: &CredentialArgs) -> Material {
    Material::File { path: path.to_owned(), format: format.unwrap_or_default(), is_weak_taken: flags.unsafe_weak_secret }
}

/// Layers, the strongest first. What is said below the layer that names the key is said of another key.
fn merged(layers: [&Layer; 3], flags: &UseKeyArgs, tpm: &TpmArgs) -> KeyChoice {
    let named_by = layers.iter().position(|layer| layer.material.is_some()).unwrap_or(layers.len() - 1);
    let of_key = &layers[..=named_by];
    let (pcrs, policy) = of_key.iter().find_map(|layer| layer.plan.clone()).unwrap_or_default();
    let mut material = layers[named_by].material.clone();
    // The flag that says how the secret stands in a file goes for the file of the profile, too.
    if let Some(Material::File { format, .. }) = &mut material {
        *format = of_key.iter().find_map(|layer| layer.secret_format).unwrap_or_default();
    }
    KeyChoice {
        kid: layers.iter().find_map(|layer| layer.kid.clone()),
        material,
        use_key: UseKeyArgs {
            password_file: of_key.iter().find_map(|layer| layer.password_file.clone()),
            pcrs,
            policy,
            parent_template: of_key.iter().find_map(|layer| layer.parent_template),
            tpm: tpm.clone(),
            password: flags.password.clone(),
        },
    }
}

/// The TPM's flags, with what they leave open.
fn tpm(file: &ConfigFile, flags: &TpmArgs, environment: &TpmSettings, profile: Option<&FileProfile>) -> TpmArgs {
    let mut tpm = flags.clone();
    let of_file = profile.map(|profile| &profile.tpm);
    for (settings, folder) in [Some((environment, None)), of_file.map(|settings| (settings, Some(file.folder())))].into_iter().flatten() {
        let at = |path: &PathBuf| folder.map_or_else(|| path.clone(), |folder| rebased(folder, path));
        tpm.tcti = tpm.tcti.or_else(|| settings.tcti.clone());
        tpm.owner_password_file = tpm.owner_password_file.or_else(|| settings.owner_password_file.as_ref().map(at));
        tpm.parent_password_file = tpm.parent_password_file.or_else(|| settings.parent_password_file.as_ref().map(at));
        tpm.session_key_name = tpm.session_key_name.or_else(|| settings.session_key_name.clone());
        let fulfil = &mut tpm.fulfil;
        if fulfil.signed_policy.is_empty() {
            fulfil.signed_policy = settings.signed_policy.iter().map(|Text(path)| at(path)).collect();
        }
        if fulfil.policy_signing_key.is_empty() {
            fulfil.policy_signing_key = settings.policy_signing_key.iter().map(|Text(path)| at(path)).collect();
        }
        if fulfil.policy_secret.is_empty() {
            fulfil.policy_secret = settings.policy_secret.iter().map(|Text(PolicySecret(handle, path))| (*handle, at(path))).collect();
        }
    }
    tpm
}

/// A path of the file, as seen from the file's folder; `~/` is the home folder.
fn rebased(folder: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME").filter(|home| !home.is_empty())) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(path),
    }
}

/// The same of a key that may be a handle, and a handle's file.
fn rebased_key(folder: &Path, key: &str) -> String {
    let is_handle = key.starts_with("handle:");
    match key.split_once('=') {
        Some((_, pinned)) if is_handle && pinned.bytes().all(|b| b.is_ascii_hexdigit()) => key.to_owned(),
        Some((handle, file)) if is_handle => format!("{handle}={}", rebased(folder, Path::new(file)).display()),
        None if is_handle || key.starts_with("0x81") || key.starts_with("0X81") => key.to_owned(),
        _ => rebased(folder, Path::new(key)).display().to_string(),
    }
}
