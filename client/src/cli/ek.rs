//! `ek …`: the TPM's endorsement key.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use ekm_otp_attestation::tpm::Credential;
use ekm_otp_tpm::{EkCertificate, Parent, PrimaryAlgorithm, TpmHandle};
use openssl::x509::X509;

use super::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref, persistent_handle};
use super::encoded;
use super::error::CliError;
use super::output::{self, note};
use super::plaintext::{Ending, PlaintextArgs};
use super::secret_file::PrivateFile;
use super::shown::shown;

/// Longer than any: 8 bytes, a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET.
const MAX_CREDENTIAL: usize = 4096;

#[derive(Debug, Subcommand)]
pub(crate) enum EkCommand {
    /// Print the certificates that the TPM's maker left in it (PEM).
    #[command(after_help = "Examples:\n  ekm-otp-client ek cert > ek-certificates.pem")]
    Cert(CertArgs),
    /// Print the endorsement key's public part (PEM). That it is a TPM's, its certificate or a credential shows.
    #[command(after_help = "Examples:\n  ekm-otp-client ek public --algorithm rsa --tpm2b-out ek.pub")]
    Public(PublicArgs),
    /// Open a credential, as tpm2_makecredential makes it for the endorsement key and another key's name: only the TPM that has both can.
    #[command(
        visible_alias = "activate-credential",
        after_help = "Examples:\n  ekm-otp-client ek activate --key ak.pem --credential credential.out"
    )]
    Activate(Box<ActivateArgs>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    #[default]
    Rsa,
    Ecc,
}

impl Algorithm {
    fn of_key(self) -> PrimaryAlgorithm {
        match self {
            Self::Rsa => PrimaryAlgorithm::Rsa,
            Self::Ecc => PrimaryAlgorithm::Ecc,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CertArgs {
    /// Only the certificate at this NV index, such as 0x01c00002
    #[arg(long, value_name = "INDEX", value_parser = index)]
    index: Option<u32>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PublicArgs {
    /// Which: templates L-1 (RSA 2048) and L-2 (ECC P-256)
    #[arg(long, value_enum, default_value_t)]
    algorithm: Algorithm,
    /// Write its public area (TPM2B_PUBLIC), which tpm2_makecredential -u takes, to this new file
    #[arg(long, value_name = "FILE")]
    tpm2b_out: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ActivateArgs {
    /// The key that the credential was made for: a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    /// The credential, in tpm2_makecredential's file
    #[arg(long, value_name = "FILE")]
    credential: PathBuf,
    /// A persistent handle with the endorsement key [default: it is made from its template, RSA or ECC, as the credential wants]
    #[arg(long, value_name = "HANDLE", value_parser = persistent_handle)]
    ek: Option<u32>,
    #[command(flatten)]
    output: PlaintextArgs,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

fn index(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let index = u32::from_str_radix(digits, 16).ok().filter(|index| index >> 24 == 1);
    index.ok_or_else(|| "not an NV index: 0x01000000 to 0x01ffffff".to_owned())
}

pub(crate) async fn run(command: EkCommand) -> Result<Ending, CliError> {
    match command {
        EkCommand::Cert(args) => cert(args).await.map(Ending::of),
        EkCommand::Public(args) => public(args).await.map(Ending::of),
        EkCommand::Activate(args) => activate(*args).await,
    }
}

async fn cert(args: CertArgs) -> Result<(), CliError> {
    let tpm = args.tpm.open()?;
    let mut found = tpm.ek_certificates().await?;
    found.retain(|one| args.index.is_none_or(|index| index == one.index));
    let mut printed = Vec::new();
    for one in &found {
        match one.certificate.as_deref().map(X509::from_der) {
            Some(Ok(certificate)) => {
                let whose = whose(&tpm, one, &certificate).await?;
                note!("0x{:08x}, {}: {whose}", one.index, one.template);
                printed.extend(certificate.to_pem().map_err(|e| CliError::Other(format!("writing the certificate failed: {e}")))?);
            }
            _ => note!("0x{:08x}, {}: {} bytes that are no certificate", one.index, one.template, one.size),
        }
    }
    if let (Some(index), true) = (args.index, found.is_empty()) {
        return Err(CliError::Unavailable(format!(
            "there is no certificate at the NV index 0x{index:08x}: without --index all are looked for"
        )));
    }
    if printed.is_empty() {
        return Err(CliError::Unavailable(
            "there is no certificate of an endorsement key in the TPM (NV indices 0x01c00002 to 0x01c0001e): makers of chips put them there, or on the \
             web, and most virtual TPMs have none"
                .into(),
        ));
    }
    output::result(&printed)
}

/// Of the two templates that are made here, whether the certificate is of the key that this TPM makes.
async fn whose(tpm: &TpmHandle, one: &EkCertificate, certificate: &X509) -> Result<&'static str, CliError> {
    let algorithm = match one.index {
        0x01c0_0002 => PrimaryAlgorithm::Rsa,
        0x01c0_000a => PrimaryAlgorithm::Ecc,
        _ => return Ok("not compared with a key: it is of another template"),
    };
    let own = tpm.ek_public(algorithm).await?.der;
    let certified = certificate.public_key().and_then(|key| key.public_key_to_der());
    Ok(match certified {
        Ok(certified) if certified == own => "of this TPM's endorsement key",
        Ok(_) => "of another key than this TPM makes from the template: a template of its own, or another TPM's certificate",
        Err(_) => "of a key that is not known here",
    })
}

async fn public(args: PublicArgs) -> Result<(), CliError> {
    let out = args.tpm2b_out.as_deref().map(PrivateFile::create).transpose()?;
    let public = args.tpm.open()?.ek_public(args.algorithm.of_key()).await?;
    if let Some(mut out) = out {
        out.write(&public.blob)?;
        out.keep()?;
    }
    output::result(public.pem.as_bytes())
}

async fn activate(args: ActivateArgs) -> Result<Ending, CliError> {
    let credential = read(&args.credential).await?;
    let ek = match args.ek {
        Some(handle) => Parent::Persistent(handle),
        // An RSA key's secret has the length of its modulus; a point on P-256 has 68 bytes.
        None if credential.encrypted_secret().len() > 128 => Parent::EndorsementKey(PrimaryAlgorithm::Rsa),
        None => Parent::EndorsementKey(PrimaryAlgorithm::Ecc),
    };
    let outlet = args.output.open()?;
    let tpm = args.use_key.tpm.open_for_use()?;
    let key = tpm.load(args.use_key.source(&args.key, &tpm).await?);
    let secret = key.activate_credential(ek, credential.id_object(), credential.encrypted_secret()).await?;
    outlet.whole(secret).await
}

async fn read(path: &Path) -> Result<Credential, CliError> {
    let bytes = encoded::read(path, MAX_CREDENTIAL).await?;
    Credential::from_file(&bytes).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))
}
