//! `key persist`, `evict`, `list`, `parent`, `duplicate`, `convert`: where keys are, and how they get elsewhere.

use std::path::{Path, PathBuf};

use clap::Args;
use ekm_otp_tpm::{DuplicatedKey, KeyDescription, KeyFile, KeyFileError, Parent, PrimaryAlgorithm};

use super::arguments::{KeyRef, ParentKeyArgs, TpmArgs, UseKeyArgs, parent_template, persistent_handle, read_key_file, under};
use super::error::CliError;
use super::output::{self, note};
use super::secret_file::PrivateFile;

#[derive(Args, Debug)]
pub(crate) struct PersistArgs {
    /// The key (TSS2 PEM)
    #[arg(long, visible_alias = "key-file", value_name = "FILE", required_unless_present = "primary")]
    key: Option<PathBuf>,
    /// Instead, a primary, for keys to lie under (`--parent`): h2, or that of tpm2_createprimary (rsa, ecc) or tpm2_createek (ek-rsa, ek-ecc)
    #[arg(long, value_name = "TEMPLATE", value_parser = primary, conflicts_with_all = ["key", "parent_template"])]
    primary: Option<Parent>,
    /// Where to keep it: 0x81000000 to 0x817fffff
    #[arg(long, value_name = "HANDLE", value_parser = persistent_handle)]
    handle: u32,
    /// The primary of the owner hierarchy that the key lies under, where it is the one that tpm2_createprimary makes: its file does not say so
    #[arg(long, value_name = "TEMPLATE", value_parser = parent_template())]
    parent_template: Option<Parent>,
    #[command(flatten)]
    tpm: TpmArgs,
}

fn primary(text: &str) -> Result<Parent, String> {
    let known = match text {
        "h2" => Parent::H2Primary,
        "rsa" => Parent::ToolsPrimary(PrimaryAlgorithm::Rsa),
        "ecc" => Parent::ToolsPrimary(PrimaryAlgorithm::Ecc),
        "ek-rsa" => Parent::EndorsementKey(PrimaryAlgorithm::Rsa),
        "ek-ecc" => Parent::EndorsementKey(PrimaryAlgorithm::Ecc),
        _ => return Err("a primary is one of h2, rsa, ecc, ek-rsa, ek-ecc".to_owned()),
    };
    Ok(known)
}

