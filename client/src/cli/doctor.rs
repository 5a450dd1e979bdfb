//! `doctor`: looks for what is wrong, line by line, and says what to do. It changes nothing and guesses no password.

mod advice;
mod clock;
#[cfg(feature = "cloud")]
mod cloud;
mod device;
mod looked;
mod overview;
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

use self::looked::Looked;
use self::report::{Fault, Report};
use super::arguments::UseKeyArgs;
use super::credential::CredentialArgs;
use super::error::CliError;
use super::origin::origin_of;
use super::password;
use super::profiles::{ConfigFile, resolve_credential};

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    who: CredentialArgs,
    /// The server: https://HOST[:PORT]
    #[arg(long, help_heading = "Request", value_name = "URL", value_parser = origin_of)]
    url: Option<Authority>,
    /// Look at every profile of the configuration file: as is done where neither server nor key is named
    #[arg(long, conflicts_with_all = ["url", "kid", "key", "secret_file", "profile_name"])]
    all_profiles: bool,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    cloud: cloud::CloudArgs,
    /// How long each step may take, in seconds
    #[arg(long, help_heading = "Request", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Write one JSON array of {check, status, finding, advice} instead, with the profile where it is one's
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(mut args: DoctorArgs) -> Result<(), CliError> {
    let deadline = Duration::from_secs(args.timeout);
    let mut report = Report::new(args.json);
    let file = ConfigFile::read().unwrap_or_else(|error| {
        let advice = "mend the file, or name another with $EKM_OTP_CONFIG: no command that connects runs until then";
        report.problem("profiles", Fault::of(&error), error.to_string().replace('\n', "; "), advice);
        ConfigFile::default()
    });
    if args.all_profiles || args.names_nothing() && (args.who.profile_name.is_some() || !file.names().is_empty()) {
        overview::check(&mut report, &args.who, &file, deadline).await?;
        return report.finish();
    }
    let mut needs_post_quantum = false;
    let mut profile = None;
    if let Some(dialled) = &args.url {
        let resolved = resolve_credential(&file, &args.who, dialled)?;
        if let Some(preferred) = resolved.keys.first() {
            args.who = resolved.as_flags(&args.who, preferred);
        }
        needs_post_quantum = resolved.tls.require_post_quantum;
        profile = resolved.profile;
    }
    if args.who.secret_file.is_some() && (args.url.is_none() || args.who.kid.is_none()) {
        return Err(CliError::Usage("--secret-file: it is shown to a server: name that with --url, and the key id with --kid".into()));
    }
    let key = match args.who.secret().await? {
        Some(secret) => {
            if args.who.use_key.tpm.tcti.is_some() {
                look_at_tpm(&mut report, &args, profile.as_deref(), deadline).await?;
            }
            Some(Arc::new(secret) as Arc<dyn Signer>)
        }
        None => {
            let key = look_at_tpm(&mut report, &args, profile.as_deref(), deadline).await?;
            #[cfg(feature = "cloud")]
            if args.cloud.is_asked() {
                args.cloud.check(&mut report, key, args.who.ca.as_deref(), deadline).await?;
                return report.finish();
            }
            key.map(|key| Arc::new(key) as Arc<dyn Signer>)
        }
    };
    if let Some(dialled) = &args.url {
        server::tell_proxy(&mut report);
        let asked = proof::Asked { dialled, origin: &args.who.origin(dialled)?, who: &args.who, deadline, needs_post_quantum };
        server::check(&mut report, asked, key).await;
    }
    report.finish()
}

impl DoctorArgs {
    /// Whether only the TPM, and the profiles, are left to look at.
    fn names_nothing(&self) -> bool {
        #[cfg(feature = "cloud")]
        let is_for_cloud = self.cloud.is_asked();
        #[cfg(not(feature = "cloud"))]
        let is_for_cloud = false;
        let who = &self.who;
        !is_for_cloud && self.url.is_none() && who.kid.is_none() && who.key.is_none() && who.secret_file.is_none()
    }
}

/// The lines of the TPM and of the key in it. The key, where it can be used as it is.
async fn look_at_tpm(
    report: &mut Report,
    args: &DoctorArgs,
    profile: Option<&str>,
    deadline: Duration,
) -> Result<Option<TpmKey>, CliError> {
    let looked = Looked::at(report, &args.who.use_key.tpm, deadline).await?;
    let Some(key) = &args.who.key else { return Ok(None) };
    let asked = tpm::Asked {
        key,
        profile,
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
    Ok(tpm::check_key(report, asked, &looked.tpm, looked.health.as_ref(), &looked.tcti).await)
}
