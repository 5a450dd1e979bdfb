//! The key of a certificate in the TPM, and what Roles Anywhere makes of it: the session of a role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use ekm_otp_cloud::aws::{CreateSession, RolesAnywhere, RolesAnywhereEndpoint, SessionCredentials};
use ekm_otp_cloud::{Certificates, CloudError, Http, SigningKey};

use super::super::arguments::variable;
use super::super::cloud::read_certificates;
use super::super::error::CliError;
use super::super::shown::{printable, shown};
use super::session::{SessionArgs, path_word, tag, word};
use super::source::SecretArgs;

/// A certificate that stands in for an access key (IAM Roles Anywhere).
#[derive(Args, Debug)]
#[command(next_help_heading = "Roles Anywhere")]
pub(crate) struct CertificateArgs {
    /// The certificate of --key (PEM or DER), alone or with those that lead from it to the trust anchor
    #[arg(long, alias = "public_certificate_file", value_name = "FILE", requires_all = ["trust_anchor_arn", "profile_arn", "aws_arn"])]
    pub(super) certificate: Option<PathBuf>,
    /// The certificates that lead from it to the trust anchor (PEM or DER)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(super) intermediates: Option<PathBuf>,
    /// The trust anchor. Its region is asked unless --aws-region says otherwise
    #[arg(long, alias = "trust_anchor_arn", value_name = "ARN", requires = "certificate")]
    trust_anchor_arn: Option<String>,
    /// The profile, which names the roles that may be had
    #[arg(long, alias = "profile_arn", value_name = "ARN", requires = "certificate")]
    profile_arn: Option<String>,
    /// What this machine tells of itself, for profiles that want it; several by several flags. AWS shows it with the certificate's subject
    #[arg(long = "instance-property", value_name = "NAME=VALUE", value_parser = tag, requires = "certificate")]
    instance_properties: Vec<(String, String)>,
}

/// A certificate, its key, and what is asked for.
pub(super) struct CertifiedKey {
    pub(super) http: Http,
    endpoint: RolesAnywhereEndpoint,
    certificates: Certificates,
    key: Box<dyn SigningKey>,
    call: CreateSession,
}

impl CertificateArgs {
    /// What is asked for. Nothing is opened.
    pub(super) fn call(&self, session: &SessionArgs) -> Result<CreateSession, CliError> {
        let call = CreateSession {
            trust_anchor_arn: self.trust_anchor_arn.clone().unwrap_or_default(),
            profile_arn: self.profile_arn.clone().unwrap_or_default(),
            role_arn: session.aws_arn.clone().unwrap_or_default(),
            duration: session.duration,
            role_session_name: session.session_name(),
            instance_properties: self.properties()?,
        };
        session.only_for_sts()?;
        call.must_be_possible()?;
        Ok(call)
    }

    /// The flags that say the same again, in a profile. A certificate that cannot do is told now.
    pub(super) fn words(&self, certificate: &Path) -> Result<Vec<String>, CliError> {
        read_certificates(certificate, self.intermediates.as_deref())?;
        let mut words = vec![format!("--certificate {}", path_word(certificate)?)];
        if let Some(intermediates) = &self.intermediates {
            words.push(format!("--intermediates {}", path_word(intermediates)?));
        }
        for (flag, arn) in [("trust-anchor-arn", &self.trust_anchor_arn), ("profile-arn", &self.profile_arn)] {
            words.extend(arn.iter().map(|arn| Ok(format!("--{flag} {}", word(arn)?))).collect::<Result<Vec<_>, CliError>>()?);
        }
        for (name, value) in self.properties()? {
            words.push(format!("--instance-property {}", word(&format!("{name}={value}"))?));
        }
        Ok(words)
    }

    /// `None` where no certificate is named. Opens the TPM, and asks for a password where one is wanted.
    pub(super) async fn open(&self, secret: &SecretArgs, session: &SessionArgs) -> Result<Option<CertifiedKey>, CliError> {
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let certificates = read_certificates(certificate, self.intermediates.as_deref())?;
        let call = self.call(session)?;
        let endpoint = endpoint_of(secret, &call)?;
        let (http, key) = (secret.http.http()?, secret.key.signing_key().await?);
        certificates.leaf.must_certify(key.public_key()).map_err(|e| CliError::Usage(format!("{}: {e}", shown(certificate))))?;
        Ok(Some(CertifiedKey { http, endpoint, certificates, key, call }))
    }

    fn properties(&self) -> Result<BTreeMap<String, String>, CliError> {
        let mut properties = BTreeMap::new();
        for (name, value) in &self.instance_properties {
            if properties.insert(name.clone(), value.clone()).is_some() {
                return Err(CliError::Usage(format!("--instance-property {}: twice", printable(name))));
            }
        }
        Ok(properties)
    }
}

/// The region that is asked: the trust anchor's unless another is named.
pub(super) fn region_of(secret: &SecretArgs, call: &CreateSession) -> Result<String, CliError> {
    let from_arn = call.region()?;
    Ok(secret.aws_region.clone().filter(|region| !region.is_empty()).unwrap_or(from_arn))
}

pub(super) fn endpoint_of(secret: &SecretArgs, call: &CreateSession) -> Result<RolesAnywhereEndpoint, CliError> {
    let region = region_of(secret, call)?;
    roles_anywhere_endpoint(secret.endpoint.as_deref(), &region, secret.is_fips()?)
}

/// The Roles Anywhere at `url`, or at the environment's, or the region's.
pub(crate) fn roles_anywhere_endpoint(url: Option<&str>, region: &str, is_fips: bool) -> Result<RolesAnywhereEndpoint, CliError> {
    Ok(match url.map(str::to_owned).or_else(|| variable("AWS_ENDPOINT_URL_ROLESANYWHERE")) {
        Some(url) => RolesAnywhereEndpoint::at(&url, region)?,
        None => RolesAnywhereEndpoint::regional(region, is_fips)?,
    })
}

impl CertifiedKey {
    /// One TPM2_Sign, one request.
    pub(super) async fn session(&self) -> Result<SessionCredentials, CloudError> {
        let Self { http, endpoint, certificates, key, call } = self;
        RolesAnywhere { http, endpoint, certificates, key: &**key }.create_session(call).await
    }

    pub(super) fn role_arn(&self) -> &str {
        &self.call.role_arn
    }
}
