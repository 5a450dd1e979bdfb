//! `aws …`: credentials of AWS from keys in the TPM.

mod cache;
mod configure;
mod dropin;
mod process;
mod profile_file;
mod request;
mod source;
mod whoami;

use clap::Subcommand;

use super::cloud::keep_out_of_cores;
use super::error::CliError;

pub(crate) use dropin::{arguments as drop_in_arguments, is_called as is_drop_in};

#[derive(Debug, Subcommand)]
pub(crate) enum AwsCommand {
    /// Print session credentials from a secret access key in the TPM, as `credential_process` wants them: for ~/.aws/config.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws process --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key aws.pem --aws-region eu-west-1\n  ekm-otp-client aws process --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key handle:0x81010002 --aws-arn arn:aws:iam::123456789012:role/app \\\n      --tags team=blue --duration 1h"
    )]
    Process(Box<process::ProcessArgs>),
    /// Ask AWS who one is: directly, with a session token, and by a role. Shows that the key in the TPM works.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws whoami --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key aws.pem --roleARN arn:aws:iam::123456789012:role/app"
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
    /// Write profiles that take their credentials from the TPM into ~/.aws/config. Shows the change first.
    #[command(
        after_help = "Examples:\n  ekm-otp-client aws configure --aws-access-key-id AKIAIOSFODNN7EXAMPLE \\\n      --key aws.pem --aws-arn arn:aws:iam::123456789012:role/app"
    )]
    Configure(Box<configure::ConfigureArgs>),
}

pub(crate) async fn run(command: AwsCommand) -> Result<(), CliError> {
    keep_out_of_cores();
    match command {
        AwsCommand::Process(args) => process::run(*args).await,
        AwsCommand::Whoami(args) => whoami::run(*args).await,
        AwsCommand::Request(args) => request::run(*args).await,
        AwsCommand::Presign(args) => request::presign(*args).await,
        AwsCommand::Configure(args) => configure::run(*args).await,
    }
}
