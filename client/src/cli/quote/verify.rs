//! `quote verify`: whether a TPM has said this of its registers.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{ArgGroup, Args, ValueEnum};
use ekm_otp_attestation::Root;
use ekm_otp_attestation::tpm::{
    Attest, AttestationKey, Evidence, Hash, PcrValues, PublicArea, PublicKey, Quote, QuoteExpected, Scheme, Signature, read_pcr_file,
};
use ekm_otp_tpm::KeyFile;

use super::super::encoded::{self, HexOrFile, hex_or_file};
use super::super::error::CliError;
use super::super::moment::moment;
use super::super::output::note;
use super::super::shown::shown;
use super::told::tell;

/// Quotes, signatures, keys and chains are far smaller.
const MAX_FILE: usize = 1 << 20;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["message", "evidence"]))]
pub(crate) struct VerifyArgs {
    /// File with what was signed (TPMS_ATTEST, as tpm2_quote -m writes it); like all files here as it is, in base64, or in hexadecimal digits
    #[arg(long, value_name = "FILE", requires = "signature")]
    message: Option<PathBuf>,
    /// File with the signature: TPMT_SIGNATURE (tpm2_quote -s), or a plain one
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// File with the values of the registers (tpm2_quote -o); without it their digest alone is proven
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// Instead of these: a file with all of it, the key's certificates too (JSON of vaportpm)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["message", "signature", "values"])]
    evidence: Option<PathBuf>,
    /// The attestation key that is known to be in a TPM: its public area (tpm2_createak -u), a key file (TSS2 PEM), or a public key or certificate (PEM, DER)
    #[arg(long, alias = "key", value_name = "FILE", required_unless_present_any = ["certificates", "evidence"])]
    ak: Option<PathBuf>,
    /// File with the attestation key's certificate, and then those that lead to the root (PEM)
    #[arg(long, value_name = "FILE", requires = "root")]
    certificates: Option<PathBuf>,
    /// The root that its certificates have to lead to: google-cloud, or a file (PEM)
    #[arg(long, value_name = "ROOT")]
    root: Option<String>,
    /// When the certificates are judged: seconds since 1970, or 2026-02-03T10:12:02Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<SystemTime>,
    /// The nonce that it was asked for with (extraData): hexadecimal digits, or a file. Without it, it may be an old one
    #[arg(long, value_name = "HEX|FILE", value_parser = hex_or_file)]
    nonce: Option<HexOrFile>,
    /// A register's value; may be repeated, all have to be quoted and right
    #[arg(long, value_name = "BANK:N=HEX", value_parser = pcr)]
    pcr: Vec<Pcr>,
    /// How a plain signature was made, where the key does not say so [default: by the key, rsassa or ecdsa]
    #[arg(long, value_enum)]
    scheme: Option<SchemeArg>,
    /// What a plain signature was made with, where the key does not say so
    #[arg(long, value_enum, default_value = "sha256")]
    hash: HashArg,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemeArg {
    /// RSASSA-PKCS1-v1_5
    Rsassa,
    /// RSASSA-PSS
    Rsapss,
    /// ECDSA
    Ecdsa,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HashArg {
    Sha256,
    Sha384,
    Sha512,
}

/// `sha256:4=HEX`
#[derive(Clone, Debug)]
struct Pcr {
    bank: Hash,
    register: u8,
    value: Vec<u8>,
}

fn pcr(text: &str) -> Result<Pcr, String> {
    let wanted = || "BANK:NUMBER=HEX is wanted, such as sha256:7=a11c…".to_owned();
    let (which, value) = text.split_once('=').ok_or_else(wanted)?;
    let (bank, register) = which.split_once(':').ok_or_else(wanted)?;
    let value = super::super::secret_file::unhex(value.strip_prefix("0x").unwrap_or(value)).ok_or_else(wanted)?;
    Ok(Pcr { bank: bank.parse()?, register: register.parse().map_err(|_| wanted())?, value })
}

pub(crate) async fn run(args: VerifyArgs) -> Result<(), CliError> {
    let wanted = args.wanted()?;
    let evidence = args.evidence().await?;
    let key = args.key(evidence.as_ref()).await?;
    let (quote, values) = match evidence {
        Some(evidence) => (evidence.quote, Some(evidence.values)),
        None => args.quote(&key).await?,
    };
    let mut expected = QuoteExpected::by(key).pcrs(wanted);
    if let Some(values) = values {
        expected = expected.values(values);
    }
    match &args.nonce {
        Some(nonce) => expected = expected.nonce(&nonce.read(MAX_FILE).await?),
        None => note!("ekm-otp-client: warning: without --nonce it may be a quote that somebody has kept, and has shown before"),
    }
    let verified = quote.verify(&expected).map_err(|e| CliError::NotPermitted(format!("the quote is not proven: {e}")))?;
    tell(&verified, args.json)
}

impl VerifyArgs {
    async fn read(&self, path: &Path) -> Result<Vec<u8>, CliError> {
        encoded::read(path, MAX_FILE).await
    }

    fn wanted(&self) -> Result<PcrValues, CliError> {
        let mut wanted = PcrValues::new();
        for Pcr { bank, register, value } in &self.pcr {
            if !wanted.insert(*bank, *register, value) {
                let digits = 2 * bank.len();
                return Err(CliError::Usage(format!(
                    "--pcr {bank}:{register}: {digits} hexadecimal digits are wanted, and one value alone"
                )));
            }
        }
        Ok(wanted)
    }

    async fn evidence(&self) -> Result<Option<Evidence>, CliError> {
        let Some(path) = &self.evidence else { return Ok(None) };
        let evidence = Evidence::from_json(&self.read(path).await?);
        evidence.map(Some).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))
    }

