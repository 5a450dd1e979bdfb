//! `aws process`: what the SDKs of AWS run as `credential_process`.

use clap::Args;
use ekm_otp_cloud::aws::SessionCredentials;

use super::super::error::CliError;
use super::super::output;
use super::cache::Cache;
use super::source::{SecretArgs, SessionArgs};

#[derive(Args, Debug)]
pub(crate) struct ProcessArgs {
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    session: SessionArgs,
    /// Keep the credentials in $XDG_RUNTIME_DIR until 10 minutes before their end, for this user only: then the TPM and AWS are asked once for
    /// many commands
    #[arg(long, help_heading = "Session")]
    cache: bool,
}

pub(crate) async fn run(mut args: ProcessArgs) -> Result<(), CliError> {
    args.secret.settle()?;
    let session = args.session.session()?;
    let make = async {
        let secret = args.secret.open().await?;
        let credentials = secret.session(&session).await;
        secret.tell_skew();
        Ok::<SessionCredentials, CliError>(credentials?)
    };
    let credentials = if args.cache {
        let key = [args.secret.identity()?, format!("{session:?}")];
        Cache::open(&key)?.get(args.secret.http.timeout, make).await?
    } else {
        make.await?
    };
    output::line(&credentials.to_process_json())
}
