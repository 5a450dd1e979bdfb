//! Which KMS is asked, by whom, and what it is told.

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ekm_otp_cloud::aws::{EncryptionContext, Kms, KmsEndpoint};

use super::super::arguments::variable;
use super::super::aws::{Caller, CallerArgs};
use super::super::error::CliError;
use super::super::shown::printable;

/// What ciphertexts are bound to, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Key in KMS")]
pub(super) struct CipherArgs {
    /// What the ciphertext is bound to: the same at both ends. It is no secret, AWS logs it. Several by several flags
    #[arg(long, visible_alias = "encryption-context", value_name = "NAME=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// The algorithm, where the key is not a symmetric one
    #[arg(long, value_name = "NAME")]
    #[arg(value_parser = PossibleValuesParser::new(["SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"]).map(|name| name.to_owned()))]
    pub(super) encryption_algorithm: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| "it is NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

impl CipherArgs {
    pub(super) fn context(&self) -> Result<EncryptionContext, CliError> {
        let mut context = BTreeMap::new();
        for (name, value) in &self.context {
            if context.insert(name.clone(), value.clone()).is_some() {
                return Err(CliError::Usage(format!("--context {}: twice", printable(name))));
            }
        }
        Ok(context)
    }
}

/// A KMS, and who asks it.
pub(super) struct Asked {
    pub(super) caller: Caller,
    endpoint: KmsEndpoint,
}

impl Asked {
    /// Opens what signs the requests.
    pub(super) async fn open(args: &mut CallerArgs, key_id: Option<&str>) -> Result<Self, CliError> {
        let url = args.settle()?.or_else(|| variable("AWS_ENDPOINT_URL_KMS"));
        let (flag, of_key, is_fips) = (args.region(), key_id.and_then(region_of), args.is_fips()?);
        if let (Some(flag), Some(of_key)) = (&flag, of_key)
            && flag != of_key
        {
            return Err(CliError::Usage(format!("--key-id is a key in {}, and --aws-region says {}", printable(of_key), printable(flag))));
        }
        let caller = args.open().await?;
        // No other region has the key.
        let region = flag.or(of_key.map(str::to_owned)).or_else(|| caller.region());
        let region =
            region.ok_or_else(|| CliError::Usage("which region? name it with --aws-region, or the key by its whole ARN".into()))?;
        let endpoint = match url {
            Some(url) => KmsEndpoint::at(&url, &region)?,
            None => KmsEndpoint::regional(&region, is_fips)?,
        };
        Ok(Self { caller, endpoint })
    }

    pub(super) fn kms(&self) -> Kms<'_> {
        Kms { http: self.caller.http(), endpoint: &self.endpoint, signatory: self.caller.signatory(), key: self.caller.key() }
    }
}

/// The region in a key's ARN: `arn:aws:kms:eu-west-1:123456789012:key/…`.
fn region_of(key_id: &str) -> Option<&str> {
    let mut parts = key_id.split(':');
    let is_arn = parts.next() == Some("arn") && parts.nth(1) == Some("kms");
    parts.next().filter(|region| is_arn && !region.is_empty())
}
