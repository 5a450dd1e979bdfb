//! The long-lived secret in the TPM, and what is made of it: the session of a user, or of a role.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use ekm_otp_cloud::aws::{AssumeRole, GetSessionToken, Mfa, SECRET_PREFIX, SessionCredentials, Signatory, Sts, StsEndpoint};
use ekm_otp_cloud::{CloudError, Http, MacKey};
use ekm_otp_tpm::{Parent, Password, PrimaryAlgorithm};
use zeroize::Zeroizing;

use super::super::arguments::{KeyRef, Known, persistent_handle};
use super::super::cloud::{CloudKeyArgs, HttpArgs, duration};
use super::super::error::CliError;
use super::super::output::note;
use super::super::shown::{printable, shown};

/// A policy is at most 2048 characters (AssumeRole).
const MAX_POLICY: u64 = 64 * 1024;

/// Whose secret, where it is, and which STS is asked.
#[derive(Args, Debug)]
pub(crate) struct SecretArgs {
    /// The access key id whose secret is in the TPM [wanted, but with --certificate]
    #[arg(long, aliases = ["aws_access_key_id", "access_key", "accessKeyID"], value_name = "ID", value_parser = access_key_id, help_heading = "Key")]
    pub(super) aws_access_key_id: Option<String>,
    /// A persistent handle, as --key handle:HANDLE
    #[arg(long = "persistentHandle", value_name = "HANDLE", value_parser = persistent_handle, conflicts_with_all = ["key", "software_key"], help_heading = "Key")]
    persistent_handle: Option<u32>,
    /// The key's password. Everybody on this machine can read it: --password-file, $TPM_KEY_AUTH or a prompt are better
    #[arg(long = "keypass", aliases = ["keyPass", "password"], value_name = "PASSWORD", hide_short_help = true, help_heading = "Key")]
    key_pass: Option<Shown>,
    /// The parent's password. Everybody on this machine can read it: --parent-password-file or $TPM_PARENT_AUTH are better
    #[arg(long = "parentPass", aliases = ["ownerpassword"], value_name = "PASSWORD", hide_short_help = true, help_heading = "Key")]
    parent_pass: Option<Shown>,
    /// Whether the key lies under the RSA endorsement key, as --parent-template ek-rsa
    #[arg(long = "useEKParent", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new(), conflicts_with = "parent_template", hide_short_help = true, help_heading = "Key")]
    use_ek_parent: Option<bool>,
    /// The TPM's device or HOST:PORT, as --tcti device:PATH or swtpm:host=HOST,port=PORT
    #[arg(long, value_name = "PATH", conflicts_with = "tcti", hide_short_help = true, help_heading = "TPM")]
    tpm_path: Option<String>,
    /// How long the TPM may take for each answer [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration, hide_short_help = true, help_heading = "TPM")]
    tpm_timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) key: CloudKeyArgs,
    /// The region whose STS is asked, and that signatures are for [default: $AWS_REGION, $AWS_DEFAULT_REGION; then the global STS]
    #[arg(long, aliases = ["region", "awsRegion"], value_name = "REGION", help_heading = "Network")]
    pub(super) aws_region: Option<String>,
    /// Which STS
    #[arg(long, value_enum, value_name = "WHICH", conflicts_with = "endpoint", help_heading = "Network")]
    sts_endpoint: Option<WhichSts>,
    /// The URL of the STS [or: $AWS_ENDPOINT_URL_STS], with --certificate that of Roles Anywhere [or: $AWS_ENDPOINT_URL_ROLESANYWHERE]
    #[arg(long, aliases = ["endpoint-url"], value_name = "URL", help_heading = "Network")]
    pub(super) endpoint: Option<String>,
    #[command(flatten)]
    pub(super) http: HttpArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhichSts {
    /// That of --aws-region
    Regional,
    /// sts.amazonaws.com
    Global,
    /// That of --aws-region with validated cryptography (FIPS 140)
    Fips,
}

/// What is asked for: the session of the user, or of a role.
#[derive(Args, Debug)]
#[command(next_help_heading = "Session")]
pub(crate) struct SessionArgs {
    /// The role to assume
    #[arg(long, aliases = ["assume_role_arn", "assume-role-arn", "role-arn", "role_arn", "roleARN"], value_name = "ARN")]
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
    #[arg(long, aliases = ["duration_seconds", "duration-seconds", "session-duration"], value_name = "TIME", default_value = "3600", value_parser = duration)]
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

/// A password that stood in an argument.
#[derive(Clone)]
struct Shown(Zeroizing<String>);

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}

