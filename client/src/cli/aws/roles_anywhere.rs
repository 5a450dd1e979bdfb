//! `aws roles-anywhere …`: under the names of Amazon's own helper.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::super::cloud::read_certificates;
use super::super::error::CliError;
use super::super::output;
use super::process::{self, ProcessArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum RolesAnywhereCommand {
    /// Print session credentials from the key of a certificate, as `credential_process` wants them. The same as `aws process --certificate`.
    #[command(
        visible_alias = "credential-process",
        after_help = "Examples:\n  ekm-otp-client aws roles-anywhere process \\\n      --key app.pem --certificate app.crt \\\n      --trust-anchor-arn \\\n      arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/a \\\n      --profile-arn \\\n      arn:aws:rolesanywhere:eu-west-1:123456789012:profile/b \\\n      --role-arn arn:aws:iam::123456789012:role/app"
    )]
    Process(Box<ProcessArgs>),
    /// Print what a certificate says: subject, issuer, serial number, validity (JSON).
    ReadCertificateData(ReadArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    /// The certificate (PEM or DER)
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
}

pub(crate) async fn run(command: RolesAnywhereCommand) -> Result<(), CliError> {
    match command {
        RolesAnywhereCommand::Process(args) => process::run_certified(*args).await,
        RolesAnywhereCommand::ReadCertificateData(args) => {
            let leaf = read_certificates(&args.certificate, None)?.leaf;
            let (from, to) = leaf.validity_text();
            let told = json!({
                "subject": leaf.subject(),
                "issuer": leaf.issuer(),
                "serialNumber": leaf.serial_text(),
                "notBefore": from,
                "notAfter": to,
            });
            output::line(&format!("{told:#}"))
        }
    }
}
