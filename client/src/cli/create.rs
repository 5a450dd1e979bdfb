//! `key create`, `key import`: how keys come into the TPM.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use ekm_otp::{KeyId, Profile};
use ekm_otp_tpm::{KeyFile, KeyKind, NewKey, PrivateKey};
use zeroize::Zeroizing;

use super::error::CliError;
use super::key_file::pem;
use super::moving;
use super::new_key::{GuardArgs, random_secret};
use super::output::{self, note};
use super::secret_file::{self, PrivateFile, SecretFormat};
use super::shown::{shown, shown_output};

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// What the key is
    #[arg(long, default_value = "hmac", value_parser = kinds())]
    kind: KeyKind,
    /// Write the registry entry with the secret to this new file (mode 0600) instead of standard output. For HMAC keys
    #[arg(long, value_name = "FILE")]
    secret_out: Option<PathBuf>,
    /// The client's name in the registry entry [default: the key id]
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    #[command(flatten)]
    key: NewKeyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file with the secret of an HMAC key; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present_any = ["pem", "duplicate", "aws_secret_file"], conflicts_with_all = ["pem", "duplicate"])]
    #[cfg_attr(feature = "cloud", arg(required_unless_present_any = ["pem", "duplicate", "aws_secret_file", "gcp_service_account"]))]
    secret_file: Option<PathBuf>,
    /// How the secret stands in its file
    #[arg(long, value_enum, default_value_t)]
    secret_format: SecretFormat,
    /// The file with a private key, PEM or DER: PKCS#8, PKCS#1 or SEC 1, not encrypted; RSA of 2048 or 3072 bits, P-256 or P-384
    #[arg(long, value_name = "FILE", conflicts_with = "duplicate")]
    pem: Option<PathBuf>,
    /// The file with a secret access key of AWS, which is put into the TPM with the prefix AWS4 that signing wants; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "pem", "duplicate"])]
    aws_secret_file: Option<PathBuf>,
    /// The file that Google made for a service account's key (JSON)
    #[cfg(feature = "cloud")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "pem", "duplicate", "aws_secret_file"], requires = "profile_out")]
    gcp_service_account: Option<PathBuf>,
    /// Write what remains of it without the key to this new file, for `gcp … --profile`
    #[cfg(feature = "cloud")]
    #[arg(long, value_name = "FILE", requires = "gcp_service_account")]
    profile_out: Option<PathBuf>,
    /// The file with a key that another TPM encrypted to this one (`key duplicate`). It keeps its password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "ask_password", "pcrs", "policy", "movable"])]
    duplicate: Option<PathBuf>,
    /// Take a secret of fewer than 16 bytes. A rogue server can guess it offline
    #[arg(long, hide_short_help = true)]
    unsafe_weak_secret: bool,
    #[command(flatten)]
    key: NewKeyArgs,
}

#[derive(Args, Debug)]
struct NewKeyArgs {
    /// The key id that the server knows the secret by; for other keys than HMAC a text for people
    #[arg(long)]
    kid: KeyId,
    /// Write the key (TSS2 PEM) to this new file. It is of use with this TPM only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write the key id into the file, for people. Such a file is read here, and not by tpm2-tools 5.4, tpm2-pytss 3.0 and tpm2-openssl 1.1
    #[arg(long)]
    describe: bool,
    /// Let the key be moved to another TPM (`key duplicate`). Then whoever may use it can also take it out
    #[arg(long)]
    movable: bool,
    #[command(flatten)]
    guard: GuardArgs,
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = KeyKind> {
    let name = |kind: KeyKind| match kind {
        KeyKind::AkEccP256 => PossibleValue::new(kind.as_str()).alias("ak"),
        kind => PossibleValue::new(kind.as_str()),
    };
    PossibleValuesParser::new(KeyKind::ALL.map(name)).try_map(|kind| kind.parse::<KeyKind>())
}

impl NewKeyArgs {
    fn described(&self, key: KeyFile) -> KeyFile {
        if self.describe { key.with_description(self.kid.as_str()) } else { key }
    }

