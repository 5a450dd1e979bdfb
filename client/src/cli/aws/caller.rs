//! Whose signature a request to a service has: credentials of this project's own sources where flags name one, else those that AWS's tools would take.

use std::time::Duration;

use clap::Args;
use ekm_otp_cloud::aws::{AccessKey, Signatory, container_credentials, instance_credentials};
use ekm_otp_cloud::{CloudError, Http, MacKey, SoftwareMac};

use super::super::arguments::{UseKeyArgs, variable};
use super::super::cloud::http;
use super::super::error::CliError;
use super::super::output::note;
use super::credentials::{CredentialsArgs, Source};
use super::profile;
use super::session::Session;
use super::source::Secret;

/// Where an instance asks for its credentials.
const INSTANCE: &str = "http://169.254.169.254";
/// Whether there is such a service is soon known: it is in the machine itself.
const AMBIENT_WITHIN: Duration = Duration::from_secs(6);

/// Who asks.
#[derive(Args, Debug)]
pub(crate) struct CallerArgs {
    /// Take the credentials of this profile (~/.aws/config, ~/.aws/credentials): an access key, or credential_process, as `aws configure` writes it [default: the key
    /// in the TPM or the certificate that other flags name; else $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, $AWS_PROFILE, the profile `default`, the role of
    /// the container or of the EC2 instance]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["aws_access_key_id", "certificate", "key", "software_key"], help_heading = "Credentials")]
    profile: Option<String>,
    #[command(flatten)]
    credentials: CredentialsArgs,
}

/// Who asks, ready to.
pub(crate) struct Caller {
    http: Http,
    who: Who,
    /// What flag, environment or profile say.
    region: Option<String>,
}

enum Who {
    /// The key in the TPM signs.
    Secret(Box<Secret>),
    Key(AccessKey, SoftwareMac),
}

impl CallerArgs {
    /// Puts what was given under other names where it belongs. Returns `--endpoint`, which is the asked service's and not that of who makes credentials.
    pub(crate) fn settle(&mut self) -> Result<Option<String>, CliError> {
        self.credentials.settle()?;
        Ok(self.credentials.secret.endpoint.take())
    }

    /// The TPM that is named for the credentials, and what it takes to use a key, which is so of other keys, too.
    pub(crate) fn use_key(&self) -> &UseKeyArgs {
        &self.credentials.secret.key.use_key
    }

    /// The region that a flag names.
    pub(crate) fn region(&self) -> Option<String> {
        self.credentials.secret.aws_region.clone().filter(|region| !region.is_empty())
    }

    /// Whether it is to be the endpoint with validated cryptography.
    pub(crate) fn is_fips(&self) -> Result<bool, CliError> {
        self.credentials.secret.is_fips()
    }

    /// Opens the TPM where the credentials come from there, and asks for what it takes.
    pub(crate) async fn open(&self) -> Result<Caller, CliError> {
        let CredentialsArgs { secret, session, certificate } = &self.credentials;
        let region = secret.region();
        let is_own = secret.aws_access_key_id.is_some()
            || certificate.certificate.is_some()
            || secret.key.key.is_some()
            || secret.key.software_key.is_some();
        if !is_own {
            let http = secret.http.http()?;
            let (key, of_profile) = self.found(&http).await?;
            let mac = key.mac();
            return Ok(Caller { http, who: Who::Key(key, mac), region: region.or(of_profile) });
        }
        match self.credentials.open().await? {
            // The secret itself signs: one question less.
            Source::Secret(secret, Session::User(_)) if !session.is_asked_for() => {
                Ok(Caller { http: secret.http.clone(), who: Who::Secret(secret), region })
            }
            source => {
                let key = AccessKey::from(source.make().await?);
                let mac = key.mac();
                Ok(Caller { http: source.http().clone(), who: Who::Key(key, mac), region })
            }
        }
    }

    /// As AWS's tools look for them ("Understand credential providers", AWS SDKs and Tools Reference Guide), and the region of the profile.
    async fn found(&self, http: &Http) -> Result<(AccessKey, Option<String>), CliError> {
        if self.profile.is_none()
            && let Some(key) = environment()?
        {
            return Ok((key, None));
        }
        let named = self.profile.clone().or_else(|| variable("AWS_PROFILE"));
        let profile = profile::read(named.as_deref())?;
        let region = profile.region();
        if let Some(key) = profile.access_key(self.credentials.secret.http.timeout).await? {
            return Ok((key, region));
        }
        Ok((ambient(http).await?, region))
    }
}

fn environment() -> Result<Option<AccessKey>, CliError> {
    let session_token = variable("AWS_SESSION_TOKEN").map(Into::into);
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(access_key_id), Some(secret)) => Ok(Some(AccessKey { access_key_id, secret_access_key: secret.into(), session_token })),
        (None, None) => Ok(None),
        _ => Err(CliError::Usage("one of $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY is set, and the other is not".into())),
    }
}

/// The role of the container, else of the instance.
async fn ambient(asked: &Http) -> Result<AccessKey, CliError> {
    let container = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        .or_else(|| variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("http://169.254.170.2{path}")));
    if let Some(url) = container {
        let shown = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => {
                let path = std::path::Path::new(&path);
                Some(std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?.trim_end().to_owned())
            }
            None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        return Ok(container_credentials(asked, &url, shown.as_deref()).await?);
    }
    let none = |why: String| {
        CliError::Usage(format!(
            "no credentials: name a key in the TPM (--aws-access-key-id and --key), a certificate, or a --profile; or set $AWS_ACCESS_KEY_ID and \
             $AWS_SECRET_ACCESS_KEY. {why}"
        ))
    };
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(none("The role of an EC2 instance is not asked for: $AWS_EC2_METADATA_DISABLED".into()));
    }
    let service = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let found = instance_credentials(&http(None, AMBIENT_WITHIN)?, service.as_deref().unwrap_or(INSTANCE)).await;
    found.map_err(|e| match e {
        CloudError::Unreachable { .. } | CloudError::Deadline { .. } if service.is_none() => none(format!("This is no EC2 instance: {e}")),
        e => e.into(),
    })
}

impl Caller {
    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) fn signatory(&self) -> Signatory<'_> {
        match &self.who {
            Who::Secret(secret) => secret.signatory(),
            Who::Key(key, _) => key.signatory(),
        }
    }

    pub(crate) fn key(&self) -> &dyn MacKey {
        match &self.who {
            Who::Secret(secret) => &*secret.key,
            Who::Key(_, mac) => mac,
        }
    }

    /// What environment or profile say.
    pub(crate) fn region(&self) -> Option<String> {
        self.region.clone()
    }

    /// What is worth a word to people: that the clock was corrected.
    pub(crate) fn tell_skew(&self) {
        if let Some(told) = self.http.clock().told() {
            note!("ekm-otp-client: warning: {told}");
        }
    }
}