#[derive(Args, Debug)]
pub(crate) struct EvictArgs {
    /// The persistent handle, such as 0x81008001. A key that no file holds is lost
    #[arg(value_name = "HANDLE", value_parser = persistent_handle)]
    handle: u32,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ParentArgs {
    /// Write the storage key's public part (TPM2B_PUBLIC) to this new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    parent: ParentKeyArgs,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DuplicateArgs {
    /// The key (TSS2 PEM), made with --movable
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    key: PathBuf,
    /// The other TPM's storage key, as `key parent` writes it there. Be sure that it is that TPM's: whoever it belongs to gets the key
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Write the key, encrypted to the other TPM, to this new file, for `key import --duplicate` there
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Read this key (TSS2 PEM), and write --public and --private
    #[arg(long, visible_alias = "key-file", value_name = "FILE", required_unless_present = "out", conflicts_with = "out")]
    key: Option<PathBuf>,
    /// Read --public and --private, and write the key (TSS2 PEM) to this new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The public part as tpm2-tools keep it (TPM2B_PUBLIC)
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// The private part as tpm2-tools keep it (TPM2B_PRIVATE), encrypted to its parent
    #[arg(long, value_name = "FILE")]
    private: PathBuf,
    #[command(flatten)]
    parent: ParentKeyArgs,
    /// With --out: say that the key has no password, which the two files do not tell; else the new file says that it may have one. Other tools than
    /// this believe it
    #[arg(long, requires = "out")]
    no_password: bool,
}

pub(crate) async fn persist(args: PersistArgs) -> Result<(), CliError> {
    let path = match (&args.key, args.primary) {
        (_, Some(primary)) => {
            args.tpm.open()?.persist_primary(primary, args.handle).await?;
            note!("the primary is at handle 0x{:08x}: put keys under it with --parent 0x{:08x}", args.handle, args.handle);
            return Ok(());
        }
        (Some(path), None) => path,
        (None, None) => return Err(CliError::Usage("--key or --primary is missing".into())),
    };
    let file = under(read_key_file(path)?, args.parent_template, path)?;
    let policy = file.policy().clone();
    args.tpm.open()?.persist(file, args.handle).await?;
    note!("the key is at handle 0x{:08x}: use it with --key handle:0x{:08x}", args.handle, args.handle);
    if policy.pcrs_are_needed() {
        note!(
            "it is bound to registers, and its handle does not say so: name them with --pcrs where it is used ({policy}), or write --key \
             handle:0x{:08x}=FILE with its file, which does",
            args.handle
        );
    }
    Ok(())
}

pub(crate) async fn evict(args: EvictArgs) -> Result<(), CliError> {
    args.tpm.open()?.evict(args.handle).await?;
    note!("there is no key at 0x{:08x} any more", args.handle);
    Ok(())
}

pub(crate) async fn list(tpm: TpmArgs) -> Result<(), CliError> {
    for key in tpm.open()?.persistent().await? {
        let attributes = key.description.attributes.join("|");
        output::line(&format!("0x{:08x}  {:<12}  {}  {attributes}", key.handle, key.description.algorithm, key.description.name_hex()))?;
    }
    Ok(())
}

pub(crate) async fn parent(args: ParentArgs) -> Result<(), CliError> {
    let mut out = PrivateFile::create(&args.out)?;
    let public = args.tpm.open()?.parent_public(args.parent.parent()).await?;
    out.write(&public)?;
    out.keep()?;
    let name = KeyDescription::from_public_blob(&public).map_err(|e| CliError::Other(e.to_string()))?.name_hex();
    note!("wrote {}, the storage key with the name {name}", args.out.display());
    note!("it is no secret, but must not be swapped on its way, for whoever's it is gets the keys: compare the names");
    Ok(())
}

pub(crate) async fn duplicate(args: DuplicateArgs) -> Result<(), CliError> {
    let new_parent = std::fs::read(&args.to).map_err(|e| CliError::io("read", &args.to, &e))?;
    let name =
        KeyDescription::from_public_blob(&new_parent).map_err(|e| CliError::Usage(format!("{}: {e}", args.to.display())))?.name_hex();
    let tpm = args.use_key.tpm.open()?;
    let source = args.use_key.source(&KeyRef::File(args.key.clone()), &tpm).await?;
    let mut out = PrivateFile::create(&args.out)?;
    let duplicate = tpm.load(source).duplicate(&new_parent).await?;
    out.write(duplicate.to_pem().map_err(|e| CliError::Other(e.to_string()))?.as_bytes())?;
    out.keep()?;
    note!("wrote the key, encrypted to the storage key with the name {name}, to {}", args.out.display());
    note!("compare that name with what `key parent` told on the other machine. The key here goes on working");
    Ok(())
}

pub(crate) fn read_duplicate(path: &Path) -> Result<DuplicatedKey, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?;
    DuplicatedKey::from_pem(&text).map_err(|e| CliError::Usage(format!("{}: {e}", path.display())))
}

pub(crate) fn convert(args: &ConvertArgs) -> Result<(), CliError> {
    let other = |e: KeyFileError| CliError::Usage(e.to_string());
    match (&args.key, &args.out) {
        (Some(_), _) if args.parent.given().is_some() => {
            Err(CliError::Usage("--parent, --parent-template: these go with --out; the two files do not tell the parent".into()))
        }
        (Some(key), _) => {
            let key = read_key_file(key)?;
            let (mut public, mut private) = (PrivateFile::create(&args.public)?, PrivateFile::create(&args.private)?);
            public.write(&key.public_blob().map_err(other)?)?;
            private.write(&key.private_blob())?;
            PrivateFile::keep_both(public, private).map(drop)
        }
        (None, Some(out)) => {
            let read = |path: &Path| std::fs::read(path).map_err(|e| CliError::io("read", path, &e));
            let parent = args.parent.parent();
            let key =
                KeyFile::from_blobs(parent, &read(&args.public)?, &read(&args.private)?).map_err(other)?.with_empty_auth(args.no_password);
            let mut file = PrivateFile::create(out)?;
            file.write(key.to_pem().map_err(other)?.as_bytes())?;
            file.keep()?;
            let described = key.describe();
            if described.auth_policy.is_some() && described.attributes.contains(&"userwithauth") {
                note!(
                    "warning: the key has a policy, and its password, or none if it has none, does without it (userwithauth): that guards nothing"
                );
            }
            if described.auth_policy.is_some() {
                note!(
                    "the key has a policy, and the two files do not say which: name its registers with --pcrs, or it with --policy, where it is used"
                );
            }
            Ok(())
        }
        (None, None) => Err(CliError::Usage("--key or --out is missing".into())),
    }
}
