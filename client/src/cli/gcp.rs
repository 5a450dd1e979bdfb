//! `gcp …`: tokens of Google Cloud from keys in the TPM.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use ekm_otp_cloud::gcp::{
    CLOUD_PLATFORM, Grant, Impersonation, Metadata, SelfSigned, ServiceAccount, SubjectToken, Target, TokenService, executable_failure,
    jwks,
};
use ekm_otp_cloud::{BearerToken, Loopback};

use super::cloud::{CloudKeyArgs, Format, HttpArgs};
use super::error::CliError;
use super::moment::duration;
use super::output::{self, note};
use super::shown::{printable, quoted, shown};

/// A profile is a service account's file without its key.
const MAX_PROFILE: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum GcpCommand {
    /// Print a token that the service account signs itself: no service is asked.
    #[command(
        after_help = "Examples:\n  ekm-otp-client gcp jwt --key sa.pem --profile sa.json\n  ekm-otp-client gcp jwt --key sa.pem --email sa@p.iam.gserviceaccount.com \\\n      --audience https://storage.googleapis.com/"
    )]
    Jwt(Box<JwtArgs>),
    /// Print an access token from Google's token endpoint.
    #[command(after_help = "Examples:\n  ekm-otp-client gcp token --key sa.pem --profile sa.json")]
    Token(Box<TokenArgs>),
    /// Print an ID token from Google's token endpoint.
    #[command(
        after_help = "Examples:\n  ekm-otp-client gcp id-token --key sa.pem --profile sa.json \\\n      --audience https://app-1234.run.app"
    )]
    IdToken(Box<IdTokenArgs>),
    /// Print a token of another service account that this one may stand in for.
    #[command(
        after_help = "Examples:\n  ekm-otp-client gcp impersonate --key sa.pem --profile sa.json \\\n      --service-account other@p.iam.gserviceaccount.com"
    )]
    Impersonate(Box<ImpersonateArgs>),
    /// Answer as the executable source of workload identity federation: the key is an OIDC issuer's.
    ///
    /// Google's libraries run this. Exactly one JSON object goes to standard output, also where there is no token (then with exit code 0, as they want it), and nothing to standard
    /// error; wrong flags are told as of any other command.
    #[command(
        after_help = "Examples:\n  ekm-otp-client gcp executable --key wif.pem \\\n      --issuer https://machines.example.test --subject machine-17"
    )]
    Executable(Box<ExecutableArgs>),
    /// Print the public key as a JSON Web Key Set, to be uploaded to a workload identity provider.
    #[command(after_help = "Examples:\n  ekm-otp-client gcp jwks --key wif.pem > jwks.json")]
    Jwks(Box<JwksArgs>),
    /// Answer Google's libraries on this machine as a virtual machine's metadata server does, until a signal.
    #[command(after_help = "Examples:\n  ekm-otp-client gcp metadata-server --key sa.pem --profile sa.json")]
    MetadataServer(Box<MetadataServerArgs>),
}

/// Which service account.
#[derive(Args, Debug)]
#[command(next_help_heading = "Account")]
pub(crate) struct AccountArgs {
    /// The file that `key import --gcp-service-account` wrote beside the key: the account, but for its key
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// The service account's e-mail address [default: the profile's]
    #[arg(long, value_name = "ADDRESS", required_unless_present = "profile")]
    email: Option<String>,
    /// The key's id, as Google knows it [default: the profile's]
    #[arg(long, alias = "key-id", value_name = "ID")]
    keyid: Option<String>,
    /// The project [default: the profile's]
    #[arg(long, alias = "project_id", value_name = "ID")]
    project_id: Option<String>,
    /// The URL of the token endpoint [default: the profile's, https://oauth2.googleapis.com/token]
    #[arg(long, value_name = "URL", help_heading = "Network")]
    endpoint: Option<String>,
    #[command(flatten)]
    key: CloudKeyArgs,
}

impl AccountArgs {
    pub(super) fn account(&self) -> Result<ServiceAccount, CliError> {
        let mut account = match &self.profile {
            None if self.email.as_ref().is_none_or(String::is_empty) => {
                return Err(CliError::Usage(
                    "which account? name its file with --profile (as `key import` wrote it), or it with --email".into(),
                ));
            }
            None => ServiceAccount::new(self.email.as_deref().unwrap_or_default()),
            Some(path) => read_profile(path, self.endpoint.as_deref())?,
        };
        let given = |flag: &Option<String>| flag.clone().filter(|value| !value.is_empty());
        account.email = given(&self.email).unwrap_or(account.email);
        account.key_id = given(&self.keyid).or(account.key_id);
        account.project_id = given(&self.project_id).or(account.project_id);
        account.token_uri = given(&self.endpoint).or(account.token_uri);
        Ok(account)
    }
}

