//! `policy …`: make, show and sign policies.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ekm_otp_tpm::{
    CommandCode, DigestAlgorithm, KeyFile, KeySource, PolicyPlan, PolicySigner as _, SignatureScheme, SignedPolicy, VerifyingKey,
};

use super::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref};
use super::error::CliError;
use super::opener::is_tss2;
use super::output::{self, note};
use super::policy::{self, PrivateKeyFile, handle_of, verifying_key};
use super::sealed_file;
use super::secret_file::{PrivateFile, unhex};
use super::shown::{hex, shown};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Make a policy (JSON, TSS policy language) that asks for all that is named, with the registers as they are now.
    ///
    /// In the file its steps stand in the order of the flags here, whatever the order on the command line: it is a part of what the policy comes to.
    #[command(
        after_help = "Examples:\n  ekm-otp-client policy create --pcrs sha256:0,2,7 --out boot.json\n  ekm-otp-client policy create --password --out recovery.json\n  ekm-otp-client policy create --or boot.json --or recovery.json \\\n      --out either.json\n  ekm-otp-client policy create --authorized-by vendor.pub --out any.json"
    )]
    Create(CreateArgs),
    /// Show what a policy, or the policy of a key file, asks for, and its digest.
    #[command(after_help = "Examples:\n  ekm-otp-client policy show either.json\n  ekm-otp-client policy show secret.pem")]
    Show(ShowArgs),
    /// Print a policy's digest in hexadecimal digits, or write it as tpm2-tools keep it (-L).
    #[command(after_help = "Examples:\n  ekm-otp-client policy digest boot.json --out boot.policy")]
    Digest(DigestArgs),
    /// Sign a policy, so that it opens what `policy create --authorized-by` was made for. Prints it with its signature.
    #[command(
        after_help = "Examples:\n  ekm-otp-client policy sign boot.json --key vendor.pem \\\n      --out signed.json\n  ekm-otp-client unseal --key secret.pem --signed-policy signed.json"
    )]
    Sign(SignArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// A public key (PEM): any policy that it has signed, today's and later ones
    #[arg(long, value_name = "FILE")]
    authorized_by: Option<PathBuf>,
    /// One of these policies: two to eight files
    #[arg(long, value_name = "FILE")]
    or: Vec<PathBuf>,
    /// Registers (PCR), such as sha256:0,7+sha384:8, in one step for each time that the flag is given. BANK:N=HEX gives a register's value
    #[arg(long, value_name = "BANK:LIST")]
    pcrs: Vec<PolicyPlan>,
    /// A public key (PEM) whose private part signs each use
    #[arg(long, value_name = "FILE")]
    signed_by: Option<PathBuf>,
    /// What tells apart the signatures that --authorized-by or --signed-by asks for, in hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = policy_ref, default_value = "")]
    policy_ref: Bytes,
    /// The password of a hierarchy (owner, endorsement, lockout) or of what is at a persistent handle
    #[arg(long, value_name = "OBJECT", value_parser = handle_of)]
    secret: Option<u32>,
    /// For this command only, such as TPM2_Unseal or TPM2_Sign
    #[arg(long, value_name = "COMMAND")]
    command: Option<CommandCode>,
    /// From these localities only: 0 to 4
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(..5), value_delimiter = ',')]
    locality: Vec<u8>,
    /// The password of the key itself
    #[arg(long)]
    password: bool,
    /// A text for people
    #[arg(long, default_value = "")]
    description: String,
    /// Write the policy to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// A policy (JSON), or a key file (TSS2 PEM)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct DigestArgs {
    /// A policy (JSON), or a key file (TSS2 PEM)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the 32 bytes to this new file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// The policy (JSON). Registers without a value are taken as they are now
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private key: PEM of OpenSSL's, or a key in the TPM (TSS2 PEM, or handle:0x81…)
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    /// What tells this signature apart from what else the key signs, in hexadecimal digits: the same as was given to `policy create`
    #[arg(long, value_name = "HEX", value_parser = policy_ref, default_value = "")]
    policy_ref: Bytes,
    /// Write the signed policy to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

