//! Session credentials from either source: a secret access key in the TPM, or the key of a certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use ekm_otp_cloud::aws::{CredentialSource, SessionCredentials};
use ekm_otp_cloud::{CloudError, Http, Refreshing};

use super::super::error::CliError;
use super::super::output::note;
use super::certificate::{CertificateArgs, CertifiedKey, endpoint_of};
use super::session::{Session, SessionArgs};
use super::source::{Secret, SecretArgs};

/// Either an access key id, whose secret is the key, or a certificate, whose private key it is.
#[derive(Args, Debug)]
pub(crate) struct CredentialsArgs {
    #[command(flatten)]
    pub(super) secret: SecretArgs,
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    pub(super) certificate: CertificateArgs,
}

/// What makes credentials.
pub(super) enum Source {
    Secret(Box<Secret>, Session),
    Certificate(Box<CertifiedKey>),
}

impl CredentialsArgs {
    /// Puts what was given under other names where it belongs.
    pub(super) fn settle(&mut self) -> Result<(), CliError> {
        self.secret.settle()
    }

    /// Opens the TPM, and asks for a password where one is wanted.
    pub(super) async fn open(&self) -> Result<Source, CliError> {
        match self.certificate.open(&self.secret, &self.session).await? {
            Some(key) if self.secret.aws_access_key_id.is_some() => {
                drop(key);
                Err(one_or_the_other())
            }
            Some(key) => Ok(Source::Certificate(Box::new(key))),
            None => {
                let session = self.session.session()?;
                Ok(Source::Secret(Box::new(self.secret.open().await?), session))
            }
        }
    }

    /// What tells these apart from others, for a cache.
    pub(super) fn identity(&self) -> Result<Vec<String>, CliError> {
        let asked = match &self.certificate.certificate {
            Some(path) => {
                let endpoint = endpoint_of(&self.secret, &self.certificate.call(&self.session)?)?;
                format!("{:?} {:?} {:?} {endpoint:?}", std::path::absolute(path).ok(), self.certificate, self.session)
            }
            None => format!("{:?} {:?}", self.session.session()?, self.secret.sts()?),
        };
        Ok(vec![self.secret.identity()?, asked])
    }
}

pub(super) fn one_or_the_other() -> CliError {
    CliError::Usage("--aws-access-key-id and --certificate: credentials come from one or the other".into())
}

impl Source {
    pub(super) fn http(&self) -> &Http {
        match self {
            Self::Secret(secret, _) => &secret.http,
            Self::Certificate(key) => &key.http,
        }
    }

    /// One command of the TPM, one request.
    pub(super) async fn make(&self) -> Result<SessionCredentials, CloudError> {
        match self {
            Self::Secret(secret, session) => secret.session(session).await,
            Self::Certificate(key) => key.session().await,
        }
    }

    /// What is worth a word to people: that the clock was corrected.
    pub(super) fn tell_skew(&self) {
        if let Some(told) = self.http().clock().told() {
            note!("ekm-otp-client: warning: {told}");
        }
    }

    /// The role's name, or the user's way, as an instance's role is called.
    pub(super) fn role_name(&self) -> String {
        let arn = match self {
            Self::Secret(_, Session::Role(role)) => role.role_arn.as_str(),
            Self::Secret(_, Session::User(_)) => "session-token",
            Self::Certificate(key) => key.role_arn(),
        };
        arn.rsplit('/').next().unwrap_or(arn).to_owned()
    }
}

/// Credentials in this process's memory, made anew in time.
pub(super) struct Held {
    source: Source,
    held: Refreshing<SessionCredentials>,
}

impl Held {
    /// Before SDKs ask for new ones, which they do 15 minutes before the end at the earliest.
    const MARGIN: Duration = Duration::from_secs(20 * 60);
    /// How soon one looks again: a machine may have slept meanwhile, or a failure be over.
    const AGAIN: Duration = Duration::from_secs(30);

    pub(super) fn new(source: Source) -> Self {
        Self { source, held: Refreshing::new(Self::MARGIN) }
    }

    /// As [`Source::tell_skew`].
    pub(super) fn tell_skew(&self) {
        self.source.tell_skew();
    }

    /// Those that are held, or new ones where it is time. An error also where those that are held are still good.
    pub(super) async fn renew(&self) -> Result<Arc<SessionCredentials>, CloudError> {
        self.held.renew(|| self.source.make()).await
    }

    /// Until it is worth to look again.
    pub(super) async fn wait(&self) {
        let until_due = self.held.due().and_then(|due| due.duration_since(SystemTime::now()).ok());
        tokio::time::sleep(until_due.map_or(Self::AGAIN, |until| until.clamp(Duration::from_secs(1), Self::AGAIN))).await;
    }
}

impl CredentialSource for Held {
    async fn get(&self) -> Result<Arc<SessionCredentials>, CloudError> {
        self.held.get(|| self.source.make()).await
    }
}
