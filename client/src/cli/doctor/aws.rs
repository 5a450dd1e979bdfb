//! AWS: whether the key in the TPM is the secret of an access key.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use ekm_otp_client::cloud::TpmMac;
use ekm_otp_cloud::aws::{Signatory, Sts, StsEndpoint};
use ekm_otp_tpm::TpmKey;

use super::report::{Fault, Report};
use crate::cli::cloud::http;
use crate::cli::error::CliError;

#[derive(Args, Debug)]
#[command(next_help_heading = "Cloud")]
pub(crate) struct AwsArgs {
    /// Ask AWS whether --key holds the secret of this access key
    #[arg(long, value_name = "ACCESS_KEY_ID", requires = "key")]
    aws: Option<String>,
    /// The region whose STS is asked [default: the global one]
    #[arg(long, value_name = "REGION", requires = "aws")]
    aws_region: Option<String>,
    /// The URL of the STS
    #[arg(long, value_name = "URL", requires = "aws")]
    aws_endpoint: Option<String>,
}

impl AwsArgs {
    fn endpoint(&self) -> Result<StsEndpoint, CliError> {
        Ok(match (&self.aws_endpoint, &self.aws_region) {
            (Some(url), region) => StsEndpoint::at(url, region.as_deref().unwrap_or("us-east-1"))?,
            (None, Some(region)) => StsEndpoint::regional(region, false)?,
            (None, None) => StsEndpoint::global(),
        })
    }

    /// The lines of AWS, where it is to be asked. `key` is `None` where it cannot be used: its own lines say why. It is handed back.
    pub(super) async fn check(
        &self,
        report: &mut Report,
        key: Option<TpmKey>,
        ca: Option<&Path>,
        within: Duration,
    ) -> Result<Option<TpmKey>, CliError> {
        let Some(access_key_id) = &self.aws else { return Ok(key) };
        let Some(key) = key else {
            report.warning("sts", "not asked: the key cannot be used", "see above; AWS signatures take an HMAC-SHA256 key");
            return Ok(None);
        };
        let (http, endpoint, key) = (http(ca, within)?, self.endpoint()?, TpmMac(key));
        let signatory = Signatory { access_key_id, session_token: None };
        let identity = Sts { http: &http, endpoint: &endpoint, signatory, key: &key }.get_caller_identity().await;
        if let Some(told) = http.clock().told() {
            report.warning("clock", told, "commands here correct it by themselves; other programs on this machine do not");
        }
        match identity {
            Ok(identity) => report.ok("sts", format!("it takes what the key signs: {}", identity.arn)),
            Err(error) => {
                let error = CliError::from(error);
                let advice = match Fault::of(&error) {
                    Fault::Unavailable => "look at the network, proxies (HTTPS_PROXY), --aws-region and --aws-endpoint",
                    _ => "docs/aws.md lists what each refusal means",
                };
                report.problem("sts", Fault::of(&error), error.to_string(), advice);
            }
        }
        Ok(Some(key.0))
    }
}
