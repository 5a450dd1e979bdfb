//! `aws …`: credentials of AWS from keys in the TPM.

mod cache;
mod caller;
mod certificate;
mod configure;
mod credentials;
mod dropin;
mod process;
mod profile;
mod profile_file;
mod request;
mod roles_anywhere;
mod serve;
mod session;
mod source;
mod update;
mod whoami;

use clap::Subcommand;

use super::error::CliError;

pub(crate) use caller::{Caller, CallerArgs};
pub(crate) use certificate::roles_anywhere_endpoint;
pub(crate) use dropin::{arguments as drop_in_arguments, is_called as is_drop_in};
pub(crate) use source::{region, sts_endpoint};

#[derive(Debug, Subcommand)]
pub(crate) enum AwsCommand {
    /// Print session credentials from a secret access key in the TPM, as `credential_process` wants them: for ~/.aws/config.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws process --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key aws.pem --aws-region eu-west-1\n  ekm-otp-client aws process --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key handle:0x81010002 --aws-arn arn:aws:iam::123456789012:role/app \\\n      --tags team=blue --duration 1h"
    )]
    Process(Box<process::ProcessArgs>),
    /// Ask AWS who one is: directly, with a session token, and by a role. Shows that the key in the TPM works.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws whoami --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key aws.pem --role-arn arn:aws:iam::123456789012:role/app"
    )]
    Whoami(Box<whoami::WhoamiArgs>),
    /// Send a signed request to any service of AWS; the answer's body goes to standard output.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws request GET \\\n      https://bucket.s3.eu-west-1.amazonaws.com/file \\\n      --aws-access-key-id AKIAIOSFODNN7EXAMPLE --key aws.pem"
    )]
    Request(Box<request::RequestArgs>),
    /// Print a URL that makes one request for whoever has it, until it ends.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws presign https://bucket.s3.eu-west-1.amazonaws.com/file \\\n      --expires-in 10m --aws-access-key-id AKIAIOSFODNN7EXAMPLE --key aws.pem"
    )]
    Presign(Box<request::PresignArgs>),
    /// Hand out session credentials to the SDKs of this machine, as an EC2 instance or a container gets them, until a signal.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws serve --key app.pem --certificate app.crt \\\n      --trust-anchor-arn \\\n      arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/a \\\n      --profile-arn \\\n      arn:aws:rolesanywhere:eu-west-1:123456789012:profile/b \\\n      --role-arn arn:aws:iam::123456789012:role/app\n  ekm-otp-client aws serve --key aws.pem \\\n      --aws-access-key-id AKIAIOSFODNN7EXAMPLE"
    )]
    Serve(Box<serve::ServeArgs>),
    /// Write session credentials into a profile of ~/.aws/credentials, and new ones before they end, until a signal.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws update --once --profile tpm \\\n      --aws-access-key-id AKIAIOSFODNN7EXAMPLE --key aws.pem"
    )]
    Update(Box<update::UpdateArgs>),
    /// IAM Roles Anywhere: a certificate, whose key is in the TPM, stands in for an access key.
    #[command(subcommand)]
    RolesAnywhere(roles_anywhere::RolesAnywhereCommand),
    /// Write profiles that take their credentials from the TPM into ~/.aws/config. Shows the change first.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws configure --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key aws.pem --aws-arn arn:aws:iam::123456789012:role/app"
    )]
    Configure(Box<configure::ConfigureArgs>),
}

pub(crate) async fn run(command: AwsCommand) -> Result<(), CliError> {
    match command {
        AwsCommand::Process(args) => process::run(*args).await,
        AwsCommand::Whoami(args) => whoami::run(*args).await,
        AwsCommand::Request(args) => request::run(*args).await,
        AwsCommand::Presign(args) => request::presign(*args).await,
        AwsCommand::Serve(args) => serve::run(*args).await,
        AwsCommand::Update(args) => update::run(*args).await,
        AwsCommand::RolesAnywhere(command) => roles_anywhere::run(command).await,
        AwsCommand::Configure(args) => configure::run(*args).await,
    }
}
