//! `azure serve`: tokens for Microsoft's libraries on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Args;
use ekm_otp_cloud::Loopback;
use ekm_otp_cloud::azure::{IDENTITY_PATH, Metadata};
use zeroize::Zeroizing;

use super::super::cloud::{HttpArgs, SharedFile, runtime_folder};
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::shown;
use super::application::{ApplicationArgs, Opened};

/// How long the assertion in the workload identity's file lives, and when a new one takes its place: libraries read it anew every 10 minutes.
const FILE_LIFETIME: Duration = Duration::from_secs(3600);
const FILE_EVERY: Duration = Duration::from_secs(1200);
/// How soon it is tried again where the TPM does not answer.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8971)]
    port: u16,
    /// Do not answer as a virtual machine's metadata service, which everybody on this machine can ask
    #[arg(long)]
    no_imds: bool,
    /// Where to write the workload identity's token [default: in $XDG_RUNTIME_DIR/ekm-otp]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    http: HttpArgs,
}

pub(crate) async fn run(args: ServeArgs) -> Result<(), CliError> {
    let (opened, http) = (args.application.open().await?, args.http.http()?);
    let loopback = Loopback::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port), &["169.254.169.254"], None).await?;
    let path = match &args.token_file {
        Some(path) => std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?,
        None => runtime_folder("--token-file")?.join(format!("azure-serve-{}.token", loopback.address().port())),
    };
    // What is wrong with key or certificate is told now, not to the first library.
    let file = SharedFile::create(&path, opened.assertion(FILE_LIFETIME).await?.as_bytes())?;
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random).map_err(|e| CliError::Other(format!("the operating system gives no randomness: {e}")))?;
    let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*random));
    let url = format!("http://{}", loopback.address());
    output::line(&variables(&args, &opened, &url, &secret, &path))?;
    note!("(IDENTITY_HEADER is a secret: whoever shows it gets tokens)");
    let opened = Arc::new(opened);
    let metadata = Metadata::new(opened.endpoint(&http), Arc::clone(&opened.key), secret, !args.no_imds);
    let serving = loopback.serve(Arc::new(metadata));
    tokio::select! {
        never = serving => match never {},
        error = keep_fresh(&opened, &file) => Err(error),
    }
}

/// What libraries look for: any one of the kinds.
fn variables(args: &ServeArgs, opened: &Opened, url: &str, secret: &str, path: &Path) -> String {
    let application = &opened.application;
    let mut lines = vec![
        "# as a workload identity".to_owned(),
        format!("export AZURE_TENANT_ID={}", application.tenant()),
        format!("export AZURE_CLIENT_ID={}", application.client_id()),
        format!("export AZURE_AUTHORITY_HOST={}", application.authority().as_str()),
        format!("export AZURE_FEDERATED_TOKEN_FILE={}", shown(path)),
        "# or as a managed identity".to_owned(),
        format!("export IDENTITY_ENDPOINT={url}{IDENTITY_PATH}"),
        format!("export IDENTITY_HEADER={secret}"),
    ];
    if !args.no_imds {
        lines.push("# or as a virtual machine's, which everybody on this machine can ask".to_owned());
        lines.push(format!("export AZURE_POD_IDENTITY_AUTHORITY_HOST={url}"));
    }
    lines.join("\n")
}

/// Writes a new assertion before the old one ends. Fails when the old one has.
async fn keep_fresh(opened: &Opened, file: &SharedFile) -> CliError {
    let mut written = std::time::Instant::now();
    loop {
        tokio::time::sleep(FILE_EVERY.saturating_sub(written.elapsed()).max(AGAIN)).await;
        let made = match opened.assertion(FILE_LIFETIME).await {
            Ok(assertion) => file.replace(assertion.as_bytes()),
            Err(error) => Err(error),
        };
        match made {
            Ok(()) => written = std::time::Instant::now(),
            Err(error) if written.elapsed() >= FILE_LIFETIME => return error,
            Err(error) => note!("ekm-otp-client: warning: {error}"),
        }
    }
}
