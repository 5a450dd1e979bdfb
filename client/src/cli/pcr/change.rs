//! `pcr extend`, `pcr reset`

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use ekm_otp_tpm::{PcrBank, PcrSelection, TpmHandle};
use openssl::hash::{Hasher, MessageDigest};

use super::values::usually;
use crate::cli::arguments::TpmArgs;
use crate::cli::error::CliError;
use crate::cli::output::{self, note};
use crate::cli::secret_file::unhex;
use crate::cli::shown::hex;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["digest", "file"]))]
pub(crate) struct ExtendArgs {
    /// The register
    #[arg(value_name = "N", value_parser = register)]
    register: u8,
    /// A digest, which its length says the bank of, or BANK=HEX; may be given once for each bank. Banks that are not named are not extended
    #[arg(long, value_name = "[BANK=]HEX", value_parser = digest)]
    digest: Vec<Digest>,
    /// Extend all banks with the hash of this file; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    /// The register
    #[arg(value_name = "N", value_parser = register)]
    register: u8,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Clone, Debug)]
struct Digest(PcrBank, Vec<u8>);

fn register(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|register| *register < 24).ok_or_else(|| "a register is a number from 0 to 23, such as 16".to_owned())
}

fn digest(text: &str) -> Result<Digest, String> {
    let (bank, digits) = match text.split_once('=') {
        None => (None, text),
        Some((name, digits)) => {
            let bank = PcrBank::ALL.into_iter().find(|bank| bank.to_string().eq_ignore_ascii_case(name));
            (Some(bank.ok_or_else(|| format!("{name:?} is no bank: sha1, sha256, sha384 or sha512"))?), digits)
        }
    };
    let bytes = unhex(digits.strip_prefix("0x").unwrap_or(digits)).ok_or("a digest is hexadecimal digits")?;
    let of_len = PcrBank::ALL.into_iter().find(|bank| bank.len() == bytes.len());
    match (bank, of_len) {
        (Some(bank), _) if bank.len() != bytes.len() => {
            Err(format!("a digest of the bank {bank} has {} hexadecimal digits", 2 * bank.len()))
        }
        (None, None) => Err("a digest has 40, 64, 96 or 128 hexadecimal digits".to_owned()),
        (bank, of_len) => bank.or(of_len).map(|bank| Digest(bank, bytes)).ok_or_else(|| "it is no digest".to_owned()),
    }
}

pub(super) async fn extend(args: ExtendArgs) -> Result<(), CliError> {
    let tpm = args.tpm.open()?;
    let digests = match args.file {
        Some(path) => {
            let banks: Vec<PcrBank> = tpm.pcr_banks().await?.into_iter().map(|(bank, _)| bank).collect();
            // Standard input may never end: a signal must still be heard.
            let reading = tokio::task::spawn_blocking(move || hashes(&path, &banks));
            reading.await.map_err(|e| CliError::Other(format!("reading failed: {e}")))??
        }
        None => args.digest.into_iter().map(|Digest(bank, digest)| (bank, digest)).collect(),
    };
    let banks: Vec<PcrBank> = digests.iter().map(|(bank, _)| *bank).collect();
    if let Some(bank) = banks.iter().enumerate().find(|(i, bank)| banks[..*i].contains(bank)).map(|(_, bank)| bank) {
        return Err(CliError::Usage(format!("--digest: the bank {bank} stands twice")));
    }
    tpm.extend_pcr(args.register, digests).await?;
    if args.register < 16 {
        note!(
            "register {} is for {}: what is bound to it does not open again until the machine restarts",
            args.register,
            usually(args.register)
        );
    }
    show(&tpm, args.register, &banks).await
}

pub(super) async fn reset(args: ResetArgs) -> Result<(), CliError> {
    let tpm = args.tpm.open()?;
    tpm.reset_pcr(args.register).await?;
    let banks: Vec<PcrBank> = tpm.pcr_banks().await?.into_iter().map(|(bank, _)| bank).collect();
    show(&tpm, args.register, &banks).await
}

/// What the register holds now.
async fn show(tpm: &TpmHandle, register: u8, banks: &[PcrBank]) -> Result<(), CliError> {
    let asked: Result<Vec<PcrSelection>, _> = banks.iter().map(|bank| format!("{bank}:{register}").parse()).collect();
    let values = tpm.read_pcrs(&asked.map_err(|e| CliError::Other(format!("naming the register failed: {e}")))?).await?;
    let lines = values.banks.iter().flat_map(|(bank, of)| of.iter().map(move |(n, value)| format!("{bank}:{n}  {}", hex(value))));
    output::line(&lines.collect::<Vec<_>>().join("\n"))
}

fn hashes(path: &Path, banks: &[PcrBank]) -> Result<Vec<(PcrBank, Vec<u8>)>, CliError> {
    let failed = |e: openssl::error::ErrorStack| CliError::Other(format!("hashing failed: {e}"));
    let mut input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|e| CliError::io("open", path, &e))?)
    };
    let hasher = |bank: &PcrBank| {
        let digest = match bank {
            PcrBank::Sha1 => MessageDigest::sha1(),
            PcrBank::Sha256 => MessageDigest::sha256(),
            PcrBank::Sha384 => MessageDigest::sha384(),
            PcrBank::Sha512 => MessageDigest::sha512(),
        };
        Hasher::new(digest).map(|hasher| (*bank, hasher))
    };
    let mut hashers = banks.iter().map(hasher).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => hashers.iter_mut().try_for_each(|(_, hasher)| hasher.update(&piece[..n])).map_err(failed)?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(CliError::io("read", path, &e)),
        }
    }
    hashers.into_iter().map(|(bank, mut hasher)| Ok((bank, hasher.finish().map_err(failed)?.to_vec()))).collect()
}
