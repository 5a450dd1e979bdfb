//! `aws serve`: credentials for the SDKs of this machine, as an EC2 instance or a container gets them.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Args;
use ekm_otp_cloud::Loopback;
use ekm_otp_cloud::aws::{CONTAINER_PATH, Metadata};
use zeroize::Zeroizing;

use super::super::cloud::{SharedFile, runtime_folder};
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::{quoted, shown};
use super::credentials::{CredentialsArgs, Held};

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 9911)]
    port: u16,
    /// How many routers an answer may pass (IP time to live): 1 keeps it from containers that are bridged
    #[arg(long, value_name = "HOPS", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    hop_limit: u8,
    /// Answer containers only, which show a token from a file that only you can read. Else everybody on this machine gets credentials, as everybody on an EC2
    /// instance does
    #[arg(long)]
    container_only: bool,
    /// Where to write that token [default: in $XDG_RUNTIME_DIR/ekm-otp]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    credentials: CredentialsArgs,
}

pub(crate) async fn run(mut args: ServeArgs) -> Result<(), CliError> {
    args.credentials.settle()?;
    let source = args.credentials.open().await?;
    let role = source.role_name();
    let held = Arc::new(Held::new(source));
    let loopback = Loopback::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port), &[], Some(args.hop_limit.into())).await?;
    // What is wrong with key, role or certificate is told now, not to the first SDK.
    let first = held.renew().await;
    held.tell_skew();
    first?;
    let (file, token) = args.token(loopback.address().port())?;
    let url = format!("http://{}", loopback.address());
    let mut lines = vec![
        format!("export AWS_CONTAINER_CREDENTIALS_FULL_URI={url}{CONTAINER_PATH}"),
        format!("export AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={}", quoted(&shown(file.path()))),
    ];
    if args.container_only {
        note!("for the shell that runs your programs:");
    } else {
        note!("for the shell that runs your programs (one of the two kinds):");
        lines.push(format!("export AWS_EC2_METADATA_SERVICE_ENDPOINT={url}/"));
    }
    output::line(&lines.join("\n"))?;
    let metadata = Metadata::new(Arc::clone(&held), (!args.container_only).then_some(role), Some(token));
    tokio::select! {
        never = loopback.serve(Arc::new(metadata)) => match never {},
        never = keep(&held) => match never {},
    }
}

/// Has new credentials made in time, so that no SDK waits for that, and tells when that fails, which SDKs may never ask.
async fn keep(held: &Held) -> Infallible {
    let mut told = None;
    loop {
        held.wait().await;
        match held.renew().await {
            Ok(credentials) if told.take().is_some() => {
                note!("ekm-otp-client: there are new credentials again, until {}", credentials.expiration_text());
            }
            Ok(_) => {}
            Err(error) => {
                let error = Some(error.to_string());
                if told != error {
                    note!("ekm-otp-client: warning: no new credentials: {}", error.as_deref().unwrap_or_default());
                    told = error;
                }
            }
        }
    }
}

impl ServeArgs {
    /// A new token, in a file that only this user can read.
    fn token(&self, port: u16) -> Result<(SharedFile, Zeroizing<String>), CliError> {
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(|e| CliError::Other(format!("the operating system gives no randomness: {e}")))?;
        let token = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*random));
        let path = match &self.token_file {
            Some(path) => std::path::absolute(path).map_err(|e| CliError::io("find", path, &e))?,
            None => runtime_folder("name a file with --token-file")?.join(format!("aws-serve-{port}.token")),
        };
        Ok((SharedFile::create(&path, token.as_bytes())?, token))
    }
}
