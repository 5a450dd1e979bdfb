//! `doctor`: looks for what is wrong, line by line, and says what to do. It changes nothing and guesses no password.

mod clock;
mod device;
mod probe;
mod report;
mod server;
mod tpm;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ekm_otp::{Authority, KeyId, Profile};
use ekm_otp_client::Key;
use http::Uri;

use self::report::Report;
use super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::error::CliError;
use super::secret_file::{self, SecretFormat};
use super::{password, proxy};

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The key: a file (TSS2 PEM) or a persistent handle, handle:0x81008001[=NAME|=FILE]
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref, conflicts_with = "secret_file")]
    key: Option<KeyRef>,
    /// The key id that the server knows the secret by
    #[arg(long)]
    kid: Option<KeyId>,
    /// A file with the secret itself, for machines without a TPM: that is looked at only if --tcti names it. - is standard input
    #[arg(long, value_name = "FILE", requires_all = ["kid", "url"])]
    secret_file: Option<PathBuf>,
    /// How the secret stands in its file
    #[arg(long, value_enum, default_value_t, requires = "secret_file")]
    secret_format: SecretFormat,
    /// Take a secret of fewer than 16 bytes. A rogue server can guess it offline
    #[arg(long, hide_short_help = true)]
    unsafe_weak_secret: bool,
    #[command(flatten)]
    use_key: UseKeyArgs,
    /// The server: https://HOST[:PORT]
    #[arg(long, value_name = "URL", value_parser = origin)]
    url: Option<Authority>,
    /// Trust the certificates in this file (PEM) instead of the system's
    #[arg(long, visible_alias = "cacert", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long each step may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Write one JSON array of {check, status, finding, advice} instead
    #[arg(long)]
    json: bool,
}

fn origin(text: &str) -> Result<Authority, String> {
    let url = text.parse::<Uri>().ok().filter(|url| url.scheme() == Some(&http::uri::Scheme::HTTPS));
    let authority = url.as_ref().and_then(Uri::authority).ok_or("write it as https://HOST[:PORT]")?;
    Authority::parse(authority.as_str()).map_err(|e| e.to_string())
}

pub(crate) async fn run(args: DoctorArgs) -> Result<(), CliError> {
    let deadline = Duration::from_secs(args.timeout);
    let mut report = Report::new(args.json);
    let key = match &args.secret_file {
        Some(path) => {
            if args.use_key.tpm.tcti.is_some() {
                look_at_tpm(&mut report, &args, deadline).await?;
            }
            Some(Key::Software(secret_file::read(path, args.secret_format, args.unsafe_weak_secret, Profile::V1).await?))
        }
        None => look_at_tpm(&mut report, &args, deadline).await?,
    };
    if let Some(origin) = &args.url {
        if let Some(variable) = proxy::ignored() {
            let advice =
                "nothing, if the server can be reached without; a proxy would have to pass TLS through (CONNECT), and none is used here";
            report.warning("proxy", format!("${variable} is ignored"), advice);
        }
        let asked = server::Asked {
            origin,
            ca: args.ca.as_deref(),
            deadline,
            kid: args.kid.as_ref(),
            was_key_given: args.key.is_some() || args.secret_file.is_some(),
        };
        server::check(&mut report, asked, key).await;
    }
    report.finish()
}

/// The lines of the TPM and of the key in it. The key, where it can be used as it is.
async fn look_at_tpm(report: &mut Report, args: &DoctorArgs, deadline: Duration) -> Result<Option<Key>, CliError> {
    let arguments = &args.use_key.tpm;
    let (tcti, tpm) = (arguments.tcti()?, arguments.open()?.with_deadline(deadline));
    let has_owner_password =
        arguments.owner_password_file.is_some() || std::env::var_os("TPM_OWNER_AUTH").is_some_and(|password| !password.is_empty());
    let health = tpm::check_tpm(report, &tcti, &tpm, has_owner_password).await;
    let Some(key) = &args.key else { return Ok(None) };
    let asked = tpm::Asked {
        key,
        kid: args.kid.as_ref(),
        password: password::given(UseKeyArgs::PASSWORD, args.use_key.password_file.as_deref())?,
        pcrs: args.use_key.pcrs.as_ref(),
        parent_template: args.use_key.parent_template,
        is_for_server: args.kid.is_some() || args.url.is_some(),
    };
    Ok(tpm::check_key(report, asked, &tpm, health.as_ref(), &tcti).await.map(Key::Tpm))
}
