//! What is asked for: the session of the user, or of a role.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use ekm_otp_cloud::aws::{AssumeRole, GetSessionToken, Mfa};

use super::super::cloud::whole_seconds;
use super::super::error::CliError;
use super::super::shown::{is_plain, printable, shown};

/// A policy is at most 2048 characters (AssumeRole).
const MAX_POLICY: u64 = 64 * 1024;

/// What is asked for: the session of the user, or of a role.
#[derive(Args, Debug)]
#[command(next_help_heading = "Session")]
pub(crate) struct SessionArgs {
    /// The role to assume
    #[arg(long, visible_alias = "role-arn", aliases = ["assume_role_arn", "assume-role-arn", "role_arn", "roleARN"], value_name = "ARN")]
    pub(super) aws_arn: Option<String>,
    /// Whether to assume the role [default: where one is named]
    #[arg(long = "assumeRole", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    assume_role: Option<bool>,
    /// Whether to take the user's own session (GetSessionToken) [default: where no role is named]
    #[arg(long = "get-session-token", alias = "get_session_token", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    get_session_token: Option<bool>,
    /// The role session's name, which AWS logs [default: ekm-otp; with --certificate its serial number]
    #[arg(long, aliases = ["role_session_name", "role-session-name", "session_name"], value_name = "NAME")]
    aws_session_name: Option<String>,
    /// How long the credentials last: 15 minutes to 12 hours for a role, to 36 hours for a user
    #[arg(long, aliases = ["duration_seconds", "duration-seconds", "session-duration"], value_name = "TIME", default_value = "3600", value_parser = whole_seconds)]
    pub(super) duration: Duration,
    /// A session tag; several by several flags, or with commas between
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = tag)]
    tags: Vec<(String, String)>,
    /// The key of a tag that the next role gets, too
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    transitive_tag_keys: Vec<String>,
    /// What the role's owner wants to be told
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// The file with an inline session policy (JSON), which narrows what the session may
    #[arg(long, value_name = "FILE")]
    session_policy_file: Option<PathBuf>,
    /// The ARN of a managed session policy; several by several flags
    #[arg(long, value_name = "ARN")]
    session_policy_arn: Vec<String>,
    /// Who is behind the session
    #[arg(long, value_name = "NAME")]
    source_identity: Option<String>,
    /// The serial number or ARN of a device for multi-factor authentication
    #[arg(long, value_name = "SERIAL", requires = "mfa_code")]
    mfa_serial: Option<String>,
    /// Its six digits
    #[arg(long, value_name = "CODE", requires = "mfa_serial")]
    mfa_code: Option<String>,
}

pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| "it is NAME=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What STS is asked for.
#[derive(Clone, Debug)]
pub(super) enum Session {
    Role(Box<AssumeRole>),
    User(GetSessionToken),
}

