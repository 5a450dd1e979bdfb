//! `aws whoami`: GetCallerIdentity, directly, by the user's own session, by a role.

use clap::{Args, ValueEnum};
use ekm_otp_cloud::aws::{CallerIdentity, SECRET_PREFIX, SessionCredentials, Signatory, Sts};
use ekm_otp_cloud::{CloudError, SoftwareMac};
use zeroize::Zeroizing;

use super::super::error::CliError;
use super::super::output;
use super::super::shown::printable;
use super::session::{Session, SessionArgs};
use super::source::{Secret, SecretArgs};

#[derive(Args, Debug)]
pub(crate) struct WhoamiArgs {
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    session: SessionArgs,
    /// In one way only [default: directly, and by the session that the other flags describe; by the user's own, too, where that is a role]
    #[arg(long, value_enum, value_name = "WAY")]
    by: Option<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// With the secret in the TPM
    Direct,
    /// With GetSessionToken
    SessionToken,
    /// With AssumeRole
    Role,
}

pub(crate) async fn run(mut args: WhoamiArgs) -> Result<(), CliError> {
    args.secret.settle()?;
    let session = args.session.session()?;
    if args.by == Some(Way::Role) && !matches!(session, Session::Role(_)) {
        return Err(CliError::Usage("--by role: which role? name it with --aws-arn".into()));
    }
    let secret = args.secret.open().await?;
    let is_wanted = |way| args.by.is_none_or(|by| by == way);
    let told = async {
        if is_wanted(Way::Direct) {
            tell("direct", &secret.sts().get_caller_identity().await?)?;
        }
        if is_wanted(Way::SessionToken) {
            let own = match &session {
                Session::User(_) => session.clone(),
                Session::Role(_) => Session::User(Default::default()),
            };
            tell("session token", &by_session(&secret, &own).await?)?;
        }
        if is_wanted(Way::Role) && matches!(session, Session::Role(_)) {
            tell("role", &by_session(&secret, &session).await?)?;
        }
        Ok(())
    };
    let told = told.await;
    secret.tell_skew();
    told
}

/// Who one is with a session's credentials.
async fn by_session(secret: &Secret, session: &Session) -> Result<CallerIdentity, CloudError> {
    let credentials = secret.session(session).await?;
    let key = session_key(&credentials);
    let signatory = Signatory { access_key_id: &credentials.access_key_id, session_token: Some(&credentials.session_token) };
    Sts { signatory, key: &key, ..secret.sts() }.get_caller_identity().await
}

/// The secret of a session is this process's anyway.
fn session_key(credentials: &SessionCredentials) -> SoftwareMac {
    SoftwareMac::new(Zeroizing::new([SECRET_PREFIX, &credentials.secret_access_key].concat().into_bytes()))
}

fn tell(way: &str, identity: &CallerIdentity) -> Result<(), CliError> {
    let CallerIdentity { arn, user_id, account } = identity;
    output::line(&format!("{way:14} {} {} {}", printable(arn), printable(user_id), printable(account)))
}