fn access_key_id(text: &str) -> Result<String, String> {
    let is_one = (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_one {
        Ok(text.to_owned())
    } else {
        Err("an access key id is 16 to 128 letters and digits, such as AKIAIOSFODNN7EXAMPLE".to_owned())
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| "a tag is KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What the seeds' `--tpm-path` says, as a TCTI.
fn tcti_of(path: &str) -> String {
    match path.rsplit_once(':') {
        _ if path.starts_with('/') => format!("device:{path}"),
        Some((host, port)) if !host.contains(':') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("swtpm:host={host},port={port}")
        }
        _ => path.to_owned(),
    }
}

/// An STS, and the key that its requests are signed with.
pub(super) struct Secret {
    pub(super) http: Http,
    pub(super) endpoint: StsEndpoint,
    pub(super) access_key_id: String,
    pub(super) key: Box<dyn MacKey>,
}

impl SecretArgs {
    /// Puts what was given under the seeds' names where it belongs.
    pub(super) fn settle(&mut self) -> Result<(), CliError> {
        if let Some(handle) = self.persistent_handle.take() {
            self.key.key = Some(KeyRef::Handle(handle, Known::default()));
        }
        if self.use_ek_parent.take() == Some(true) {
            self.key.use_key.parent_template = Some(Parent::EndorsementKey(PrimaryAlgorithm::Rsa));
        }
        let tpm = &mut self.key.use_key.tpm;
        if let Some(path) = self.tpm_path.take() {
            tpm.tcti = Some(tcti_of(&path));
        }
        tpm.deadline = self.tpm_timeout.take().or(tpm.deadline);
        let given = |flag: &str, better: &str, Shown(text): Shown| {
            note!("ekm-otp-client: warning: {flag}: everybody on this machine can read the password; {better} keeps it to you");
            Password::new(text.as_bytes().to_vec()).map_err(|e| CliError::Usage(format!("{flag}: {e}")))
        };
        if let Some(text) = self.parent_pass.take().filter(|shown| !shown.0.is_empty()) {
            tpm.parent_password = Some(given("--parentPass", "$TPM_PARENT_AUTH", text)?);
        }
        if let Some(text) = self.key_pass.take().filter(|shown| !shown.0.is_empty()) {
            self.key.use_key.password = Some(given("--keypass", "$TPM_KEY_AUTH", text)?);
        }
        Ok(())
    }

    /// The flags that say the same again, in a profile: but for the key.
    pub(super) fn words(&self) -> Result<Vec<String>, CliError> {
        let region = self.region().map(|region| Ok(format!("--aws-region {}", word(&region)?)));
        let which =
            self.sts_endpoint.and_then(|which| which.to_possible_value()).map(|which| Ok(format!("--sts-endpoint {}", which.get_name())));
        let endpoint = self.endpoint.as_ref().map(|url| Ok(format!("--endpoint {}", word(url)?)));
        let ca = self.http.ca_file.as_ref().map(|path| {
            let path = std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?;
            Ok(format!("--ca-file {}", word(&path.to_string_lossy())?))
        });
        [region, which, endpoint, ca].into_iter().flatten().collect()
    }

    /// The region that was named, by flag or environment.
    pub(super) fn region(&self) -> Option<String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let flag = self.aws_region.clone().filter(|region| !region.is_empty());
        flag.or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"))
    }

    pub(super) fn sts(&self) -> Result<StsEndpoint, CliError> {
        let region = self.region();
        let url = self.endpoint.clone().or_else(|| std::env::var("AWS_ENDPOINT_URL_STS").ok().filter(|url| !url.is_empty()));
        let endpoint = match (url.filter(|_| self.sts_endpoint.is_none()), self.sts_endpoint, region) {
            (Some(url), _, region) => StsEndpoint::at(&url, region.as_deref().unwrap_or("us-east-1"))?,
            (None, Some(WhichSts::Global), _) | (None, None, None) => StsEndpoint::global(),
            (None, which, Some(region)) => StsEndpoint::regional(&region, which == Some(WhichSts::Fips))?,
            (None, Some(_), None) => return Err(CliError::Usage("--sts-endpoint: this takes a region: name one with --aws-region".into())),
        };
        Ok(endpoint)
    }

    /// What tells these apart from others, for a cache: which key, whose, and which STS.
    pub(super) fn identity(&self) -> Result<String, CliError> {
        let absolute = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let key = match (&self.key.key, &self.key.software_key) {
            (Some(KeyRef::File(path)), _) => format!("{:?} {:?}", absolute(path), self.key.use_key.tpm.tcti()?),
            (Some(handle), _) => format!("{handle:?} {:?}", self.key.use_key.tpm.tcti()?),
            (None, path) => format!("{:?}", path.as_deref().map(absolute)),
        };
        Ok(format!("{:?} {key} {:?} {:?}", self.aws_access_key_id, self.sts()?, self.endpoint))
    }

    pub(super) fn access_key_id(&self) -> Result<&str, CliError> {
        let missing = || CliError::Usage("--aws-access-key-id is missing: whose secret is the key?".into());
        self.aws_access_key_id.as_deref().ok_or_else(missing)
    }

    /// Whether it is to be the endpoint with validated cryptography. There is no global one of other services than STS.
    pub(super) fn is_fips(&self) -> Result<bool, CliError> {
        match self.sts_endpoint {
            Some(WhichSts::Global) => Err(CliError::Usage("--sts-endpoint global: there is no such Roles Anywhere".into())),
            which => Ok(which == Some(WhichSts::Fips)),
        }
    }

    /// Opens the TPM, and asks for a password where one is wanted.
    pub(super) async fn open(&self) -> Result<Secret, CliError> {
        self.access_key_id()?;
        let (http, endpoint) = (self.http.http()?, self.sts()?);
        let key = self.key.mac_key(SECRET_PREFIX).await?;
        Ok(Secret { http, endpoint, access_key_id: self.access_key_id()?.to_owned(), key })
    }
}

impl Secret {
    pub(super) fn signatory(&self) -> Signatory<'_> {
        Signatory { access_key_id: &self.access_key_id, session_token: None }
    }

    pub(super) fn sts(&self) -> Sts<'_> {
        Sts { http: &self.http, endpoint: &self.endpoint, signatory: self.signatory(), key: &*self.key }
    }

    /// One TPM2_HMAC, one request.
    pub(super) async fn session(&self, session: &Session) -> Result<SessionCredentials, CloudError> {
        match session {
            Session::Role(role) => self.sts().assume_role(role).await,
            Session::User(user) => self.sts().get_session_token(user).await,
        }
    }

    /// What is worth a word to people: that the clock was corrected.
    pub(super) fn tell_skew(&self) {
        if let Some(told) = self.http.clock().told() {
            note!("ekm-otp-client: warning: {told}");
        }
    }
}

