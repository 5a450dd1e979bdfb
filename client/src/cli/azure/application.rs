//! Which application of Entra ID, and the key of its certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use ekm_otp_cloud::azure::{Application, Assertion, AssertionAlgorithm, Authority, TokenEndpoint};
use ekm_otp_cloud::{Certificates, CloudError, Http, SigningKey};
use zeroize::Zeroizing;

use super::super::cloud::{CloudKeyArgs, read_certificates};
use super::super::error::CliError;

/// Which application, and how it shows that it is the one.
#[derive(Args, Debug)]
#[command(next_help_heading = "Application")]
pub(crate) struct ApplicationArgs {
    /// The tenant's id
    #[arg(long, alias = "tenant_id", value_name = "ID")]
    tenant_id: String,
    /// The application's (client) id
    #[arg(long, alias = "client_id", value_name = "ID")]
    client_id: String,
    /// The certificate of --key that is registered for it (PEM or DER)
    #[arg(long, alias = "certificate_path", value_name = "FILE")]
    certificate: PathBuf,
    /// The cloud: public, usgov, china, or a URL
    #[arg(long, value_name = "CLOUD", default_value = "public", env = "AZURE_AUTHORITY_HOST", value_parser = authority)]
    authority: Authority,
    /// How to sign [default: PS256 where the key does, else RS256]
    #[arg(long, value_enum, value_name = "ALGORITHM")]
    alg: Option<AlgorithmArg>,
    /// Send the certificates, too: for applications that are registered by subject name and issuer
    #[arg(long)]
    x5c: bool,
    #[command(flatten)]
    key: CloudKeyArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
enum AlgorithmArg {
    Ps256,
    Rs256,
}

fn authority(text: &str) -> Result<Authority, String> {
    text.parse().map_err(|e: CloudError| e.to_string())
}

/// An application whose key is at hand.
pub(super) struct Opened {
    pub(super) application: Application,
    certificates: Certificates,
    pub(super) key: Arc<dyn SigningKey>,
    algorithm: Option<AssertionAlgorithm>,
    with_chain: bool,
}

impl ApplicationArgs {
    /// Opens the TPM, and asks for a password where one is wanted.
    pub(super) async fn open(&self) -> Result<Opened, CliError> {
        let application = Application::new(self.authority.clone(), &self.tenant_id, &self.client_id)?;
        let certificates = read_certificates(&self.certificate, None)?;
        let algorithm = self.alg.map(|alg| match alg {
            AlgorithmArg::Ps256 => AssertionAlgorithm::Ps256,
            AlgorithmArg::Rs256 => AssertionAlgorithm::Rs256,
        });
        Ok(Opened { application, certificates, key: self.key.signing_key().await?.into(), algorithm, with_chain: self.x5c })
    }
}

impl Opened {
    pub(super) fn endpoint<'a>(&'a self, http: &'a Http) -> TokenEndpoint<'a> {
        let Self { application, certificates, key, algorithm, with_chain } = self;
        TokenEndpoint { http, application, certificates, key: &**key, algorithm: *algorithm, with_chain: *with_chain }
    }

    pub(super) async fn assertion(&self, lifetime: Duration) -> Result<Zeroizing<String>, CliError> {
        // No service is asked, so the clock here is believed.
        let now = SystemTime::now();
        self.certificates.leaf.must_be_valid(now).map_err(|e| CliError::Usage(e.to_string()))?;
        let Self { application, certificates, .. } = self;
        let assertion = Assertion { application, certificates, lifetime, with_chain: self.with_chain };
        Ok(assertion.sign(&*self.key, self.algorithm, now).await?)
    }
}