impl SessionArgs {
    /// The flags that ask for this again, in a profile.
    pub(super) fn words(&self, role: bool) -> Result<Vec<String>, CliError> {
        if self.mfa_serial.is_some() {
            return Err(CliError::Usage("--mfa-code: a code is good once, and goes into no profile".into()));
        }
        let mut words = vec![format!("--duration {}", self.duration.as_secs())];
        if !role {
            return Ok(words);
        }
        let flag = |name: &str, value: &str| word(value).map(|value| format!("--{name} {value}"));
        words.extend(self.aws_arn.iter().map(|arn| flag("aws-arn", arn)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.session_name().map(|name| flag("aws-session-name", &name)).transpose()?);
        words.extend(self.tags.iter().map(|(key, value)| flag("tags", &format!("{key}={value}"))).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.transitive_tag_keys.iter().map(|key| flag("transitive-tag-keys", key)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.external_id.iter().map(|id| flag("external-id", id)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.session_policy_arn.iter().map(|arn| flag("session-policy-arn", arn)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.source_identity.iter().map(|name| flag("source-identity", name)).collect::<Result<Vec<_>, _>>()?);
        if let Some(file) = &self.session_policy_file {
            words.push(format!("--session-policy-file {}", path_word(file)?));
        }
        Ok(words)
    }

    /// Whether the user's own session is wanted where the user's secret would do, too.
    pub(super) fn is_asked_for(&self) -> bool {
        self.get_session_token == Some(true) || self.mfa_serial.is_some()
    }

    pub(super) fn session_name(&self) -> Option<String> {
        self.aws_session_name.clone().filter(|name| !name.is_empty())
    }

    /// The flags that were given of those that AssumeRole takes, and nothing else.
    fn for_roles(&self) -> Vec<&'static str> {
        let given = [
            ("--tags", !self.tags.is_empty()),
            ("--transitive-tag-keys", !self.transitive_tag_keys.is_empty()),
            ("--external-id", self.external_id.is_some()),
            ("--session-policy-file", self.session_policy_file.is_some()),
            ("--session-policy-arn", !self.session_policy_arn.is_empty()),
            ("--source-identity", self.source_identity.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect()
    }

    /// What Roles Anywhere does not take is not dropped in silence.
    pub(super) fn only_for_sts(&self) -> Result<(), CliError> {
        let mfa = self.mfa_serial.is_some().then_some("--mfa-serial");
        let own =
            [(self.assume_role == Some(false)).then_some("--assumeRole=false"), self.get_session_token.and(Some("--get-session-token"))];
        match self.for_roles().into_iter().chain(mfa).chain(own.into_iter().flatten()).next() {
            None => Ok(()),
            Some(flag) => Err(CliError::Usage(format!(
                "{flag}: Roles Anywhere does not take this: the profile's session policies narrow the session, and its tags come from the certificate"
            ))),
        }
    }

    pub(super) fn session(&self) -> Result<Session, CliError> {
        let arn = self.aws_arn.clone().filter(|arn| !arn.is_empty());
        let wants_role = match (self.assume_role, self.get_session_token) {
            (Some(true), Some(true)) => {
                return Err(CliError::Usage("--assumeRole and --get-session-token: it is one or the other".into()));
            }
            (Some(role), _) => role,
            (None, Some(true)) if arn.is_some() => {
                return Err(CliError::Usage("--get-session-token, and a role is named: leave out one of the two".into()));
            }
            (None, _) => arn.is_some(),
        };
        let mfa = self.mfa_serial.clone().zip(self.mfa_code.clone());
        let mfa = mfa.map(|(serial_number, token_code)| Mfa { serial_number, token_code });
        let duration = Some(self.duration);
        if !wants_role {
            if let Some(flag) = self.for_roles().into_iter().next() {
                return Err(CliError::Usage(format!("{flag}: this is for roles: name one with --aws-arn")));
            }
            return Ok(Session::User(GetSessionToken { duration, mfa }));
        }
        let role_arn = arn.ok_or_else(|| CliError::Usage("--assumeRole: which role? name it with --aws-arn".into()))?;
        Ok(Session::Role(Box::new(AssumeRole {
            role_arn,
            session_name: self.session_name().unwrap_or_else(|| "ekm-otp".into()),
            duration,
            policy: self.session_policy_file.as_deref().map(policy).transpose()?,
            policy_arns: self.session_policy_arn.clone(),
            tags: self.tags.clone(),
            transitive_tag_keys: self.transitive_tag_keys.clone(),
            external_id: self.external_id.clone(),
            source_identity: self.source_identity.clone(),
            mfa,
        })))
    }
}

fn policy(path: &std::path::Path) -> Result<String, CliError> {
    let size = std::fs::metadata(path).map_err(|e| CliError::io("read", path, &e))?.len();
    let text = std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?;
    let is_json = size <= MAX_POLICY && serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.is_object());
    if is_json {
        Ok(text)
    } else {
        Err(CliError::Usage(format!("{}: a session policy is a JSON object of at most 2048 characters", shown(path))))
    }
}

/// A word that neither a shell nor an SDK takes apart.
pub(super) fn word(text: &str) -> Result<String, CliError> {
    match text {
        _ if !text.is_empty() && text.bytes().all(is_plain) => Ok(text.to_owned()),
        _ if text.bytes().all(|b| is_plain(b) || b == b' ') => Ok(format!("\"{text}\"")),
        _ => Err(CliError::Usage(format!("{}: in a profile only letters, digits, blanks and -_.:/=,@+ are safe", printable(text)))),
    }
}

/// A file's name, wherever the program is started.
pub(super) fn path_word(path: &Path) -> Result<String, CliError> {
    os_word(std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?.into_os_string())
}

pub(super) fn os_word(text: OsString) -> Result<String, CliError> {
    word(&text.into_string().map_err(|text| CliError::Usage(format!("{} is no text in UTF-8", text.display())))?)
}