    async fn new_key(&self, kind: KeyKind) -> Result<NewKey, CliError> {
        Ok(NewKey { movable: self.movable, ..self.guard.new_key(kind).await? })
    }
}

pub(crate) async fn create(args: CreateArgs) -> Result<(), CliError> {
    let new = args.key.new_key(args.kind).await?;
    if args.kind != KeyKind::HmacSha256 {
        if args.secret_out.is_some() || args.client.is_some() {
            return Err(CliError::Usage(
                "--secret-out and --client are for HMAC keys: this one has no secret that anyone could hold".into(),
            ));
        }
        let key_out = PrivateFile::create(&args.key.out)?;
        let tpm = args.key.guard.open_for_new(&new).await?;
        let key = tpm.create_key(new).await?;
        return write_key(key_out, &args.key.described(key), &args.key);
    }
    let absolute = |path: &Path| std::path::absolute(path).ok();
    if args.secret_out.as_deref().is_some_and(|secret| absolute(secret) == absolute(&args.key.out)) {
        return Err(CliError::Usage("--out and --secret-out name one file: the key and the secret go into two".into()));
    }
    match (&args.secret_out, args.key.out.as_os_str() == "-") {
        (Some(path), _) if path.as_os_str() == "-" => {
            return Err(CliError::Usage("--secret-out -: leave it out, and the registry entry goes to standard output".into()));
        }
        (None, true) => {
            return Err(CliError::Usage("--out -: standard output gets the secret already; name a file with --secret-out".into()));
        }
        _ => {}
    }
    // Before there is a secret that could be lost.
    let secret_out = args.secret_out.as_deref().map(PrivateFile::create).transpose()?;
    let mut key_out = PrivateFile::create(&args.key.out)?;
    let tpm = args.key.guard.open_for_new(&new).await?;
    let secret = random_secret(&tpm, new.parent).await?;
    let key = tpm.create_hmac_key(new, Zeroizing::new(secret.expose().to_vec())).await?;
    let key = args.key.described(key);

    let entry = secret_file::registry_entry(&args.key.kid, args.client.as_deref().unwrap_or(args.key.kid.as_str()), &secret);
    // Both are on the disk before either gets its name: no secret is left of a key that does not exist.
    key_out.write(pem(&key)?.as_bytes())?;
    match secret_out {
        Some(mut file) => {
            // Appended to a registry whose last line lacks its end, it still begins a line of its own.
            file.write(Zeroizing::new(format!("\n{}", *entry)).as_bytes())?;
            let path = PrivateFile::keep_both(key_out, file)?;
            note!("wrote {path} for the server's registry. It holds the secret: move it there over a safe way, then delete it here");
        }
        None => {
            note!("for the server's registry; it is shown this once:");
            output::result(entry.as_bytes())
                .map_err(|e| CliError::Other(format!("the secret cannot be shown, the key is not kept: {e}")))?;
            key_out.keep()?;
        }
    }
    tell_key(&key, &args.key);
    Ok(())
}

pub(crate) async fn import(args: ImportArgs) -> Result<(), CliError> {
    if let Some(path) = &args.duplicate {
        let duplicate = moving::read_duplicate(path)?;
        let key_out = PrivateFile::create(&args.key.out)?;
        let key = args.key.guard.tpm.open()?.import_duplicate(args.key.guard.parent.parent(), duplicate).await?;
        return write_key(key_out, &args.key.described(key), &args.key);
    }
    if let Some(path) = &args.aws_secret_file {
        let secret = secret_file::aws_secret(path).await?;
        let new = args.key.new_key(KeyKind::HmacSha256).await?;
        let key_out = PrivateFile::create(&args.key.out)?;
        let key = args.key.guard.open_for_new(&new).await?.create_hmac_key(new, secret).await?;
        note!(
            "put the secret access key into the TPM. Whoever has {} still has it: once the key works (`aws whoami`), delete it",
            shown(path)
        );
        return write_key(key_out, &args.key.described(key), &args.key);
    }
    #[cfg(feature = "cloud")]
    if let Some((path, profile)) = args.gcp_service_account.as_ref().zip(args.profile_out.as_ref()) {
        return import_service_account(&args.key, path, profile).await;
    }
    let (key_out, key) = match (&args.secret_file, &args.pem) {
        (Some(file), _) => {
            let secret = secret_file::read(file, args.secret_format, args.unsafe_weak_secret, Profile::V1).await?;
            let new = args.key.new_key(KeyKind::HmacSha256).await?;
            let key_out = PrivateFile::create(&args.key.out)?;
            let key = args.key.guard.open_for_new(&new).await?.create_hmac_key(new, Zeroizing::new(secret.expose().to_vec())).await?;
            note!("put a secret of {} bytes into the TPM", secret.expose().len());
            (key_out, key)
        }
        (None, Some(path)) => {
            let bytes = Zeroizing::new(std::fs::read(path).map_err(|e| CliError::io("read", path, &e))?);
            let private = PrivateKey::read(&bytes).map_err(|e| CliError::Usage(format!("{}: {e}", path.display())))?;
            let new = args.key.new_key(private.kind()).await?;
            let key_out = PrivateFile::create(&args.key.out)?;
            let kind = private.kind();
            let key = args.key.guard.open_for_new(&new).await?.import_key(new, private).await?;
            note!("put an {kind} key into the TPM. Whoever has {} still has it: delete it", path.display());
            (key_out, key)
        }
        (None, None) => return Err(CliError::Usage("--secret-file, --pem or --duplicate is missing".into())),
    };
    write_key(key_out, &args.key.described(key), &args.key)
}

/// The key goes into the TPM, the rest into a profile: both files, or neither.
#[cfg(feature = "cloud")]
async fn import_service_account(args: &NewKeyArgs, path: &Path, profile: &Path) -> Result<(), CliError> {
    let file = secret_file::read_private(path, "a service account's private key", 64 * 1024)?;
    let wrong = |e: &dyn std::fmt::Display| CliError::Usage(format!("{}: {e}", shown(path)));
    let (pem_text, rest) = ekm_otp_cloud::gcp::ServiceAccount::take_key(&file).map_err(|e| wrong(&e))?;
    let private = PrivateKey::read(pem_text.as_bytes()).map_err(|e| wrong(&e))?;
    let new = args.new_key(private.kind()).await?;
    let (mut key_out, mut profile_out) = (PrivateFile::create(&args.out)?, PrivateFile::create(profile)?);
    let key = args.described(args.guard.open_for_new(&new).await?.import_key(new, private).await?);
    key_out.write(pem(&key)?.as_bytes())?;
    profile_out.write(&rest)?;
    let shown_profile = PrivateFile::keep_both(key_out, profile_out)?;
    note!("wrote the account, without its key, to {shown_profile}");
    note!("put the key into the TPM. Whoever has {} still has it: once the key works (`gcp token`), delete it", shown(path));
    tell_key(&key, args);
    Ok(())
}

fn write_key(mut file: PrivateFile, key: &KeyFile, args: &NewKeyArgs) -> Result<(), CliError> {
    file.write(pem(key)?.as_bytes())?;
    file.keep()?;
    tell_key(key, args);
    Ok(())
}

fn tell_key(key: &KeyFile, args: &NewKeyArgs) {
    note!("wrote the key {} to {}. It is of use with this TPM only", args.kid, shown_output(&args.out));
    match (key.policy().is_empty(), key.may_need_password()) {
        (false, _) => note!("to use it takes: {}", key.policy()),
        (true, true) => note!("to use it takes: its password"),
        (true, false) => {}
    }
    if let Some(flag) = args.guard.parent.to_be_named() {
        note!("its file does not tell its parent: give {flag} wherever it is used");
    }
}
