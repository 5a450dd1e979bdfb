//! `reseal`: the same data for a new state of the machine, in one step. The old state opens it, too, until the new one is confirmed.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use ekm_otp_tpm::{KeyFile, KeySource, NewSealed, Policy, PolicyPlan, TpmHandle};
use zeroize::Zeroizing;

use super::arguments::UseKeyArgs;
use super::error::CliError;
use super::key_file::pem;
use super::output::note;
use super::pieces::MARK;
use super::policy;
use super::sealed_file::{self, Envelope};
use super::secret_file::PrivateFile;

/// What the branches of a file are called that is not confirmed yet: no file is, after which `policy create` calls its own.
const NEW: &str = "reseal: new state";
const OLD: &str = "reseal: old state";

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("state").required(true).multiple(false))]
pub(crate) struct ResealArgs {
    /// What is sealed: a file (TSS2 PEM), as `seal` writes it. It is replaced as a whole, or not at all
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    key: PathBuf,
    /// Open it, too, while registers (PCR) have these values: BANK:N=HEX, or as they are now, such as sha256:7
    #[arg(long, value_name = "BANK:LIST", group = "state")]
    new_pcrs: Option<PolicyPlan>,
    /// Open it, too, under the policy in this file (JSON, TSS policy language)
    #[arg(long, value_name = "FILE", group = "state")]
    new_policy: Option<PathBuf>,
    /// The new state is there: from now on the old one does not open it any more. Refused where the new one does not
    #[arg(long, group = "state")]
    confirm: bool,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

pub(crate) async fn run(args: ResealArgs) -> Result<(), CliError> {
    let tpm = args.use_key.tpm.open()?;
    let (file, envelope) = sealed_file::read_patiently(&args.key).await?;
    if !file.is_sealed() {
        return Err(CliError::Usage(format!("{}: it holds a key, and no sealed data", args.key.display())));
    }
    let source = args.use_key.file_source(file, &args.key, &tpm).await?;
    let KeySource::File { file, password, .. } = source.clone() else { return Err(CliError::Usage("--key must be a file".into())) };
    let data = tpm.load(source.clone()).unseal().await?;
    if let Some(given) = password.clone().filter(|_| file.policy().needs_password()) {
        // Another branch may have opened it, and a slip would become the password: TPM2_ObjectChangeAuth takes the right one only.
        tpm.load(source).change_password(Some(given)).await?;
    }
    let unconfirmed = file.policy().branch(NEW).zip(file.policy().branch(OLD)).map(|(new, _)| new.clone());
    let plan = match (unconfirmed, args.confirm) {
        (Some(new), true) => PolicyPlan::from(new),
        (None, true) => return Err(CliError::Usage("there is nothing to confirm: the file has no new state beside an old one".into())),
        // A new state that never came gives way to the next one.
        (_, false) => args.both(file.policy().branch(NEW).and(file.policy().branch(OLD)).unwrap_or(file.policy()), &tpm).await?,
    };
    // One that no branch asks for any more would guard nothing.
    let password = password.filter(|_| plan.given().is_none_or(|policy| policy.needs_password()));
    let new = NewSealed { parent: file.parent(), password: password.clone(), policy: Some(plan) };
    let sealed = tpm.seal(new, Zeroizing::new(data.to_vec())).await?;
    // Before the old file goes: it opens now, with what was given.
    let again = tpm.load(KeySource::from(sealed.clone()).with_password(password)).unseal().await.map_err(|e| match args.confirm {
        true => CliError::NotPermitted(format!("the new state is not there, so that it is not confirmed, and the file is as it was: {e}")),
        false => e.into(),
    })?;
    if *again != *data {
        return Err(CliError::Other("the TPM gave back something else than was sealed: the file is as it was".into()));
    }
    write(&args, &sealed, envelope).await?;
    match args.confirm {
        true => note!("confirmed: to open it takes: {}", sealed.policy()),
        false => note!("to open it takes: {}. Once the new state is there: reseal --confirm", sealed.policy()),
    }
    Ok(())
}

impl ResealArgs {
    /// The new state or the old one.
    async fn both(&self, old: &Policy, tpm: &TpmHandle) -> Result<PolicyPlan, CliError> {
        if old.is_empty() {
            return Err(CliError::Usage(
                "it is sealed under no policy that its file states: name that with --pcrs or --policy, or seal it anew".into(),
            ));
        }
        let new = match (&self.new_policy, &self.new_pcrs) {
            (Some(path), _) => policy::read(path)?,
            (None, Some(_)) if old.needs_password() && old.may_do_without_password() => {
                return Err(CliError::Usage(format!(
                    "--new-pcrs: it opens in several ways ({old}), and registers alone do not say what becomes of each: make the new policy (`policy create`) and give it with --new-policy"
                )));
            }
            (None, Some(pcrs)) if old.needs_password() => pcrs.clone().together().password(),
            (None, Some(pcrs)) => pcrs.clone().together(),
            (None, None) => return Err(CliError::Usage("--new-pcrs, --new-policy or --confirm is missing".into())),
        };
        if new.digest_alone().is_some() {
            return Err(CliError::Usage(
                "--new-policy: the file is a digest alone: give the policy itself (JSON), which the file is to state".into(),
            ));
        }
        policy::warn_of_empty(tpm, &new, "it").await?;
        if tpm.policy(new.clone(), false).await?.digest() == old.digest() {
            return Err(CliError::Usage(
                "the new state is the old one: there is nothing to reseal for. BANK:N=HEX gives the value that a register will have".into(),
            ));
        }
        Ok(PolicyPlan::new().or([(NEW, new), (OLD, PolicyPlan::from(old.clone()))]))
    }
}

async fn write(args: &ResealArgs, sealed: &KeyFile, envelope: Option<Envelope>) -> Result<(), CliError> {
    // Where it lies: a link stays one.
    let path = std::fs::canonicalize(&args.key).map_err(|e| CliError::io("replace", &args.key, &e))?;
    let out = PrivateFile::beside(&path)?;
    out.take_owner_and_mode(&path)?;
    let head = pem(sealed)?;
    let mut target = out.handle()?;
    let copying = tokio::task::spawn_blocking(move || -> io::Result<()> {
        target.write_all(head.as_bytes())?;
        let Some(mut envelope) = envelope else { return Ok(()) };
        target.write_all(MARK)?;
        let mut piece = vec![0; 1 << 20];
        loop {
            match envelope.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(len) => target.write_all(&piece[..len])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    });
    copying.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| CliError::io("write", &args.key, &e))?;
    out.replace()
}