/// A word that neither a shell nor an SDK takes apart.
pub(super) fn word(text: &str) -> Result<String, CliError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/=,@+".contains(&b);
    match text {
        _ if !text.is_empty() && text.bytes().all(is_plain) => Ok(text.to_owned()),
        _ if text.bytes().all(|b| is_plain(b) || b == b' ') => Ok(format!("\"{text}\"")),
        _ => Err(CliError::Usage(format!("{}: in a profile only letters, digits, blanks and -_.:/=,@+ are safe", printable(text)))),
    }
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
        let mut words = vec![format!("--duration {}", self.duration.as_secs())];
        if !role {
            return Ok(words);
        }
        let flag = |name: &str, value: &str| word(value).map(|value| format!("--{name} {value}"));
        let path = |path: &std::path::Path| std::path::absolute(path).map_err(|e| CliError::io("find", path, &e));
        words.extend(self.aws_arn.iter().map(|arn| flag("aws-arn", arn)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.session_name().map(|name| flag("aws-session-name", &name)).transpose()?);
        words.extend(self.tags.iter().map(|(key, value)| flag("tags", &format!("{key}={value}"))).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.transitive_tag_keys.iter().map(|key| flag("transitive-tag-keys", key)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.external_id.iter().map(|id| flag("external-id", id)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.session_policy_arn.iter().map(|arn| flag("session-policy-arn", arn)).collect::<Result<Vec<_>, _>>()?);
        words.extend(self.source_identity.iter().map(|name| flag("source-identity", name)).collect::<Result<Vec<_>, _>>()?);
        if let Some(file) = &self.session_policy_file {
            words.push(flag("session-policy-file", &path(file)?.to_string_lossy())?);
        }
        if self.mfa_serial.is_some() {
            return Err(CliError::Usage("--mfa-code: a code is good once, and goes into no profile".into()));
        }
        Ok(words)
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