fn is_googles(url: &str) -> bool {
    let host = url.parse::<http::Uri>().ok().filter(|url| url.scheme_str() == Some("https")).and_then(|url| url.host().map(str::to_owned));
    host.is_some_and(|host| host == "accounts.google.com" || host.ends_with(".googleapis.com"))
}

/// A service account's file, with or without its key. Its token endpoint is Google's, unless `endpoint` takes its place.
pub(crate) fn read_profile(path: &PathBuf, endpoint: Option<&str>) -> Result<ServiceAccount, CliError> {
    let size = std::fs::metadata(path).map_err(|e| CliError::io("read", path, &e))?.len();
    if size > MAX_PROFILE {
        return Err(CliError::Usage(format!("{}: no service account's file is that long", shown(path))));
    }
    let file = zeroize::Zeroizing::new(std::fs::read(path).map_err(|e| CliError::io("read", path, &e))?);
    let account = ServiceAccount::from_json(&file).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?;
    match account.token_uri.as_deref().filter(|url| endpoint.is_none() && !is_googles(url)) {
        None => Ok(account),
        // What goes there is good for Google's own endpoint, too.
        Some(url) => Err(CliError::Usage(format!(
            "{}: its token_uri is not Google's: {}. If it is right, name it with --endpoint",
            shown(path),
            printable(url)
        ))),
    }
}

