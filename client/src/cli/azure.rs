//! `azure …`: tokens of Entra ID from keys in the TPM.

mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use ekm_otp_cloud::azure::{Application, Assertion, AssertionAlgorithm, Authority, TokenEndpoint};
use ekm_otp_cloud::{Certificates, Clock, SigningKey};

use super::cloud::{CloudKeyArgs, Format, HttpArgs, duration, keep_out_of_cores, read_certificates};
use super::error::CliError;
use super::output::{self, note};

#[derive(Debug, Subcommand)]
pub(crate) enum AzureCommand {
    /// Print what the application shows instead of a secret: a client assertion, signed by the certificate's key.
    #[command(
        after_help = "Examples:\n  ekm-otp-client azure assertion --key app.pem --certificate app.crt \\\n      --tenant-id 45243fbe-b73f-4f7d-8213-a104a99e428e \\\n      --client-id cffeaee2-5617-4784-8a4b-b647efd676e1"
    )]
    Assertion(Box<AssertionArgs>),
    /// Print an access token of the application.
    #[command(
        after_help = "Examples:\n  ekm-otp-client azure token --key app.pem --certificate app.crt \\\n      --tenant-id 45243fbe-b73f-4f7d-8213-a104a99e428e \\\n      --client-id cffeaee2-5617-4784-8a4b-b647efd676e1 \\\n      --scope https://storage.azure.com/.default"
    )]
    Token(Box<TokenArgs>),
    /// Hand out tokens to Microsoft's libraries on this machine, as a managed identity and a workload identity get them, until a signal.
    #[command(
        after_help = "Examples:\n  ekm-otp-client azure serve --key app.pem --certificate app.crt \\\n      --tenant-id 45243fbe-b73f-4f7d-8213-a104a99e428e \\\n      --client-id cffeaee2-5617-4784-8a4b-b647efd676e1"
    )]
    Serve(Box<serve::ServeArgs>),
}

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
    #[arg(long, value_name = "CLOUD", default_value = "public", value_parser = authority)]
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

#[derive(Args, Debug)]
pub(crate) struct AssertionArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    /// How long it lives: an hour at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    lifetime: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    /// What the token is for: a resource and /.default; several with commas between
    #[arg(long, alias = "scopes", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scope: Vec<String>,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    format: Format,
}

fn authority(text: &str) -> Result<Authority, String> {
    text.parse().map_err(|e: ekm_otp_cloud::CloudError| e.to_string())
}

/// An application whose key is at hand.
struct Opened {
    application: Application,
    certificates: Certificates,
    key: Arc<dyn SigningKey>,
    algorithm: Option<AssertionAlgorithm>,
    with_chain: bool,
}

impl ApplicationArgs {
    /// Opens the TPM, and asks for a password where one is wanted.
    async fn open(&self) -> Result<Opened, CliError> {
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
    fn endpoint<'a>(&'a self, http: &'a ekm_otp_cloud::Http) -> TokenEndpoint<'a> {
        let Self { application, certificates, key, algorithm, with_chain } = self;
        TokenEndpoint { http, application, certificates, key: &**key, algorithm: *algorithm, with_chain: *with_chain }
    }

    async fn assertion(&self, lifetime: Duration) -> Result<zeroize::Zeroizing<String>, CliError> {
        // No service is asked, so the clock here is believed.
        let now = SystemTime::now();
        self.certificates.leaf.must_be_valid(now).map_err(|e| CliError::Usage(e.to_string()))?;
        let Self { application, certificates, .. } = self;
        let assertion = Assertion { application, certificates, lifetime, with_chain: self.with_chain };
        Ok(assertion.sign(&*self.key, self.algorithm, now).await?)
    }
}

pub(crate) async fn run(command: AzureCommand) -> Result<(), CliError> {
    keep_out_of_cores();
    match command {
        AzureCommand::Assertion(args) => output::line(&args.application.open().await?.assertion(args.lifetime).await?),
        AzureCommand::Token(args) => {
            let (opened, http) = (args.application.open().await?, args.http.http()?);
            let token = opened.endpoint(&http).token(&args.scope).await;
            tell_skew(http.clock());
            let token = token?;
            args.format.print("access_token", &token.token, token.expires)
        }
        AzureCommand::Serve(args) => serve::run(*args).await,
    }
}

fn tell_skew(clock: &Clock) {
    if let Some(told) = clock.told() {
        note!("ekm-otp-client: warning: {told}");
    }
}
