//! `aws process`: what the SDKs of AWS run as `credential_process`.

use clap::Args;

use super::super::error::CliError;
use super::super::output;
use super::cache::Cache;
use super::credentials::CredentialsArgs;

#[derive(Args, Debug)]
pub(crate) struct ProcessArgs {
    #[command(flatten)]
    credentials: CredentialsArgs,
    /// Keep the credentials in $XDG_RUNTIME_DIR until 10 minutes before their end, for this user only: then the TPM and AWS are asked once for
    /// many commands
    #[arg(long, help_heading = "Session")]
    cache: bool,
}

pub(crate) async fn run(mut args: ProcessArgs) -> Result<(), CliError> {
    args.credentials.settle()?;
    let make = async {
        let source = args.credentials.open().await?;
        let credentials = source.make().await;
        source.tell_skew();
        Ok(credentials?)
    };
    let credentials = if args.cache {
        let cache = Cache::open(&args.credentials.identity()?)?;
        cache.get(args.credentials.secret.http.timeout, make).await?
    } else {
        make.await?
    };
    output::line(&credentials.to_process_json())
}

/// With a certificate, and no other way.
pub(crate) async fn run_certified(args: ProcessArgs) -> Result<(), CliError> {
    if args.credentials.certificate.certificate.is_none() {
        return Err(CliError::Usage("--certificate is missing: the certificate of --key".into()));
    }
    run(args).await
}
