//! `key create`, `key import`, `key inspect`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ekm_otp::{KeyId, Secret};
use ekm_otp_tpm::{KeyFile, Parent, TpmHandle};
use zeroize::Zeroizing;

use super::secret_file::{self, PrivateFile, SecretFormat};
use super::{CliError, TpmArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a random secret of 32 bytes, put it into the TPM, and hand it out once for the server's registry.
    Create(CreateArgs),
    /// Put a secret that the server has already into the TPM.
    Import(ImportArgs),
    /// Show what a key file holds. Needs no TPM.
    Inspect {
        /// The key (TSS2 PEM)
        key_file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    key: NewKeyArgs,
    /// Write the registry entry with the secret to this new file (mode 0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    secret_out: Option<PathBuf>,
    /// The client's name in the registry entry [default: the key id]
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    key: NewKeyArgs,
    /// The file with the secret; - is standard input
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// How the secret stands in its file
    #[arg(long, value_enum, default_value_t)]
    secret_format: SecretFormat,
    /// Take a secret of fewer than 16 bytes. A rogue server can guess it offline
    #[arg(long)]
    unsafe_weak_secret: bool,
}

#[derive(Args, Debug)]
struct NewKeyArgs {
    /// The key id that the server knows the secret by
    #[arg(long)]
    kid: KeyId,
    /// Write the key (TSS2 PEM) to this new file. It is of use with this TPM only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A persistent storage key to put it under, such as 0x81000001 [default: the H-2 primary of the owner hierarchy]
    #[arg(long, value_name = "HANDLE", value_parser = parent)]
    parent: Option<u32>,
    #[command(flatten)]
    tpm: TpmArgs,
}

impl NewKeyArgs {
    fn parent(&self) -> Parent {
        self.parent.map_or(Parent::H2Primary, Parent::Persistent)
    }
}

fn parent(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16)
        .ok()
        .filter(|handle| (0x8100_0000..=0x81ff_ffff).contains(handle))
        .ok_or_else(|| "not a persistent handle: 0x81000000 to 0x81ffffff".to_owned())
}

pub(crate) async fn run(command: KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Create(args) => create(args).await,
        KeyCommand::Import(args) => import(args).await,
        KeyCommand::Inspect { key_file } => inspect(&key_file),
    }
}

async fn create(args: CreateArgs) -> Result<(), CliError> {
    // Before there is a secret that could be lost.
    let secret_out = args.secret_out.as_deref().map(PrivateFile::create).transpose()?;
    let key_out = PrivateFile::create(&args.key.out)?;
    let tpm = args.key.tpm.open()?;
    let secret = random_secret(&tpm, args.key.parent()).await?;
    let key = put_into_tpm(&tpm, &args.key, &secret).await?;

    let entry = secret_file::registry_entry(&args.key.kid, args.client.as_deref().unwrap_or(args.key.kid.as_str()), &secret);
    match (secret_out, &args.secret_out) {
        (Some(file), Some(path)) => {
            file.write(&entry)?;
            eprintln!(
                "wrote {} for the server's registry. It holds the secret: move it there over a safe way, then delete it here",
                path.display()
            );
        }
        _ => {
            eprintln!("for the server's registry; it is shown this once:");
            std::io::stdout()
                .write_all(entry.as_bytes())
                .map_err(|e| CliError::Other(format!("cannot show the secret, the key is not kept: {e}")))?;
        }
    }
    write_key(key_out, &key, &args.key)
}

async fn import(args: ImportArgs) -> Result<(), CliError> {
    let secret = secret_file::read(&args.secret_file, args.secret_format, args.unsafe_weak_secret).await?;
    let key_out = PrivateFile::create(&args.key.out)?;
    let key = put_into_tpm(&args.key.tpm.open()?, &args.key, &secret).await?;
    eprintln!("put a secret of {} bytes into the TPM", secret.expose().len());
    write_key(key_out, &key, &args.key)
}

/// 32 bytes of the TPM's randomness, XORed with 32 of the operating system's: as good as the better of the two.
async fn random_secret(tpm: &TpmHandle, salt_key: Parent) -> Result<Secret, CliError> {
    let mut bytes = Zeroizing::new(vec![0_u8; 32]);
    getrandom::fill(&mut bytes).map_err(|e| CliError::Other(format!("the operating system gives no randomness: {e}")))?;
    let from_tpm = tpm.random(salt_key, 32).await?;
    if from_tpm.len() != bytes.len() {
        return Err(CliError::Other(format!("the TPM gave {} random bytes instead of 32", from_tpm.len())));
    }
    for (byte, other) in bytes.iter_mut().zip(from_tpm.iter()) {
        *byte ^= other;
    }
    Secret::new(bytes.to_vec()).map_err(|e| CliError::Other(e.to_string()))
}

async fn put_into_tpm(tpm: &TpmHandle, args: &NewKeyArgs, secret: &Secret) -> Result<KeyFile, CliError> {
    let key = tpm.create_hmac_key(args.parent(), Zeroizing::new(secret.expose().to_vec())).await?;
    Ok(key.with_description(args.kid.as_str()))
}

fn write_key(file: PrivateFile<'_>, key: &KeyFile, args: &NewKeyArgs) -> Result<(), CliError> {
    file.write(&key.to_pem().map_err(|e| CliError::Other(e.to_string()))?)?;
    eprintln!("wrote the key {} to {}. It is of use with this TPM only", args.kid, args.out.display());
    Ok(())
}

fn inspect(path: &Path) -> Result<(), CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?;
    let key = KeyFile::from_pem(&text).map_err(|e| CliError::Usage(format!("{}: {e}", path.display())))?;
    println!("{}", key.describe());
    match key.parent() {
        Parent::H2Primary => println!("parent:      H-2 primary of the owner hierarchy"),
        Parent::Persistent(handle) => println!("parent:      persistent handle 0x{handle:08x}"),
    }
    if let Some(description) = key.description() {
        println!("description: {description}");
    }
    println!("This file is no secret: its private part is encrypted to its TPM.");
    Ok(())
}