fn policy_ref(text: &str) -> Result<Bytes, String> {
    unhex(text).filter(|bytes| bytes.len() <= 27).map(Bytes).ok_or_else(|| "not up to 27 bytes of hexadecimal digits".to_owned())
}

pub(crate) async fn run(command: PolicyCommand) -> Result<(), CliError> {
    match command {
        PolicyCommand::Create(args) => create(args).await,
        PolicyCommand::Show(args) => show(&args),
        PolicyCommand::Digest(args) => digest(args).await,
        PolicyCommand::Sign(args) => sign(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<(), CliError> {
    let policy_ref = args.policy_ref.0;
    let mut plan = match &args.authorized_by {
        Some(path) => PolicyPlan::authorized_by(verifying_key(path)?, policy_ref.clone()),
        None => PolicyPlan::new(),
    };
    if !args.or.is_empty() {
        if !(2..=8).contains(&args.or.len()) {
            return Err(CliError::Usage("--or is wanted two to eight times: give one of its policies to --or of another for more".into()));
        }
        let branches =
            args.or.iter().map(|path| Ok((name_of(path), policy::read_named(path, "--or")?))).collect::<Result<Vec<_>, CliError>>()?;
        if let Some((name, _)) = branches.iter().find(|(_, branch)| branch.given().is_none()) {
            return Err(CliError::Usage(format!(
                "--or: {name} is a digest alone, or lacks the values of registers: a branch must be known"
            )));
        }
        plan = plan.or(branches.iter().map(|(name, branch)| (name.as_str(), branch.clone())));
    }
    plan = args.pcrs.into_iter().fold(plan, |plan, pcrs| plan.then(pcrs.together()));
    if let Some(path) = &args.signed_by {
        plan = plan.signed(verifying_key(path)?, policy_ref);
    }
    let tpm = args.tpm.open()?;
    if let Some(handle) = args.secret {
        let name = match handle >> 24 {
            0x81 => Some(tpm.load(KeySource::handle(handle, Default::default())).prepare().await?.name),
            _ => None,
        };
        plan = plan.secret(handle, name, Vec::new());
    }
    if let Some(command) = args.command {
        plan = plan.command_code(command);
    }
    if !args.locality.is_empty() {
        plan = plan.locality(args.locality.iter().fold(0, |bits, locality| bits | 1 << locality));
    }
    if args.password {
        plan = plan.password();
    }
    if plan.is_empty() {
        return Err(CliError::Usage("nothing is asked for: name what the policy wants, such as --pcrs sha256:7".into()));
    }
    // Without registers no TPM is asked.
    let plan = if plan.given().is_some() { plan } else { tpm.with_values(plan, false).await? };
    write(args.out.as_deref(), &json(&plan, &args.description, &[])?)
}

fn json(plan: &PolicyPlan, description: &str, signed: &[SignedPolicy]) -> Result<String, CliError> {
    plan.to_json(description, signed)
        .ok_or_else(|| CliError::Usage("this policy cannot be written as JSON: it compares an NV index".into()))
}

/// What a branch is called: its file without the ending.
fn name_of(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

fn write(out: Option<&Path>, text: &str) -> Result<(), CliError> {
    match out {
        None => output::result(text.as_bytes()),
        Some(path) => {
            let mut file = PrivateFile::create(path)?;
            file.write(text.as_bytes())?;
            file.keep().map(|path| note!("wrote {path}"))
        }
    }
}

const KEY_FILE: &[u8] = b"-----BEGIN TSS2 PRIVATE KEY-----";

/// What a file states: a policy, or that of a key.
enum Stated {
    Plan(PolicyPlan),
    Key(Box<KeyFile>),
}

fn stated(path: &Path) -> Result<Stated, CliError> {
    let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    // Once: it may be a pipe.
    let bytes = policy::bytes(path)?;
    if bytes.windows(KEY_FILE.len()).any(|window| window == KEY_FILE) {
        return sealed_file::parse(bytes, path).map(|file| Stated::Key(Box::new(file)));
    }
    policy::parse(bytes, &shown(path)).map(Stated::Plan)
}

fn show(args: &ShowArgs) -> Result<(), CliError> {
    let told = match stated(&args.file)? {
        Stated::Key(file) => {
            let asked = file.describe().auth_policy.map_or_else(|| "none".to_owned(), |digest| hex(&digest));
            let unknown = if file.policy().is_empty() && asked != "none" { " (it asks for one that its file does not state)" } else { "" };
            format!("policy: {}{unknown}\ndigest: {asked}", file.policy())
        }
        Stated::Plan(plan) => match (plan.given(), plan.digest_alone()) {
            (Some(policy), _) => format!("policy: {policy}\ndigest: {}", hex(&policy.digest())),
            (None, Some(digest)) => format!("policy: not told, the file is a digest alone\ndigest: {}", hex(&digest)),
            (None, None) => format!(
                "policy: {plan}\ndigest: of the registers as they are when it is used for a new key (`policy digest` tells today's)"
            ),
        },
    };
    output::line(&told)
}

async fn digest(args: DigestArgs) -> Result<(), CliError> {
    let digest = match stated(&args.file)? {
        Stated::Key(file) => file.describe().auth_policy.ok_or_else(|| CliError::Usage("this key has no policy".into()))?,
        Stated::Plan(plan) => match (plan.digest_alone(), plan.given()) {
            (Some(digest), _) => digest.to_vec(),
            (_, Some(policy)) => policy.digest().to_vec(),
            (None, None) => args.tpm.open()?.policy(plan, false).await?.digest().to_vec(),
        },
    };
    match &args.out {
        None => output::line(&hex(&digest)),
        Some(path) => {
            let mut file = PrivateFile::create(path)?;
            file.write(&digest)?;
            file.keep().map(|path| note!("wrote {path}"))
        }
    }
}

async fn sign(args: SignArgs) -> Result<(), CliError> {
    let plan = policy::read_named(&args.file, "")?;
    let tpm = args.use_key.tpm.open()?;
    let plan = if plan.given().is_some() { plan } else { tpm.with_values(plan, false).await? };
    let unknown =
        || CliError::Usage(format!("{}: a digest alone is not signed: what it asks for would be known to nobody", shown(&args.file)));
    let policy = plan.given().ok_or_else(unknown)?;
    let digest = policy.digest_to_sign(&args.policy_ref.0);
    let (public, scheme, signature) = match outside(&args.key)? {
        Some(key) => {
            let signature = key.sign(key.scheme(), &digest).map_err(CliError::Other)?;
            (key.public_pem().to_owned(), key.scheme(), signature)
        }
        None => {
            let key = tpm.load(args.use_key.source(&args.key, &tpm).await?);
            let public = key.public_pem().await?;
            let schemes = [SignatureScheme::Ecdsa, SignatureScheme::RsaSsa, SignatureScheme::RsaPss];
            let mut signed = None;
            for scheme in schemes {
                if key.allows(scheme, DigestAlgorithm::Sha256).await? {
                    signed = Some((scheme, key.sign(scheme, DigestAlgorithm::Sha256, &digest).await?));
                    break;
                }
            }
            let (scheme, signature) = signed.ok_or_else(|| CliError::Usage("--key: this key signs nothing with SHA-256".into()))?;
            (public, scheme, signature)
        }
    };
    // What cannot be named cannot be asked for.
    let key = VerifyingKey::from_pem(&public).map_err(|e| CliError::Usage(format!("--key: {e}")))?;
    let signed = SignedPolicy::new(policy, key.pem(), args.policy_ref.0.clone(), scheme, signature);
    write(args.out.as_deref(), &json(&plan, &format!("signed: {plan}"), &[signed])?)
}

/// A private key of OpenSSL's, where the file holds one.
fn outside(key: &KeyRef) -> Result<Option<PrivateKeyFile>, CliError> {
    match key {
        KeyRef::File(path) if !is_tss2(path)? => PrivateKeyFile::read(path).map(Some),
        _ => Ok(None),
    }
}
