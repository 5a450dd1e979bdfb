//! `seal`: data into a file that only this TPM opens, and only while what is asked for is there.

use std::fs::File;
use std::io::{self, Cursor, IsTerminal as _, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use clap::Args;
use ekm_otp_tpm::{KeyFile, NewSealed, PolicyPlan, TpmHandle};
use zeroize::Zeroizing;

use super::arguments::{ParentKeyArgs, TpmArgs};
use super::error::CliError;
use super::key_file::pem;
use super::output::note;
use super::password::{self, Asked};
use super::pieces::{self, EnvelopeKey, MARK};
use super::policy;
use super::progress;
use super::secret_file::PrivateFile;

#[derive(Args, Debug)]
pub(crate) struct SealArgs {
    /// Open it only while registers (PCR) are as they are now, such as sha256:0,1,2,7. BANK:N=HEX gives a register's value
    #[arg(long, alias = "pcr", value_name = "BANK:LIST")]
    pcrs: Option<PolicyPlan>,
    /// Open it only under the policy in this file: JSON (TSS policy language; `policy create` writes it), or the digest alone, as tpm2-tools keep it
    #[arg(long, value_name = "FILE", conflicts_with = "pcrs")]
    policy: Option<PathBuf>,
    /// Open it with the password in this file; - is standard input [or: $TPM_KEY_AUTH]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Ask for a password for it, twice
    #[arg(long, conflicts_with = "password_file")]
    ask_password: bool,
    #[command(flatten)]
    parent: ParentKeyArgs,
    /// Seal what is in this file [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,
    /// Write what is sealed to this new file [default: standard output]
    #[arg(long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    out: PathBuf,
    #[command(flatten)]
    tpm: TpmArgs,
}

const PASSWORD: Asked<'static> = Asked { flag: "--password-file", variable: "TPM_KEY_AUTH", prompt: "Password for what is sealed" };

/// What is to be sealed: its beginning, and the rest where the TPM does not take it as a whole.
struct Input {
    head: Zeroizing<Vec<u8>>,
    rest: Box<dyn Read + Send>,
    /// Its length, where that is known.
    len: Option<u64>,
}

pub(crate) async fn run(mut args: SealArgs) -> Result<(), CliError> {
    args.input = args.input.filter(|path| path != Path::new("-"));
    if args.input.is_none() && args.password_file.as_deref() == Some(Path::new("-")) {
        return Err(CliError::Usage(
            "standard input is what is sealed, and cannot be the password, too: name a file with --in or --password-file".into(),
        ));
    }
    // Before there is anything that could be lost.
    let mut out = PrivateFile::create(&args.out)?;
    let new = args.new_sealed().await?;
    let input = read_head(args.input.clone()).await?;
    if input.head.is_empty() {
        return Err(CliError::Usage("there is nothing to seal: the input is empty".into()));
    }
    let tpm = args.tpm.open()?;
    if let Some(plan) = &new.policy {
        policy::warn_of_empty(&tpm, plan, "it").await?;
    } else if new.password.is_none() {
        note!("ekm-otp-client: warning: without --pcrs, --policy or a password whoever may use this TPM opens it");
    }
    if input.head.len() <= TpmHandle::MAX_SEALED {
        let file = tpm.seal(new, input.head).await?;
        out.write(pem(&file)?.as_bytes())?;
        let path = out.keep()?;
        tell(&args, &path, &file);
        return Ok(());
    }
    let key = EnvelopeKey::random().map_err(|e| CliError::Other(e.to_string()))?;
    let file = tpm.seal(new, key.to_sealed()).await?;
    drop(tpm);
    let head = [pem(&file)?.as_bytes(), MARK].concat();
    let target = out.handle()?;
    // An input may stall, or a pipe: a signal must still be heard. The thread has a descriptor only: the file without a name goes with this function.
    let writing = tokio::task::spawn_blocking(move || encrypt(&key, &head, input, target));
    writing.await.unwrap_or_else(|e| Err(Fault::Input(io::Error::other(e)))).map_err(|fault| match fault {
        Fault::Input(e) => CliError::Other(format!("cannot read what is to be sealed: {e}")),
        Fault::Output(e) if args.out == Path::new("-") => CliError::output(e),
        Fault::Output(e) => CliError::io("write", &args.out, &e),
    })?;
    if args.out != Path::new("-") {
        let path = out.keep_written()?;
        tell(&args, &path, &file);
    }
    Ok(())
}

impl SealArgs {
    async fn new_sealed(&self) -> Result<NewSealed, CliError> {
        let password = password::of_new(PASSWORD, self.ask_password, self.password_file.as_deref()).await?;
        let policy = match (&self.policy, &self.pcrs) {
            (Some(path), _) => Some(policy::read(path)?),
            // In one step, as tpm2_unseal -p pcr:… wants it.
            (None, Some(pcrs)) if password.is_some() => Some(pcrs.clone().together().password()),
            (None, Some(pcrs)) => Some(pcrs.clone().together()),
            (None, None) => None,
        };
        Ok(NewSealed { parent: self.parent.parent(), password, policy })
    }
}

fn tell(args: &SealArgs, path: &str, file: &KeyFile) {
    if args.out != Path::new("-") {
        note!("wrote {path}. It opens with this TPM only");
    }
    if !file.policy().is_empty() {
        note!("to open it takes: {}", file.policy());
    }
    if let Some(flag) = args.parent.to_be_named() {
        note!("its file does not tell its parent: give {flag} wherever it is opened");
    }
}

/// One byte more than a TPM seals, so that it is known whether it takes all.
async fn read_head(path: Option<PathBuf>) -> Result<Input, CliError> {
    let reading = tokio::task::spawn_blocking(move || {
        let failed = |e: io::Error| match &path {
            Some(path) => CliError::io("read", path, &e),
            None => CliError::Other(format!("cannot read standard input: {e}")),
        };
        let (file, len) = match &path {
            Some(path) => {
                let file = File::open(path).map_err(failed)?;
                let len = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|known| known.len());
                (file, len)
            }
            None => {
                if io::stdin().is_terminal() {
                    note!("type what is to be sealed, then Ctrl-D. It is shown as it is typed, and a line end belongs to it");
                }
                // By a descriptor of its own: the standard library's buffer is not wiped.
                (File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?), None)
            }
        };
        let most = TpmHandle::MAX_SEALED + 1;
        let mut head = Zeroizing::new(Vec::with_capacity(most));
        let mut file = file;
        (&mut file).take(most as u64).read_to_end(&mut head).map_err(failed)?;
        Ok(Input { head, rest: Box::new(file), len })
    });
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading what is to be sealed failed: {e}"))))
}

/// Whose fault it is.
enum Fault {
    Input(io::Error),
    Output(io::Error),
}

fn encrypt(key: &EnvelopeKey, head: &[u8], input: Input, mut target: File) -> Result<(), Fault> {
    target.write_all(head).map_err(Fault::Output)?;
    let bar = progress::bytes(input.len);
    let mut fault = None;
    let mut source = Watched { inner: Cursor::new(input.head).chain(input.rest), fault: &mut fault };
    let done = pieces::encrypt(key, &mut source, &mut target, |done| bar.set_position(done));
    bar.finish_and_clear();
    match (done, fault) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(e)) => Err(Fault::Input(e)),
        (Err(e), None) => Err(Fault::Output(e)),
    }
}

/// Remembers that it was the input that failed.
struct Watched<'a, R> {
    inner: R,
    fault: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|e| {
            let kind = e.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.fault = Some(e);
            }
            kind.into()
        })
    }
}
