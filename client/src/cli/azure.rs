//! `azure …`: tokens of Entra ID from keys in the TPM.

mod application;
mod serve;

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use ekm_otp_cloud::Clock;
use ekm_otp_cloud::azure::TokenEndpoint;

use self::application::ApplicationArgs;
use super::cloud::{Format, HttpArgs};
use super::error::CliError;
use super::moment::duration;
use super::output::{self, note};

#[derive(Debug, Subcommand)]
pub(crate) enum AzureCommand {
    /// Print what the application shows instead of a secret: a client assertion, signed by the certificate's key.
    #[command(
        after_help = "Examples:\n  ekm-otp-client azure assertion --key app.pem --certificate app.crt \\\n      --tenant-id 45243fbe-b73f-4f7d-8213-a104a99e428e \\\n      --client-id cffeaee2-5617-4784-8a4b-b647efd676e1"
    )]
    Assertion(Box<AssertionArgs>),
    /// Print an access token of the application.
    #[command(
        after_help = "Examples:\n  ekm-otp-client azure token --key app.pem --certificate app.crt \\\n      --tenant-id 45243fbe-b73f-4f7d-8213-a104a99e428e \\\n      --client-id cffeaee2-5617-4784-8a4b-b647efd676e1 \\\n      --scope https://storage.azure.com/.default"
    )]
    Token(Box<TokenArgs>),
    /// Hand out tokens to Microsoft's libraries on this machine, as a managed identity and a workload identity get them, until a signal.
    #[command(
        after_help = "Examples:\n  ekm-otp-client azure serve --key app.pem --certificate app.crt \\\n      --tenant-id 45243fbe-b73f-4f7d-8213-a104a99e428e \\\n      --client-id cffeaee2-5617-4784-8a4b-b647efd676e1"
    )]
    Serve(Box<serve::ServeArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct AssertionArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    /// How long it lives: an hour at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    lifetime: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    /// What the token is for: a resource and /.default; several with commas between
    #[arg(long, alias = "scopes", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scope: Vec<String>,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(command: AzureCommand) -> Result<(), CliError> {
    match command {
        AzureCommand::Assertion(args) => {
            let credential = args.application.open().await?;
            // No service is asked, so the clock here is believed.
            output::line(&application::assertion(&credential, args.lifetime, SystemTime::now()).await?)
        }
        AzureCommand::Token(args) => {
            let (credential, http) = (args.application.open().await?, args.http.http()?);
            let token = TokenEndpoint { http: &http, credential: &credential }.token(&args.scope).await;
            tell_skew(http.clock());
            let token = token?;
            args.format.print("access_token", &token.token, token.expires)
        }
        AzureCommand::Serve(args) => serve::run(*args).await,
    }
}

fn tell_skew(clock: &Clock) {
    if let Some(told) = clock.told() {
        note!("ekm-otp-client: warning: {told}");
    }
}
