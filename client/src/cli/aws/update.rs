//! `aws update`: session credentials in the shared credentials file, for programs that read nothing else.

use std::time::SystemTime;

use clap::Args;
use ekm_otp_cloud::Expires as _;
use ekm_otp_cloud::aws::SessionCredentials;

use super::super::error::CliError;
use super::super::output::note;
use super::super::shown::shown;
use super::credentials::{CredentialsArgs, Held};
use super::profile_file::{ProfileFile, config_section, must_be_name};

#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    /// The profile
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,
    /// Once, instead of as long as this runs
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    credentials: CredentialsArgs,
}

pub(crate) async fn run(mut args: UpdateArgs) -> Result<(), CliError> {
    must_be_name(&args.profile)?;
    args.credentials.settle()?;
    let source = args.credentials.open().await?;
    let path = ProfileFile::path("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
    let config = ProfileFile::path("AWS_CONFIG_FILE", "config")?;
    let section = config_section(&args.profile);
    let old = ProfileFile::keys_in(&path, &args.profile)?;
    let has = |name: &str| old.iter().any(|key| key == name);
    if has("aws_access_key_id") && !has("aws_session_token") {
        return Err(CliError::Usage(format!(
            "{}: [{}] has an access key that does not end by itself, and whose secret may be nowhere else: take it out, or name another profile",
            shown(&path),
            args.profile
        )));
    }
    if ProfileFile::keys_in(&config, &section)?.iter().any(|key| key == "credential_process") {
        note!(
            "ekm-otp-client: warning: [{section}] of {} has credential_process, which SDKs do not run any more once there are credentials in {}",
            shown(&config),
            shown(&path)
        );
    }
    let write = async |credentials: &SessionCredentials| -> Result<(), CliError> {
        let mut file = ProfileFile::open(&path).await?;
        let (id, secret, token) = (&credentials.access_key_id, &credentials.secret_access_key, &credentials.session_token);
        let settings = [("aws_access_key_id", id.as_str()), ("aws_secret_access_key", secret), ("aws_session_token", token)];
        if settings.iter().any(|(_, value)| value.contains(char::is_control)) {
            return Err(CliError::Other("AWS sent credentials that fit into no line".into()));
        }
        file.set(&args.profile, &settings);
        file.write()?;
        note!("wrote credentials until {} to [{}] of {}", credentials.expiration_text(), args.profile, shown(&path));
        Ok(())
    };
    if args.once {
        let credentials = source.make().await;
        source.tell_skew();
        return write(&credentials?).await;
    }
    let held = Held::new(source);
    let mut written: Option<SystemTime> = None;
    loop {
        let renewed = async {
            let credentials = held.renew().await.inspect_err(|_| held.tell_skew())?;
            if written != Some(credentials.expires()) {
                held.tell_skew();
                write(&credentials).await?;
            }
            Ok::<_, CliError>(credentials.expires())
        };
        match renewed.await {
            Ok(end) => written = Some(end),
            // Those that are in the file may still be good; without any, it is of no use to go on.
            Err(error) if written.is_some() => note!("ekm-otp-client: warning: {error}"),
            Err(error) => return Err(error),
        }
        held.wait().await;
    }
}
