//! `key public`, `key sign`, `key verify`: RSA and ECC keys.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ekm_otp_tpm::{DigestAlgorithm, SignatureScheme, TpmError};
use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::pkey::PKey;
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;
use sha2::{Sha256, Sha384, Sha512};

use super::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref, read_key_file, under};
use super::error::CliError;
use super::output;

#[derive(Args, Debug)]
pub(crate) struct PublicArgs {
    /// The key: a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME, with the name that `key list` shows (or the key's file, which carries it)
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
struct SchemeArgs {
    /// The key: a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME, with the name that `key list` shows (or the key's file, which carries it)
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
    /// File with the signature
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    #[command(flatten)]
    how: SchemeArgs,
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
                .ok_or_else(|| CliError::Usage(format!("{}: {}: this has no public key", path.display(), file.describe().algorithm)))?
        }
        KeyRef::Handle(handle, known) => args.tpm.open()?.load(known.at(*handle)).public_pem().await?,
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
    let tpm = how.use_key.tpm.open_for_use()?;
    let key = tpm.load(how.use_key.source(&how.key, &tpm).await?);
    let signature = key.sign(how.scheme(), algorithm, &digest).await?;
    output::result(&signature)
}

pub(crate) async fn verify(args: VerifyArgs) -> Result<(), CliError> {
    let signature = std::fs::read(&args.signature).map_err(|e| CliError::io("read", &args.signature, &e))?;
    let tpm = args.how.use_key.tpm.open_for_use()?;
    // To verify takes no password: none is asked for.
    let (key, pem) = match &args.how.key {
        KeyRef::File(path) => {
            let file = under(read_key_file(path)?, args.how.use_key.parent_template, path)?;
            let pem = file.public_pem();
            (tpm.load(file), pem)
        }
        KeyRef::Handle(handle, known) => {
            let key = tpm.load(known.at(*handle));
            let pem = key.public_pem().await.ok();
            (key, pem)
        }
    };
    let (algorithm, digest) = args.how.digest().await?;
    let is_right = key.verify(args.how.scheme(), algorithm, &digest, &signature).await?;
    // What the TPM says may come from somebody in between.
    let is_right_here = pem.map(|pem| is_right_in_software(&pem, args.how.scheme(), algorithm, &digest, &signature)).transpose();
    let is_right_here = is_right_here.map_err(|e| CliError::Other(format!("the signature cannot be verified in software: {e}")))?;
    match (is_right, is_right_here) {
        (true, Some(true)) => output::line("the signature is right"),
        (true, _) => Err(TpmError::Contradiction("the signature").into()),
        (false, _) => Err(CliError::NotPermitted("the signature is wrong: other input, another key, scheme or hash".into())),
    }
}

fn is_right_in_software(
    pem: &str,
    scheme: SignatureScheme,
    algorithm: DigestAlgorithm,
    digest: &[u8],
    signature: &[u8],
) -> Result<bool, ErrorStack> {
    let key = PKey::public_key_from_pem(pem.as_bytes())?;
    let mut context = PkeyCtx::new(&key)?;
    context.verify_init()?;
    match scheme {
        SignatureScheme::RsaSsa => context.set_rsa_padding(Padding::PKCS1)?,
        SignatureScheme::RsaPss => context.set_rsa_padding(Padding::PKCS1_PSS)?,
        SignatureScheme::Ecdsa => {}
    }
    context.set_signature_md(match algorithm {
        DigestAlgorithm::Sha256 => Md::sha256(),
        DigestAlgorithm::Sha384 => Md::sha384(),
        DigestAlgorithm::Sha512 => Md::sha512(),
    })?;
    // A signature that is none at all is an error of OpenSSL's. The TPM said that it was right.
    Ok(context.verify(digest, signature).unwrap_or(false))
}