    /// The key that has to have signed it: what its certificates say where there are any, and the one that is named. Both have to be the same.
    async fn key(&self, evidence: Option<&Evidence>) -> Result<AttestationKey, CliError> {
        let chain = match (&self.certificates, evidence.and_then(|evidence| evidence.certificates.as_ref())) {
            (Some(path), _) => Some((shown(path), self.read(path).await?)),
            (None, Some(certificates)) if self.root.is_some() => {
                Some(("the file's certificates".to_owned(), certificates.clone().into_bytes()))
            }
            _ => None,
        };
        if chain.is_none() && self.root.is_some() {
            return Err(CliError::NotPermitted(
                "the quote is not proven: --root is given, and there are no certificates that could lead to it (--certificates, or those of the evidence)".into(),
            ));
        }
        let certified = match chain {
            Some((name, chain)) => Some(self.certified(&name, &chain).await?),
            None => None,
        };
        let named = match &self.ak {
            Some(path) => Some(named(self.read(path).await?).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?),
            None => None,
        };
        match (certified, named) {
            (Some(certified), Some(named)) => {
                let both = named.and(certified);
                both.ok_or_else(|| CliError::NotPermitted("the quote is not proven: the certificate is of another key than --ak names".into()))
            }
            (Some(key), None) | (None, Some(key)) => Ok(key),
            (None, None) => Err(CliError::Usage(
                "nothing says that the key in the file is a TPM's: --root google-cloud (or a root's file) looks at its certificates, --ak names a key that is known"
                    .into(),
            )),
        }
    }

    async fn certified(&self, name: &str, chain: &[u8]) -> Result<AttestationKey, CliError> {
        let certificates = Root::read_all(chain).map_err(|e| CliError::Usage(format!("{name}: {e}")))?;
        let chain: Vec<Vec<u8>> = certificates.iter().map(|certificate| certificate.as_der().to_vec()).collect();
        let (leaf, others) = chain.split_first().ok_or_else(|| CliError::Usage(format!("{name}: no certificate")))?;
        let roots = match self.root.as_deref() {
            Some("google-cloud") => vec![Root::google_cloud()],
            Some(path) => Root::read_all(&self.read(Path::new(path)).await?).map_err(|e| CliError::Usage(format!("{path}: {e}")))?,
            None => Vec::new(),
        };
        let key = AttestationKey::from_certificate(leaf, others, &roots, self.at.unwrap_or_else(SystemTime::now));
        key.map_err(|e| CliError::NotPermitted(format!("the quote is not proven: {e}")))
    }

    async fn quote(&self, key: &AttestationKey) -> Result<(Quote, Option<PcrValues>), CliError> {
        let (Some(message), Some(signature_file)) = (&self.message, &self.signature) else {
            return Err(CliError::Usage("--message and --signature belong together".into()));
        };
        let attest = Attest::read(&encoded::decoded(self.read(message).await?));
        let attest = attest.map_err(|e| CliError::Usage(format!("{}: {e}", shown(message))))?;
        let signature = encoded::decoded(self.read(signature_file).await?);
        // A plain one of RSA may begin like a TPM's; that its length fits, too, does not happen by chance.
        let signature = Signature::from_tpmt(&signature).or_else(|tpmt| {
            let (scheme, hash) = self.plain(key);
            Signature::plain(scheme, hash, &signature).map_err(|_| tpmt)
        });
        let signature = signature.map_err(|e| CliError::Usage(format!("{}: {e}", shown(signature_file))))?;
        let values = match &self.values {
            None => None,
            Some(path) => {
                let values = read_pcr_file(&self.read(path).await?, attest.selected());
                Some(values.map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?)
            }
        };
        Ok((Quote { attest, signature }, values))
    }

    fn plain(&self, key: &AttestationKey) -> (Scheme, Hash) {
        let by_key = if matches!(key.key(), PublicKey::Rsa { .. }) { Scheme::RsaSsa } else { Scheme::Ecdsa };
        let scheme = match self.scheme {
            Some(SchemeArg::Rsassa) => Scheme::RsaSsa,
            Some(SchemeArg::Rsapss) => Scheme::RsaPss,
            Some(SchemeArg::Ecdsa) => Scheme::Ecdsa,
            None => by_key,
        };
        let hash = match self.hash {
            HashArg::Sha256 => Hash::Sha256,
            HashArg::Sha384 => Hash::Sha384,
            HashArg::Sha512 => Hash::Sha512,
        };
        key.scheme().unwrap_or((scheme, hash))
    }
}

/// A key in one of its forms. Where its public area is known, it has to be an attestation key's.
fn named(file: Vec<u8>) -> Result<AttestationKey, String> {
    if let Ok(text) = std::str::from_utf8(&file)
        && text.contains("-----BEGIN TSS2 PRIVATE KEY-----")
    {
        let area = KeyFile::from_pem(text).map_err(|e| e.to_string())?.public_blob().map_err(|e| e.to_string())?;
        return PublicArea::from_tpm2b(&area)
            .map_err(|e| e.to_string())
            .and_then(|area| AttestationKey::from_area(&area).map_err(|e| e.to_string()));
    }
    let is_pem = file.windows(11).any(|window| window == b"-----BEGIN ");
    match PublicArea::read(&encoded::decoded(file.clone())) {
        Ok(area) if !is_pem => AttestationKey::from_area(&area).map_err(|e| e.to_string()),
        _ => PublicKey::read(&file).map(AttestationKey::from_key).map_err(|e| format!("no public area, no key file, no public key: {e}")),
    }
}
