//! `key …`: make, import, look at, use and guard keys in the TPM.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand, ValueEnum};
use ekm_otp::{KeyId, Secret};
use ekm_otp_tpm::{
    DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, PcrSelection, PrivateKey, SignatureScheme, TpmError, TpmHandle,
};
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::moving::{self, ConvertArgs, DuplicateArgs, EvictArgs, ParentArgs, PersistArgs};
use super::output::{self, note, printable, shown};
use super::password::{self, Asked};
use super::secret_file::{self, PrivateFile, SecretFormat};
use super::{CliError, KeyRef, TpmArgs, UseKeyArgs, key_ref, persistent_handle, read_key_file};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key in the TPM. For HMAC, the kind that this protocol uses: a random secret of 32 bytes, handed out once for the server's
    /// registry.
    Create(CreateArgs),
    /// Put a secret that the server has already, or a private RSA or ECC key, into the TPM.
    Import(ImportArgs),
    /// Show what a key file holds, and whether this TPM loads it.
    Inspect(InspectArgs),
    /// Set, change or remove a key's password. Writes a new key file; the old one goes on working with the old password: delete it.
    Passwd(PasswdArgs),
    /// Print the public key of an RSA or ECC key (PEM).
    Public(PublicArgs),
    /// Sign standard input with an RSA or ECC key; the signature goes to standard output.
    Sign(SignArgs),
    /// Verify a signature of standard input.
    Verify(VerifyArgs),
    /// Keep a key in the TPM itself, at a persistent handle.
    Persist(PersistArgs),
    /// Take the key at a persistent handle out of the TPM.
    Evict(EvictArgs),
    /// List the keys at persistent handles: handle, kind, name, attributes. Others' too.
    List(TpmArgs),
    /// Write the public part of this TPM's storage key, for `key duplicate` on another machine.
    Parent(ParentArgs),
    /// Encrypt a movable key to another TPM's storage key.
    Duplicate(DuplicateArgs),
    /// Convert between a key file (TSS2 PEM) and the two files of tpm2-tools.
    Convert(ConvertArgs),
    /// Print the name of the TPM's endorsement key, for --session-key-name. Do so once, where nobody sits on the TPM's bus.
    EkName(TpmArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    key: NewKeyArgs,
    /// What the key is
    #[arg(long, default_value = "hmac", value_parser = kinds())]
    kind: KeyKind,
    /// Write the registry entry with the secret to this new file (mode 0600) instead of standard output. For HMAC keys
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
    /// The file with the secret of an HMAC key; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present_any = ["pem", "duplicate"], conflicts_with_all = ["pem", "duplicate"])]
    secret_file: Option<PathBuf>,
    /// How the secret stands in its file
    #[arg(long, value_enum, default_value_t)]
    secret_format: SecretFormat,
    /// The file with a private key: PKCS#8, PKCS#1 or SEC 1, not encrypted; RSA of 2048 or 3072 bits, P-256 or P-384
    #[arg(long, value_name = "FILE", conflicts_with = "duplicate")]
    pem: Option<PathBuf>,
    /// The file with a key that another TPM encrypted to this one (`key duplicate`). It keeps its password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "ask_password", "pcrs", "movable"])]
    duplicate: Option<PathBuf>,
    /// Take a secret of fewer than 16 bytes. A rogue server can guess it offline
    #[arg(long)]
    unsafe_weak_secret: bool,
}

