//! The clouds: whether they take what the key makes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use ekm_otp_client::cloud::{TpmMac, TpmSigner};
use ekm_otp_cloud::aws::{AssumeRole, CreateSession, RolesAnywhere, Signatory, Sts};
use ekm_otp_cloud::azure::{Application, Authority, CertificateCredential, TokenEndpoint};
use ekm_otp_cloud::gcp::{CLOUD_PLATFORM, Grant, TokenService};
use ekm_otp_cloud::{CloudError, Http, PublicKey};
use ekm_otp_tpm::TpmKey;

use super::report::{Fault, Report};
use crate::cli::arguments::variable;
use crate::cli::aws::{region, roles_anywhere_endpoint, sts_endpoint};
use crate::cli::cloud::{http, read_certificates};
use crate::cli::error::CliError;
use crate::cli::gcp::read_profile;

#[derive(Args, Debug)]
#[command(next_help_heading = "Cloud")]
pub(crate) struct CloudArgs {
    /// Ask AWS whether --key holds the secret of this access key
    #[arg(long, value_name = "ACCESS_KEY_ID", requires = "key", group = "cloud")]
    aws: Option<String>,
    /// Ask AWS Roles Anywhere for a session by --certificate
    #[arg(long, value_name = "ARN", requires_all = ["key", "certificate", "profile_arn", "role_arn"], group = "cloud")]
    trust_anchor_arn: Option<String>,
    /// The profile, with --trust-anchor-arn
    #[arg(long, value_name = "ARN", requires = "trust_anchor_arn")]
    profile_arn: Option<String>,
    /// The role, with --trust-anchor-arn; with --aws, whether that user may assume it
    #[arg(long, alias = "aws-arn", value_name = "ARN", requires = "cloud", conflicts_with_all = ["gcp", "azure"])]
    role_arn: Option<String>,
    /// The region that is asked [default: the global STS; the trust anchor's]
    #[arg(long, value_name = "REGION")]
    aws_region: Option<String>,
    /// Ask Google for a token of the service account in this profile
    #[arg(long, value_name = "PROFILE", requires = "key", group = "cloud")]
    gcp: Option<PathBuf>,
    /// Ask Entra ID for a token of an application in this tenant, by --certificate
    #[arg(long, value_name = "TENANT_ID", requires_all = ["key", "certificate", "client_id"], group = "cloud")]
    azure: Option<String>,
    /// The application, with --azure
    #[arg(long, value_name = "CLIENT_ID", requires = "azure")]
    client_id: Option<String>,
    /// The certificate of --key (PEM or DER)
    #[arg(long, value_name = "FILE", requires = "cloud")]
    certificate: Option<PathBuf>,
    /// The certificates that lead from it to the trust anchor (PEM or DER)
    #[arg(long, value_name = "FILE", requires = "trust_anchor_arn")]
    intermediates: Option<PathBuf>,
    /// The URL of the service that is asked, where it is not the usual one: STS, Roles Anywhere, Google's token endpoint, Entra's authority
    #[arg(long, value_name = "URL", requires = "cloud")]
    endpoint: Option<String>,
}

impl CloudArgs {
    /// Whether the key is to sign. AWS's secret is to make MACs.
    pub(super) fn wants_signature(&self) -> bool {
        self.trust_anchor_arn.is_some() || self.gcp.is_some() || self.azure.is_some()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.aws.is_some() || self.wants_signature()
    }

    /// The cloud's lines. `key` is `None` where it cannot be used: its own lines say why.
    pub(super) async fn check(
        &self,
        report: &mut Report,
        key: Option<TpmKey>,
        ca: Option<&Path>,
        within: Duration,
    ) -> Result<(), CliError> {
        let Some(key) = key else {
            report.warning(
                "cloud",
                "not asked: the key cannot be used, or is of another kind",
                "see above; docs/aws.md, gcp.md and azure.md tell the kind",
            );
            return Ok(());
        };
        let http = http(ca, within)?;
        let asked = match (&self.aws, &self.gcp, &self.azure) {
            (Some(id), ..) => self.ask_sts(&http, id, key).await,
            (_, Some(profile), _) => self.ask_google(&http, profile, key).await,
            (_, _, Some(tenant)) => self.ask_entra(report, &http, tenant, key).await,
            _ => self.ask_roles_anywhere(report, &http, key).await,
        };
        if let Some(told) = http.clock().told() {
            report.warning("clock", told, "commands here correct it by themselves; other programs on this machine do not");
        }
        match asked {
            Ok(found) => report.ok("cloud", found),
            Err(error) => {
                let advice = match Fault::of(&error) {
                    Fault::Unavailable => "look at the network, proxies (HTTPS_PROXY), --endpoint, and for AWS the region",
                    _ => "docs/aws.md, docs/gcp.md and docs/azure.md list what each refusal means",
                };
                report.problem("cloud", Fault::of(&error), error.to_string(), advice);
            }
        }
        Ok(())
    }

