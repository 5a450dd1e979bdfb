//! `key public`, `key sign`, `key verify`: RSA and ECC keys.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ekm_otp_tpm::{DigestAlgorithm, KeySource, SignatureScheme};
use sha2::{Sha256, Sha384, Sha512};

use super::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref, read_key_file};
use super::error::CliError;
use super::output;

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

pub(crate) async fn public(args: PublicArgs) -> Result<(), CliError> {
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
        if self.use_key.password_file.as_deref() == Some(Path::new("-")) {
            return Err(CliError::Usage("--password-file -: standard input is the message; name another file".into()));
        }
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

pub(crate) async fn sign(args: SignArgs) -> Result<(), CliError> {
    let how = args.how;
    // Before anything else is read from there.
    let (algorithm, digest) = how.digest().await?;
    let tpm = how.use_key.tpm.open()?;
    let key = tpm.load(how.use_key.source(&how.key, &tpm).await?);
    let signature = key.sign(how.scheme(), algorithm, &digest).await?;
    output::result(&signature)
}

pub(crate) async fn verify(args: VerifyArgs) -> Result<(), CliError> {
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
