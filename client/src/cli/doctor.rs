//! `doctor`: looks for what is wrong, line by line, and says what to do. It changes nothing and guesses no password.

mod clock;
#[cfg(feature = "cloud")]
mod cloud;
mod device;
mod probe;
mod proof;
mod report;
mod server;
mod tpm;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ekm_otp::Authority;
use ekm_otp_client::Signer;
use ekm_otp_tpm::TpmKey;

use self::report::Report;
use super::arguments::UseKeyArgs;
use super::credential::CredentialArgs;
use super::error::CliError;
use super::origin::origin_of;
use super::{password, proxy};

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    who: CredentialArgs,
    /// The server: https://HOST[:PORT]
    #[arg(long, help_heading = "Request", value_name = "URL", value_parser = origin_of)]
    url: Option<Authority>,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    cloud: cloud::CloudArgs,
    /// How long each step may take, in seconds
    #[arg(long, help_heading = "Request", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Write one JSON array of {check, status, finding, advice} instead
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(args: DoctorArgs) -> Result<(), CliError> {
    let deadline = Duration::from_secs(args.timeout);
    if args.who.secret_file.is_some() && (args.url.is_none() || args.who.kid.is_none()) {
        return Err(CliError::Usage("--secret-file: it is shown to a server: name that with --url, and the key id with --kid".into()));
    }
    let mut report = Report::new(args.json);
    let key = match args.who.secret().await? {
        Some(secret) => {
            if args.who.use_key.tpm.tcti.is_some() {
                look_at_tpm(&mut report, &args, deadline).await?;
            }
            Some(Arc::new(secret) as Arc<dyn Signer>)
        }
        None => {
            let key = look_at_tpm(&mut report, &args, deadline).await?;
            #[cfg(feature = "cloud")]
            if args.cloud.is_asked() {
                args.cloud.check(&mut report, key, args.who.ca.as_deref(), deadline).await?;
                return report.finish();
            }
            key.map(|key| Arc::new(key) as Arc<dyn Signer>)
        }
    };
    if let Some(dialled) = &args.url {
        if let Some(variable) = proxy::ignored() {
            let advice =
                "nothing, if the server can be reached without; a proxy would have to pass TLS through (CONNECT), and none is used here";
            report.warning("proxy", format!("${variable} is ignored"), advice);
        }
        let asked = proof::Asked { dialled, origin: &args.who.origin(dialled)?, who: &args.who, deadline };
        server::check(&mut report, asked, key).await;
    }
    report.finish()
}

/// The lines of the TPM and of the key in it. The key, where it can be used as it is.
async fn look_at_tpm(report: &mut Report, args: &DoctorArgs, deadline: Duration) -> Result<Option<TpmKey>, CliError> {
    let arguments = &args.who.use_key.tpm;
    let (tcti, tpm) = (arguments.tcti()?, arguments.open_with(None)?.with_deadline(deadline));
    let has_owner_password =
        arguments.owner_password_file.is_some() || std::env::var_os("TPM_OWNER_AUTH").is_some_and(|password| !password.is_empty());
    let health = tpm::check_tpm(report, &tcti, &tpm, has_owner_password).await;
    let Some(key) = &args.who.key else { return Ok(None) };
    let asked = tpm::Asked {
        key,
        kid: args.who.kid.as_ref(),
        password: password::given(UseKeyArgs::PASSWORD, args.who.use_key.password_file.as_deref())?,
        stated: args.who.use_key.plan()?.map(|plan| (plan, args.who.use_key.plan_flag())),
        parent_template: args.who.use_key.parent_template,
        is_for_server: args.who.kid.is_some() || args.url.is_some(),
        #[cfg(feature = "cloud")]
        is_to_sign: args.cloud.wants_signature(),
        #[cfg(not(feature = "cloud"))]
        is_to_sign: false,
    };
    Ok(tpm::check_key(report, asked, &tpm, health.as_ref(), &tcti).await)
}