    async fn ask_sts(&self, http: &Http, access_key_id: &str, key: TpmKey) -> Result<String, CliError> {
        let endpoint = sts_endpoint(self.endpoint.as_deref(), None, region(self.aws_region.as_deref()))?;
        let signatory = Signatory { access_key_id, session_token: None };
        let key = TpmMac(key);
        let sts = Sts { http, endpoint: &endpoint, signatory, key: &key };
        let identity = sts.get_caller_identity().await?;
        let takes = format!("STS takes what the key signs: {}", identity.arn);
        let Some(role_arn) = &self.role_arn else { return Ok(takes) };
        let role = AssumeRole {
            role_arn: role_arn.clone(),
            session_name: "ekm-otp".to_owned(),
            duration: Some(Duration::from_secs(900)),
            ..AssumeRole::default()
        };
        let session = sts.assume_role(&role).await?;
        Ok(format!("{takes}, and gives sessions of {role_arn}, the last until {}", session.expiration_text()))
    }

    async fn ask_google(&self, http: &Http, profile: &PathBuf, key: TpmKey) -> Result<String, CliError> {
        let mut account = read_profile(profile, self.endpoint.as_deref())?;
        account.token_uri = self.endpoint.clone().or(account.token_uri);
        let key = TpmSigner::new(key).await?;
        let service = TokenService { http, account: &account, key: &key, iam_endpoint: None };
        service.grant(&Grant::Access(vec![CLOUD_PLATFORM.into()]), None).await?;
        Ok(format!("Google gives tokens to {}", account.email))
    }

    /// The certificate, once its own lines are told.
    fn certificates(&self, report: &mut Report, key: &PublicKey) -> Result<ekm_otp_cloud::Certificates, CliError> {
        let path = self.certificate.as_ref().ok_or_else(|| CliError::Usage("--certificate is missing".into()))?;
        let certificates = read_certificates(path, self.intermediates.as_deref())?;
        let leaf = &certificates.leaf;
        leaf.must_certify(key).map_err(|e| CliError::Usage(e.to_string()))?;
        match leaf.must_be_valid(SystemTime::now()) {
            Ok(()) => report.ok("certificate", format!("{}, until {}", leaf.subject(), leaf.validity_text().1)),
            Err(e) => report.problem("certificate", Fault::Other, e.to_string(), "or set the clock of this machine, if that is wrong"),
        }
        Ok(certificates)
    }

    async fn ask_roles_anywhere(&self, report: &mut Report, http: &Http, key: TpmKey) -> Result<String, CliError> {
        let key = TpmSigner::new(key).await?;
        let certificates = self.certificates(report, ekm_otp_cloud::SigningKey::public_key(&key))?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let call = CreateSession {
            trust_anchor_arn: text(&self.trust_anchor_arn),
            profile_arn: text(&self.profile_arn),
            role_arn: text(&self.role_arn),
            duration: Duration::from_secs(900),
            role_session_name: None,
            instance_properties: std::collections::BTreeMap::new(),
        };
        let region = self.aws_region.clone().map_or_else(|| call.region(), Ok)?;
        let endpoint = roles_anywhere_endpoint(self.endpoint.as_deref(), &region, false)?;
        let session = RolesAnywhere { http, endpoint: &endpoint, certificates: &certificates, key: &key }.create_session(&call).await?;
        Ok(format!("Roles Anywhere gives sessions of {}, the last until {}", call.role_arn, session.expiration_text()))
    }

    async fn ask_entra(&self, report: &mut Report, http: &Http, tenant: &str, key: TpmKey) -> Result<String, CliError> {
        let key = TpmSigner::new(key).await?;
        let certificates = self.certificates(report, ekm_otp_cloud::SigningKey::public_key(&key))?;
        let authority = self.endpoint.clone().or_else(|| variable("AZURE_AUTHORITY_HOST"));
        let authority: Authority = authority.as_deref().unwrap_or("public").parse().map_err(|e: CloudError| CliError::from(e))?;
        let client_id = self.client_id.as_deref().unwrap_or_default();
        let application = Application::new(authority, tenant, client_id)?;
        let credential = CertificateCredential::new(application, certificates, Box::new(key), None, false)?;
        // Microsoft Graph is in every tenant.
        TokenEndpoint { http, credential: &credential }.token(&["https://graph.microsoft.com/.default".to_owned()]).await?;
        Ok(format!("Entra ID gives tokens to {client_id}"))
    }
}
