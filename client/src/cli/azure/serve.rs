//! `azure serve`: tokens for Microsoft's libraries on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Args;
use ekm_otp_cloud::Loopback;
use ekm_otp_cloud::azure::{Application, IDENTITY_PATH, Metadata};
use zeroize::Zeroizing;

use super::super::cloud::{HttpArgs, SharedFile, runtime_folder};
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::{quoted, shown};
use super::application::{ApplicationArgs, assertion};

/// When the assertion in the workload identity's file is written anew.
#[derive(Clone, Copy)]
struct Pace {
    /// How long one lives.
    lifetime: Duration,
    /// When a new one takes its place. Libraries read it anew every 10 minutes.
    every: Duration,
    /// How often that is looked at, and how soon it is tried again where the TPM does not answer.
    look: Duration,
}

const PACE: Pace = Pace { lifetime: Duration::from_secs(3600), every: Duration::from_secs(1200), look: Duration::from_secs(30) };

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
    let (credential, http) = (Arc::new(args.application.open().await?), args.http.http()?);
    let loopback = Loopback::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port), &["169.254.169.254"], None).await?;
    let path = match &args.token_file {
        Some(path) => std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?,
        None => runtime_folder("name a file with --token-file")?.join(format!("azure-serve-{}.token", loopback.address().port())),
    };
    // What Entra's answers told of the clock holds for the file, too.
    let make = async || assertion(&credential, PACE.lifetime, http.clock().now()).await;
    // What is wrong with key or certificate is told now, not to the first library.
    let file = SharedFile::create(&path, make().await?.as_bytes())?;
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random).map_err(|e| CliError::Other(format!("the operating system gives no randomness: {e}")))?;
    let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*random));
    let url = format!("http://{}", loopback.address());
    output::line(&variables(&args, credential.application(), &url, &secret, &path))?;
    note!("(IDENTITY_HEADER is a secret: whoever shows it gets tokens)");
    let metadata = Metadata::new(http.clone(), Arc::clone(&credential), secret, !args.no_imds);
    let serving = loopback.serve(Arc::new(metadata));
    tokio::select! {
        never = serving => match never {},
        error = keep_fresh(make, &file, PACE) => Err(error),
    }
}

/// What libraries look for: any one of the kinds.
fn variables(args: &ServeArgs, application: &Application, url: &str, secret: &str, path: &Path) -> String {
    let mut lines = vec![
        "# as a workload identity".to_owned(),
        format!("export AZURE_TENANT_ID={}", quoted(application.tenant())),
        format!("export AZURE_CLIENT_ID={}", quoted(application.client_id())),
        format!("export AZURE_AUTHORITY_HOST={}", quoted(application.authority().as_str())),
        format!("export AZURE_FEDERATED_TOKEN_FILE={}", quoted(&shown(path))),
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

/// Writes a new assertion before the old one ends, by the clock that goes on while the machine sleeps. Fails when the old one has ended.
async fn keep_fresh(make: impl AsyncFn() -> Result<Zeroizing<String>, CliError>, file: &SharedFile, pace: Pace) -> CliError {
    let mut written = SystemTime::now();
    loop {
        tokio::time::sleep(pace.look).await;
        // What was issued by a clock that has been set back since is not valid yet.
        let age = SystemTime::now().duration_since(written).unwrap_or(pace.every);
        if age < pace.every {
            continue;
        }
        let made = match make().await {
            Ok(assertion) => file.replace(assertion.as_bytes()),
            Err(error) => Err(error),
        };
        match made {
            Ok(()) => written = SystemTime::now(),
            Err(error) if age >= pace.lifetime => return error,
            Err(error) => note!("ekm-otp-client: warning: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn the_file_holds_a_new_assertion_before_the_old_one_ends_and_the_server_ends_with_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let file = SharedFile::create(&path, b"0").expect("a file");
        let pace = Pace { lifetime: Duration::from_secs(2), every: Duration::from_millis(20), look: Duration::from_millis(10) };
        let (made, seen) = (Cell::new(0), Cell::new(0));
        let make = async || {
            seen.set(std::fs::read_to_string(&path).expect("the file").parse().expect("a number"));
            made.set(made.get() + 1);
            // One failure is none yet.
            if made.get() == 2 || made.get() > 4 {
                Err(CliError::Unavailable("test".into()))
            } else {
                Ok(Zeroizing::new(made.get().to_string()))
            }
        };
        let began = SystemTime::now();
        let error = keep_fresh(make, &file, pace).await;
        assert!(matches!(error, CliError::Unavailable(_)), "{error}");
        assert!(made.get() > 5 && seen.get() == 4, "made {}, the last that was written is {}", made.get(), seen.get());
        assert!(began.elapsed().is_ok_and(|age| age >= Duration::from_millis(3 * 20 + 2000)));
        drop(file);
        assert!(!path.exists());
    }
}