#[derive(Args, Debug)]
struct NewKeyArgs {
    /// The key id that the server knows the secret by; for other keys than HMAC a text for people
    #[arg(long)]
    kid: KeyId,
    /// Write the key (TSS2 PEM) to this new file. It is of use with this TPM only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A persistent storage key to put it under, such as 0x81000001 [default: the H-2 primary of the owner hierarchy]
    #[arg(long, value_name = "HANDLE", value_parser = persistent_handle)]
    parent: Option<u32>,
    /// Give the key the password in this file; - is standard input [or: $TPM_KEY_AUTH]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Ask for a password for the key, twice
    #[arg(long, conflicts_with = "password_file")]
    ask_password: bool,
    /// Write the key id into the file, for people. Such a file is read here, and not by tpm2-tools 5.4, tpm2-pytss 3.0 and tpm2-openssl 1.1
    #[arg(long)]
    describe: bool,
    /// Let the key be moved to another TPM (`key duplicate`). Then whoever may use it can also take it out
    #[arg(long, conflicts_with = "pcrs")]
    movable: bool,
    /// Bind the key to registers (PCR), such as sha256:0,7: it works only while they are as they are now. BANK:N=HEX gives a register's value
    #[arg(long, value_name = "BANK:LIST")]
    pcrs: Option<PcrSelection>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The key (TSS2 PEM)
    key_file: PathBuf,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PasswdArgs {
    /// The key (TSS2 PEM)
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    key: PathBuf,
    /// Write the key with its new password to this new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the new password; - is standard input [or: $TPM_KEY_NEW_AUTH, $SSH_ASKPASS, a prompt]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Take the password away. Guessing stays counted: that is a part of the key
    #[arg(long, conflicts_with = "new_password_file")]
    remove: bool,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PublicArgs {
    /// The key: a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME, with the name that `key list` shows
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
struct SchemeArgs {
    /// The key: a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME, with the name that `key list` shows
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    /// How to sign
    #[arg(long, value_enum)]
    scheme: SchemeArg,
    /// What to hash the input with
    #[arg(long, value_enum, default_value_t)]
    hash: HashArg,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    how: SchemeArgs,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    how: SchemeArgs,
    /// File with the signature
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemeArg {
    /// RSASSA-PKCS1-v1_5
    Rsassa,
    /// RSASSA-PSS
    Rsapss,
    /// ECDSA, the signature in DER
    Ecdsa,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum HashArg {
    #[default]
    Sha256,
    Sha384,
    Sha512,
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = KeyKind> {
    PossibleValuesParser::new(KeyKind::ALL.map(KeyKind::as_str)).try_map(|kind| kind.parse::<KeyKind>())
}

impl NewKeyArgs {
    const PASSWORD: Asked<'static> = Asked { flag: "--password-file", variable: "TPM_KEY_AUTH", prompt: "Password for the key" };

    fn parent(&self) -> Parent {
        self.parent.map_or(Parent::H2Primary, Parent::Persistent)
    }

    fn described(&self, key: KeyFile) -> KeyFile {
        if self.describe { key.with_description(self.kid.as_str()) } else { key }
    }

    fn new_key(&self, kind: KeyKind) -> Result<NewKey, CliError> {
        let password = if self.ask_password {
            Some(password::required(Self::PASSWORD, None, true)?)
        } else {
            password::given(Self::PASSWORD, self.password_file.as_deref())?
        };
        Ok(NewKey { parent: self.parent(), password, pcrs: self.pcrs.clone(), movable: self.movable, ..NewKey::new(kind) })
    }
}

pub(crate) async fn run(command: KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Create(args) => create(args).await,
        KeyCommand::Import(args) => import(args).await,
        KeyCommand::Inspect(args) => inspect(args).await,
        KeyCommand::Passwd(args) => passwd(args).await,
        KeyCommand::Public(args) => public(args).await,
        KeyCommand::Sign(args) => sign(args.how).await,
        KeyCommand::Verify(args) => verify(args).await,
        KeyCommand::Persist(args) => moving::persist(args).await,
        KeyCommand::Evict(args) => moving::evict(args).await,
        KeyCommand::List(tpm) => moving::list(tpm).await,
        KeyCommand::Parent(args) => moving::parent(args).await,
        KeyCommand::Duplicate(args) => moving::duplicate(args).await,
        KeyCommand::Convert(args) => moving::convert(&args),
        KeyCommand::EkName(tpm) => output::line(&tpm.open()?.ek_name().await?),
    }
}

async fn create(args: CreateArgs) -> Result<(), CliError> {
    let new = args.key.new_key(args.kind)?;
    if args.kind != KeyKind::HmacSha256 {
        if args.secret_out.is_some() || args.client.is_some() {
            return Err(CliError::Usage(
                "--secret-out and --client are for HMAC keys: this one has no secret that anyone could hold".into(),
            ));
        }
        let key_out = PrivateFile::create(&args.key.out)?;
        let key = args.key.tpm.open()?.create_key(new).await?;
        return write_key(key_out, &args.key.described(key), &args.key);
    }
    if args.secret_out.as_deref() == Some(&args.key.out) {
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
    let tpm = args.key.tpm.open()?;
    let secret = random_secret(&tpm, new.parent).await?;
    let key = tpm.create_hmac_key(new, Zeroizing::new(secret.expose().to_vec())).await?;
    let key = args.key.described(key);

    let entry = secret_file::registry_entry(&args.key.kid, args.client.as_deref().unwrap_or(args.key.kid.as_str()), &secret);
    // Both are on the disk before either gets its name: no secret is left of a key that does not exist.
    key_out.write(pem(&key)?.as_bytes())?;
    match secret_out {
        Some(mut file) => {
            file.write(entry.as_bytes())?;
            key_out.keep()?;
            let path = file.keep()?;
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

async fn import(args: ImportArgs) -> Result<(), CliError> {
    if let Some(path) = &args.duplicate {
        let duplicate = moving::read_duplicate(path)?;
        let key_out = PrivateFile::create(&args.key.out)?;
        let key = args.key.tpm.open()?.import_duplicate(args.key.parent(), duplicate).await?;
        return write_key(key_out, &args.key.described(key), &args.key);
    }
    let (key_out, key) = match (&args.secret_file, &args.pem) {
        (Some(file), _) => {
            let secret = secret_file::read(file, args.secret_format, args.unsafe_weak_secret).await?;
            let new = args.key.new_key(KeyKind::HmacSha256)?;
            let key_out = PrivateFile::create(&args.key.out)?;
            let key = args.key.tpm.open()?.create_hmac_key(new, Zeroizing::new(secret.expose().to_vec())).await?;
            note!("put a secret of {} bytes into the TPM", secret.expose().len());
            (key_out, key)
        }
        (None, Some(path)) => {
            let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?);
            let private = PrivateKey::from_pem(&text).map_err(|e| CliError::Usage(format!("{}: {e}", path.display())))?;
            let new = args.key.new_key(private.kind())?;
            let key_out = PrivateFile::create(&args.key.out)?;
            let kind = private.kind();
            let key = args.key.tpm.open()?.import_key(new, private).await?;
            note!("put an {kind} key into the TPM. Whoever has {} still has it: delete it", path.display());
            (key_out, key)
        }
        (None, None) => return Err(CliError::Usage("--secret-file, --pem or --duplicate is missing".into())),
    };
    write_key(key_out, &args.key.described(key), &args.key)
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

fn write_key(mut file: PrivateFile, key: &KeyFile, args: &NewKeyArgs) -> Result<(), CliError> {
    file.write(pem(key)?.as_bytes())?;
    file.keep()?;
    tell_key(key, args);
    Ok(())
}

fn tell_key(key: &KeyFile, args: &NewKeyArgs) {
    note!("wrote the key {} to {}. It is of use with this TPM only", args.kid, shown(&args.out));
    match (key.policy().is_empty(), key.needs_password()) {
        (false, _) => note!("to use it takes: {}", key.policy()),
        (true, true) => note!("to use it takes: its password"),
        (true, false) => {}
    }
}

fn pem(key: &KeyFile) -> Result<String, CliError> {
    key.to_pem().map_err(|e| CliError::Other(e.to_string()))
}

async fn inspect(args: InspectArgs) -> Result<(), CliError> {
    let key = read_key_file(&args.key_file)?;
    let mut told = vec![
        key.describe().to_string(),
        format!("policy:      {}", key.policy()),
        format!("password:    {}", if key.needs_password() { "yes" } else { "none, or the file does not tell" }),
        match key.parent() {
            Parent::H2Primary => "parent:      H-2 primary of the owner hierarchy".to_owned(),
            Parent::Persistent(handle) => format!("parent:      persistent handle 0x{handle:08x}"),
        },
    ];
    told.extend(key.description().map(|description| format!("description: {}", printable(description))));
    let is_fixed = key.describe().attributes.contains(&"fixedtpm");
    told.push(format!("movable:     {}", if is_fixed { "no" } else { "to another TPM, by whoever may use it" }));
    told.push("This file is no secret: its private part is encrypted to its TPM.".to_owned());
    told.push(match args.tpm.open()?.load(key).prepare().await {
        Ok(_) => "this TPM:    loads it".to_owned(),
        Err(e @ (TpmError::Unreachable { .. } | TpmError::NotPermitted { .. })) => format!("this TPM:    not looked at: {e}"),
        Err(e) => format!("this TPM:    does not load it: {e}"),
    });
    output::line(&told.join("\n"))
}

async fn passwd(args: PasswdArgs) -> Result<(), CliError> {
    let tpm = args.use_key.tpm.open()?;
    let source = args.use_key.source(&KeyRef::File(args.key.clone()), &tpm).await?;
    let asked = Asked { flag: "--new-password-file", variable: "TPM_KEY_NEW_AUTH", prompt: "New password for the key" };
    let new: Option<Password> = if args.remove { None } else { Some(password::required(asked, args.new_password_file.as_deref(), true)?) };
    let KeySource::File { file: old, .. } = &source else { return Err(CliError::Usage("--key must be a file".into())) };
    if new.is_some() && old.describe().attributes.contains(&"noda") {
        note!("ekm-otp-client: warning: this key was made without a password, so wrong ones are not counted: make it anew for that");
    }
    let mut out = PrivateFile::create(&args.out)?;
    let key = tpm.load(source).change_password(new).await?;
    out.write(pem(&key)?.as_bytes())?;
    out.keep()?;
    let how = if args.remove { "without a password" } else { "with its new password" };
    note!("wrote the key {how} to {}. The old file goes on working with the old one: delete it", args.out.display());
    Ok(())
}

async fn public(args: PublicArgs) -> Result<(), CliError> {
    let pem = match &args.key {
        KeyRef::File(path) => {
            let file = read_key_file(path)?;
            file.public_pem()
                .ok_or_else(|| CliError::Usage(format!("{}: {} keys have no public key", path.display(), file.describe().algorithm)))?
        }
        KeyRef::Handle(handle, name) => {
            args.tpm.open()?.load(KeySource::handle(*handle, Default::default()).with_name(name.clone())).public_pem().await?
        }
    };
    output::result(pem.as_bytes())
}

impl SchemeArgs {
    fn scheme(&self) -> SignatureScheme {
        match self.scheme {
            SchemeArg::Rsassa => SignatureScheme::RsaSsa,
            SchemeArg::Rsapss => SignatureScheme::RsaPss,
            SchemeArg::Ecdsa => SignatureScheme::Ecdsa,
        }
    }

    /// The digest of standard input.
    async fn digest(&self) -> Result<(DigestAlgorithm, Vec<u8>), CliError> {
        let hash = self.hash;
        // Standard input may never end: a signal must still be heard.
        let reading = tokio::task::spawn_blocking(move || match hash {
            HashArg::Sha256 => digest::<Sha256>().map(|digest| (DigestAlgorithm::Sha256, digest)),
            HashArg::Sha384 => digest::<Sha384>().map(|digest| (DigestAlgorithm::Sha384, digest)),
            HashArg::Sha512 => digest::<Sha512>().map(|digest| (DigestAlgorithm::Sha512, digest)),
        });
        let read = reading.await.map_err(|e| CliError::Other(format!("reading failed: {e}")))?;
        read.map_err(|e| CliError::io("read", Path::new("standard input"), &e))
    }
}

fn digest<D: sha2::Digest>() -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let (mut hash, mut piece) = (D::new(), [0; 64 * 1024]);
    let mut input = std::io::stdin().lock();
    loop {
        match input.read(&mut piece)? {
            0 => return Ok(hash.finalize().to_vec()),
            n => hash.update(&piece[..n]),
        }
    }
}

async fn sign(how: SchemeArgs) -> Result<(), CliError> {
    let tpm = how.use_key.tpm.open()?;
    let key = tpm.load(how.use_key.source(&how.key, &tpm).await?);
    let (algorithm, digest) = how.digest().await?;
    let signature = key.sign(how.scheme(), algorithm, &digest).await?;
    output::result(&signature)
}

async fn verify(args: VerifyArgs) -> Result<(), CliError> {
    let signature = std::fs::read(&args.signature).map_err(|e| CliError::io("read", &args.signature, &e))?;
    let tpm = args.how.use_key.tpm.open()?;
    // To verify takes no password: none is asked for.
    let key = match &args.how.key {
        KeyRef::File(path) => tpm.load(read_key_file(path)?),
        KeyRef::Handle(handle, name) => tpm.load(KeySource::handle(*handle, Default::default()).with_name(name.clone())),
    };
    let (algorithm, digest) = args.how.digest().await?;
    if key.verify(args.how.scheme(), algorithm, &digest, &signature).await? {
        output::line("the signature is right")
    } else {
        Err(CliError::NotPermitted("the signature is wrong: other input, another key, scheme or hash".into()))
    }
}