/// What an access token is for.
#[derive(Args, Debug)]
struct ScopesArgs {
    /// What the token may be used for; several with commas between
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = CLOUD_PLATFORM)]
    scopes: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct JwtArgs {
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    scopes: ScopesArgs,
    /// One service that the token is for, instead of scopes, such as https://storage.googleapis.com/
    #[arg(long, value_name = "URL", conflicts_with = "scopes")]
    audience: Option<String>,
    /// How long it lives: an hour at most
    #[arg(long, alias = "expire_in", value_name = "TIME", default_value = "3600", value_parser = duration)]
    expire_in: Duration,
    #[command(flatten)]
    format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    scopes: ScopesArgs,
    /// A user of the domain whom the account stands in for (domain-wide delegation)
    #[arg(long, value_name = "ADDRESS")]
    subject: Option<String>,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct IdTokenArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// Whom the token is for
    #[arg(long, value_name = "URL")]
    audience: String,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ImpersonateArgs {
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    scopes: ScopesArgs,
    /// The account to stand in for
    #[arg(long, value_name = "ADDRESS")]
    service_account: String,
    /// An account in between; several in their order, with commas between
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    delegates: Vec<String>,
    /// An ID token for this audience, instead of an access token
    #[arg(long, value_name = "URL", conflicts_with = "scopes")]
    audience: Option<String>,
    /// How long an access token lives
    #[arg(long, value_name = "TIME", default_value = "3600", value_parser = duration)]
    lifetime: Duration,
    /// The URL of IAM's service account credentials [default: https://iamcredentials.googleapis.com]
    #[arg(long, value_name = "URL", help_heading = "Network")]
    iam_endpoint: Option<String>,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ExecutableArgs {
    /// The issuer, as the provider knows it
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Who this machine is: what the provider maps to google.subject
    #[arg(long, value_name = "TEXT")]
    subject: String,
    /// For whom [default: the provider that the library names in $GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE]
    #[arg(long, value_name = "URL", env = "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE")]
    audience: Option<String>,
    /// How long the token lives: a day at most
    #[arg(long, value_name = "TIME", default_value = "3600", value_parser = duration)]
    lifetime: Duration,
    #[command(flatten)]
    key: CloudKeyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct JwksArgs {
    #[command(flatten)]
    key: CloudKeyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct MetadataServerArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8961)]
    port: u16,
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    scopes: ScopesArgs,
    #[command(flatten)]
    http: HttpArgs,
}

pub(crate) async fn run(command: GcpCommand) -> Result<(), CliError> {
    match command {
        GcpCommand::Jwt(args) => jwt(*args).await,
        GcpCommand::Token(args) => {
            let grant = Grant::Access(args.scopes.scopes);
            let token = granted(&args.account, &args.http, &grant, args.subject.as_deref()).await?;
            args.format.show("access_token", &token)
        }
        GcpCommand::IdToken(args) => {
            let token = granted(&args.account, &args.http, &Grant::Id(args.audience), None).await?;
            args.format.show("id_token", &token)
        }
        GcpCommand::Impersonate(args) => impersonate(*args).await,
        GcpCommand::Executable(args) => executable(*args).await,
        GcpCommand::Jwks(args) => {
            let key = args.key.signing_key().await?;
            let set = jwks(key.public_key()).ok_or_else(|| CliError::Other("the key's public half cannot be written".into()))?;
            output::line(&format!("{set:#}"))
        }
        GcpCommand::MetadataServer(args) => serve(*args).await,
    }
}

async fn jwt(args: JwtArgs) -> Result<(), CliError> {
    let account = args.account.account()?;
    let target = args.audience.map_or(Target::Scopes(args.scopes.scopes), Target::Audience);
    let key = args.account.key.signing_key().await?;
    let token = SelfSigned { account: &account, target, lifetime: args.expire_in }.sign(&*key, std::time::SystemTime::now()).await?;
    args.format.show("access_token", &token)
}

async fn granted(args: &AccountArgs, http: &HttpArgs, grant: &Grant, user: Option<&str>) -> Result<BearerToken, CliError> {
    let (account, http, key) = (args.account()?, http.http()?, args.key.signing_key().await?);
    let token = TokenService { http: &http, account: &account, key: &*key, iam_endpoint: None }.grant(grant, user).await;
    tell_skew(http.clock().told());
    Ok(token?)
}

async fn impersonate(args: ImpersonateArgs) -> Result<(), CliError> {
    let (account, http, key) = (args.account.account()?, args.http.http()?, args.account.key.signing_key().await?);
    let (grant, name) = match args.audience {
        Some(audience) => (Grant::Id(audience), "id_token"),
        None => (Grant::Access(args.scopes.scopes), "access_token"),
    };
    let service = TokenService { http: &http, account: &account, key: &*key, iam_endpoint: args.iam_endpoint.as_deref() };
    let who = Impersonation { email: &args.service_account, delegates: &args.delegates, lifetime: args.lifetime };
    let token = service.impersonate(&who, &grant).await;
    tell_skew(http.clock().told());
    args.format.show(name, &token?)
}

fn tell_skew(told: Option<String>) {
    if let Some(told) = told {
        note!("ekm-otp-client: warning: {told}");
    }
}

/// Whatever comes, it is told on standard output, and the exit code is 0: else the library shows its own words instead of these.
async fn executable(args: ExecutableArgs) -> Result<(), CliError> {
    let made = async {
        let missing = || CliError::Usage("--audience is missing, and $GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE is not set".into());
        let audience = args.audience.as_deref().ok_or_else(missing)?;
        let key = args.key.signing_key().await?;
        let token = SubjectToken { issuer: &args.issuer, subject: &args.subject, audience, lifetime: args.lifetime };
        Ok::<_, CliError>(token.executable(&*key, std::time::SystemTime::now()).await?)
    };
    match made.await {
        Ok(answer) => output::line(&answer),
        Err(error) => output::line(&executable_failure(&format!("EXIT_{}", error.exit_code()), &error.to_string())),
    }
}

async fn serve(args: MetadataServerArgs) -> Result<(), CliError> {
    let (account, http, key) = (args.account.account()?, args.http.http()?, args.account.key.signing_key().await?);
    let loopback = Loopback::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port), &Metadata::HOSTS, None).await?;
    let project = account.project_id.clone();
    let scopes = args.scopes.scopes;
    let metadata = Metadata::new(http, account, key, scopes.clone());
    // What is wrong with key or account is told now, not to the first library.
    metadata.token(&Grant::Access(scopes)).await?;
    note!("for the shell that runs your programs; everybody on this machine gets tokens here:");
    // The second is where Google's Python library looks whether there is one at all.
    let address = loopback.address();
    let mut lines = vec![format!("export GCE_METADATA_HOST={address}"), format!("export GCE_METADATA_IP={address}")];
    lines.extend(project.map(|project| format!("export GOOGLE_CLOUD_PROJECT={}", quoted(&project))));
    output::line(&lines.join("\n"))?;
    match loopback.serve(Arc::new(metadata)).await {}
}

impl Format {
    fn show(&self, name: &str, token: &BearerToken) -> Result<(), CliError> {
        self.print(name, &token.token, token.expires)
    }
}
