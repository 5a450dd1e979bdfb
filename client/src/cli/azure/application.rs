//! Which application of Entra ID, and the key of its certificate.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use ekm_otp_cloud::CloudError;
use ekm_otp_cloud::azure::{Application, AssertionAlgorithm, Authority, CertificateCredential};
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

impl ApplicationArgs {
    /// Opens the TPM, and asks for a password where one is wanted.
    pub(super) async fn open(&self) -> Result<CertificateCredential, CliError> {
        let application = Application::new(self.authority.clone(), &self.tenant_id, &self.client_id)?;
        let certificates = read_certificates(&self.certificate, None)?;
        let algorithm = self.alg.map(|alg| match alg {
            AlgorithmArg::Ps256 => AssertionAlgorithm::Ps256,
            AlgorithmArg::Rs256 => AssertionAlgorithm::Rs256,
        });
        Ok(CertificateCredential::new(application, certificates, self.key.signing_key().await?, algorithm, self.x5c)?)
    }
}

/// An assertion that is not sent to Entra from here, issued at `now`: whether the certificate is valid is looked at first, since nobody else tells.
pub(super) async fn assertion(
    credential: &CertificateCredential,
    lifetime: Duration,
    now: SystemTime,
) -> Result<Zeroizing<String>, CliError> {
    credential.certificates().leaf.must_be_valid(now).map_err(|e| CliError::Usage(e.to_string()))?;
    Ok(credential.assertion(lifetime, now).await?)
}
