//! `nitro verify`: whether a document is AWS's, and of the machine that is expected.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use ekm_otp_attestation::Root;
use ekm_otp_attestation::nitro::{Expected, Kind, States, VerifiedDocument};
use ekm_otp_files::pem;
use serde_json::json;

use super::super::encoded::{self, HexOrFile, hex_or_file};
use super::super::error::CliError;
use super::super::moment::{duration, moment};
use super::super::output::{self, note};
use super::super::shown::{printable, shown};
use super::pcr::{self, Pcr, pcr};
use super::show::{self, MAX_FILE};

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// File with the document: as it is (CBOR), in base64, or in hexadecimal digits; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    document: PathBuf,
    /// The nonce that it was asked for with: hexadecimal digits, or a file. Without it, it may be an old one
    #[arg(long, value_name = "HEX|FILE", value_parser = hex_or_file)]
    nonce: Option<HexOrFile>,
    /// File with the user data that it has to have
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// File with the public key that it has to have; PEM stands for the DER in it
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// A register's value; may be repeated, all have to be right
    #[arg(long, value_name = "N=HEX", value_parser = pcr)]
    pcr: Vec<Pcr>,
    /// File with the states that are allowed, one of which it has to be in (JSON, see docs/attestation.md)
    #[arg(long, value_name = "FILE")]
    states: Option<PathBuf>,
    /// The module that it has to be of: instance and TPM
    #[arg(long, value_name = "ID")]
    module_id: Option<String>,
    /// Whose registers it has to show: the same number means something else in each
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// How old it may be
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_age: Option<Duration>,
    /// When it is judged, for a document of yesterday: seconds since 1970, or 2026-02-03T10:12:02Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<SystemTime>,
    /// File with another root than AWS's, for tests
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// As JSON: all fields, with `verified` beside them
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KindArg {
    /// A TPM's (nitrotpm_pcrs)
    Tpm,
    /// A Nitro Enclave's (pcrs)
    Enclave,
}

impl KindArg {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Tpm => Kind::NitroTpm,
            Self::Enclave => Kind::Enclave,
        }
    }
}

pub(crate) async fn run(args: VerifyArgs) -> Result<(), CliError> {
    let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
    let nonce_file = if let Some(HexOrFile::File(path)) = &args.nonce { Some(path) } else { None };
    let files =
        [Some(&args.document), nonce_file, args.user_data.as_ref(), args.public_key.as_ref(), args.states.as_ref(), args.root.as_ref()];
    if files.into_iter().flatten().filter(|path| is_stdin(path)).count() > 1 {
        return Err(CliError::Usage("standard input (-) can be one thing only; the document is it unless a file is named".into()));
    }
    let expected = args.expected().await?;
    let document = show::read(&args.document).await?;
    let verified = document.verify(&expected).map_err(|e| CliError::NotPermitted(format!("the document is not proven: {e}")))?;
    if args.nonce.is_none() {
        note!("ekm-otp-client: warning: without --nonce it may be a document that somebody has kept, and has shown before");
    }
    if args.pcr.is_empty() && args.states.is_none() {
        note!("ekm-otp-client: warning: no register was compared (--pcr, --states): it may be any machine of anybody at AWS");
    }
    args.tell(&verified)
}

impl VerifyArgs {
    async fn expected(&self) -> Result<Expected, CliError> {
        let mut expected = Expected::at(self.at.unwrap_or_else(SystemTime::now));
        if let Some(path) = &self.root {
            let roots = Root::read_all(&encoded::read(path, MAX_FILE).await?);
            let mut roots = roots.map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?;
            match (roots.pop(), roots.is_empty()) {
                (Some(root), true) => expected = expected.root(root),
                _ => return Err(CliError::Usage(format!("{}: one root is wanted", shown(path)))),
            }
        }
        for (number, value) in pcr::all(&self.pcr)? {
            expected = expected.pcr(number, &value);
        }
        if let Some(path) = &self.states {
            let states = States::from_json(&encoded::read(path, MAX_FILE).await?);
            expected = expected.states(states.map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?);
        }
        if let Some(nonce) = &self.nonce {
            expected = expected.nonce(&nonce.read(MAX_FILE).await?);
        }
        if let Some(path) = &self.user_data {
            expected = expected.user_data(&encoded::read(path, MAX_FILE).await?);
        }
        if let Some(path) = &self.public_key {
            let file = encoded::read(path, MAX_FILE).await?;
            expected = expected.public_key(&public_key(file).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?);
        }
        expected = self.module_id.iter().fold(expected, |expected, module_id| expected.module_id(module_id));
        expected = self.max_age.into_iter().fold(expected, Expected::max_age);
        Ok(self.kind.into_iter().fold(expected, |expected, kind| expected.kind(kind.kind())))
    }

    fn tell(&self, verified: &VerifiedDocument) -> Result<(), CliError> {
        let document = verified.document();
        let root = self.root.as_ref().map_or("AWS's root", |_| "the root that was given");
        if self.json {
            let mut all = document.to_json();
            all["verified"] = json!({
                "kind": document.kind().to_string(),
                "root": root,
                "state": verified.state(),
                "age_seconds": verified.age().map(|age| age.as_secs()),
            });
            return show::json(&all);
        }
        let mut told = format!("the document is proven by {root}\n");
        if let Some(state) = verified.state() {
            told += &format!("{:<12} {}\n", "state", printable(state));
        }
        output::result((told + &show::table(document)).as_bytes())
    }
}

/// As a document carries it: DER.
fn public_key(file: Vec<u8>) -> Result<Vec<u8>, String> {
    if !file.starts_with(b"-----BEGIN ") {
        return Ok(file);
    }
    let blocks = pem::blocks(&file).map_err(|e| e.to_string())?;
    let block = blocks.into_iter().find(|block| ["PUBLIC KEY", "RSA PUBLIC KEY"].contains(&block.label.as_str()));
    block.map(|block| block.bytes.to_vec()).ok_or_else(|| "no public key (-----BEGIN PUBLIC KEY-----)".to_owned())
}
