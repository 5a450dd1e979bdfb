//! The long-lived secret in the TPM, and what is made of it: the session of a user, or of a role.

use std::fmt;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use ekm_otp_cloud::aws::{SECRET_PREFIX, SessionCredentials, Signatory, Sts, StsEndpoint};
use ekm_otp_cloud::{CloudError, Http, MacKey};
use ekm_otp_tpm::{Parent, Password, PrimaryAlgorithm};
use zeroize::Zeroizing;

use super::super::arguments::{KeyRef, Known, persistent_handle, variable};
use super::super::cloud::{CloudKeyArgs, HttpArgs};
use super::super::error::CliError;
use super::super::moment::duration;
use super::super::output::note;
use super::session::{Session, path_word, word};

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
    #[arg(long = "keypass", aliases = ["keyPass", "password"], value_name = "PASSWORD", allow_hyphen_values = true, hide_short_help = true, help_heading = "Key")]
    key_pass: Option<Shown>,
    /// The parent's password. Everybody on this machine can read it: --parent-password-file or $TPM_PARENT_AUTH are better
    #[arg(long = "parentPass", aliases = ["ownerpassword"], value_name = "PASSWORD", allow_hyphen_values = true, hide_short_help = true, help_heading = "Key")]
    parent_pass: Option<Shown>,
    /// Whether the key lies under the RSA endorsement key, as --parent-template ek-rsa
    #[arg(long = "useEKParent", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new(), conflicts_with = "parent_template", hide_short_help = true, help_heading = "Key")]
    use_ek_parent: Option<bool>,
    /// The TPM's device or HOST:PORT, as --tcti device:PATH or swtpm:host=HOST,port=PORT
    #[arg(long, value_name = "PATH", conflicts_with = "tcti", hide_short_help = true, help_heading = "TPM")]
    tpm_path: Option<String>,
    /// How long the TPM may take for each answer [default: as --timeout]
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
    /// The URL of the STS [or: $AWS_ENDPOINT_URL_STS], with --certificate that of Roles Anywhere [or: $AWS_ENDPOINT_URL_ROLESANYWHERE]; of the commands `kms` that of
    /// KMS [or: $AWS_ENDPOINT_URL_KMS]
    #[arg(long, aliases = ["endpoint-url"], value_name = "URL", help_heading = "Network")]
    pub(super) endpoint: Option<String>,
    #[command(flatten)]
    pub(super) http: HttpArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhichSts {
    /// That of --aws-region
    Regional,
    /// sts.amazonaws.com
    Global,
    /// That of --aws-region with validated cryptography (FIPS 140)
    Fips,
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

/// The region that is named, by flag or environment.
pub(crate) fn region(flag: Option<&str>) -> Option<String> {
    let flag = flag.filter(|region| !region.is_empty()).map(str::to_owned);
    flag.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"))
}

/// The STS at `url`, or at the environment's, or the one that is meant.
pub(crate) fn sts_endpoint(url: Option<&str>, which: Option<WhichSts>, region: Option<String>) -> Result<StsEndpoint, CliError> {
    let url = url.map(str::to_owned).or_else(|| variable("AWS_ENDPOINT_URL_STS"));
    let endpoint = match (url.filter(|_| which.is_none()), which, region) {
        (Some(url), _, region) => StsEndpoint::at(&url, region.as_deref().or(region_of(&url)).unwrap_or("us-east-1"))?,
        (None, Some(WhichSts::Global), _) | (None, None, None) => StsEndpoint::global(),
        (None, which, Some(region)) => StsEndpoint::regional(&region, which == Some(WhichSts::Fips))?,
        (None, Some(_), None) => return Err(CliError::Usage("--sts-endpoint: this takes a region: name one with --aws-region".into())),
    };
    Ok(endpoint)
}

/// The region in the name of a regional STS.
fn region_of(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://")?.split(['/', ':']).next()?;
    host.strip_prefix("sts.").or(host.strip_prefix("sts-fips."))?.split(".amazonaws.").next().filter(|region| region.contains('-'))
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
        tpm.deadline = Some(self.tpm_timeout.take().unwrap_or(self.http.timeout));
        let given = |flag: &str, better: &str, Shown(text): Shown| {
            note!("ekm-otp-client: warning: {flag}: everybody on this machine can read the password; {better} keeps it to you");
            Password::new(text.as_bytes().to_vec()).map_err(|e| CliError::Usage(format!("{flag}: {e}")))
        };
        if let Some(text) = self.parent_pass.take().filter(|shown| !shown.0.is_empty()) {
            // Of a persistent parent it is the password; a primary has none, and its hierarchy is meant.
            let password = given("--parentPass", "$TPM_PARENT_AUTH or $TPM_OWNER_AUTH", text)?;
            tpm.owner_password = Some(password.clone());
            tpm.parent_password = Some(password);
        }
        if let Some(text) = self.key_pass.take().filter(|shown| !shown.0.is_empty()) {
            self.key.use_key.password = Some(given("--keypass", "$TPM_KEY_AUTH", text)?);
        }
        Ok(())
    }

    /// The flags that say the same again, in a profile: but for the key.
    pub(super) fn words(&self, region: Option<&str>) -> Result<Vec<String>, CliError> {
        let region = region.map(|region| Ok(format!("--aws-region {}", word(region)?)));
        let which =
            self.sts_endpoint.and_then(|which| which.to_possible_value()).map(|which| Ok(format!("--sts-endpoint {}", which.get_name())));
        let endpoint = self.endpoint.as_ref().map(|url| Ok(format!("--endpoint {}", word(url)?)));
        let ca = self.http.ca_file.as_ref().map(|path| Ok(format!("--ca-file {}", path_word(path)?)));
        let (timeout, tpm) = (self.http.timeout, self.key.use_key.tpm.deadline);
        let tpm = tpm.filter(|tpm| *tpm != timeout).map(|tpm| Ok(format!("--tpm-timeout {}ms", tpm.as_millis())));
        let timeout = (timeout != Duration::from_secs(30)).then(|| Ok(format!("--timeout {}ms", timeout.as_millis())));
        [region, which, endpoint, ca, timeout, tpm].into_iter().flatten().collect()
    }

    /// The region that was named, by flag or environment.
    pub(super) fn region(&self) -> Option<String> {
        region(self.aws_region.as_deref())
    }

    pub(super) fn sts(&self) -> Result<StsEndpoint, CliError> {
        sts_endpoint(self.endpoint.as_deref(), self.sts_endpoint, self.region())
    }

    /// What tells these apart from others, for a cache: which key, and whose.
    pub(super) fn identity(&self) -> Result<String, CliError> {
        let absolute = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let key = match (&self.key.key, &self.key.software_key) {
            (Some(KeyRef::File(path)), _) => format!("{:?} {:?}", absolute(path), self.key.use_key.tpm.tcti()?),
            (Some(handle), _) => format!("{handle:?} {:?}", self.key.use_key.tpm.tcti()?),
            (None, path) => format!("{:?}", path.as_deref().map(absolute)),
        };
        Ok(format!("{:?} {key}", self.aws_access_key_id))
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
