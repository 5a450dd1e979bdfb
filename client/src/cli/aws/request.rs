//! `aws request`, `aws presign`: any request to AWS, signed by the key in the TPM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use ekm_otp_cloud::CloudError;
use ekm_otp_cloud::aws::{MAX_PRESIGNED, Scope, presign_url, sign_request};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::super::cloud::duration;
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::printable;
use super::source::SecretArgs;

/// A body is signed as a whole, and so held as a whole.
const MAX_BODY: usize = 64 * 1024 * 1024;

#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// The method: GET, POST, …
    method: Method,
    /// The URL
    url: Uri,
    #[command(flatten)]
    target: TargetArgs,
    /// A field to send; it is signed. Several by several flags
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The file with the body; - is standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PresignArgs {
    /// The URL
    url: Uri,
    /// The method
    #[arg(long, default_value = "GET")]
    method: Method,
    /// How long the URL is good: at most a week (168h)
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    expires_in: Duration,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

/// For whom the signature is, where the URL does not tell.
#[derive(Args, Debug)]
struct TargetArgs {
    /// The service, such as s3 [default: as the URL's host tells]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "a field is NAME: VALUE".to_owned())?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|e| e.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|e| e.to_string())?;
    Ok((name, value))
}

impl TargetArgs {
    /// `service.region.amazonaws.com`, `bucket.s3.region.amazonaws.com`, `service.amazonaws.com`; flags win.
    fn scope(&self, url: &Uri, region: Option<String>) -> Result<Scope, CliError> {
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let (name, _) = host.split_once(".amazonaws.").unwrap_or_default();
        let mut labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
        let is_region = |label: &str| label.matches('-').count() >= 2 && label.ends_with(|c: char| c.is_ascii_digit());
        let from_host = labels.pop_if(|label| is_region(label)).map(str::to_owned);
        let service = labels.pop().map(|label| label.trim_end_matches("-fips").to_owned());
        let unknown = |what: &str, flag: &str| CliError::Usage(format!("the host {host:?} does not tell the {what}: name it with {flag}"));
        Ok(Scope {
            service: self.service.clone().or(service).ok_or_else(|| unknown("service", "--service"))?,
            region: match (from_host, region) {
                // What the environment says is for whom has not said it himself.
                (Some(from_host), _) => from_host,
                (None, Some(region)) => region,
                (None, None) if host.ends_with(".amazonaws.com") => "us-east-1".to_owned(),
                (None, None) => return Err(unknown("region", "--aws-region")),
            },
        })
    }
}

async fn body(path: Option<&Path>) -> Result<Bytes, CliError> {
    let Some(path) = path.map(Path::to_owned) else { return Ok(Bytes::new()) };
    let reading = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let (mut body, limit) = (Vec::new(), MAX_BODY as u64 + 1);
        let read = if path == Path::new("-") {
            std::io::stdin().take(limit).read_to_end(&mut body)
        } else {
            std::fs::File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut body))
        };
        read.map_err(|e| CliError::io("read", &path, &e))?;
        if body.len() > MAX_BODY {
            return Err(CliError::Usage(format!("{}: a body of more than 64 MiB is not signed as a whole", path.display())));
        }
        Ok(Bytes::from(body))
    });
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the body failed: {e}"))))
}

pub(crate) async fn run(mut args: RequestArgs) -> Result<(), CliError> {
    args.secret.settle()?;
    let scope = args.target.scope(&args.url, args.secret.region())?;
    let body = body(args.body.as_deref()).await?;
    let secret = args.secret.open().await?;
    // Not sent again: whether a request may be made twice is not known here.
    let mut request = Request::builder().method(args.method.clone()).uri(args.url.clone()).body(body).map_err(usage)?;
    request.headers_mut().extend(args.header.iter().cloned());
    let signed = sign_request(request, secret.signatory(), &*secret.key, &scope, secret.http.clock().now()).await?;
    let answer = secret.http.tries(&scope.service).once(signed).await?;
    output::result(&answer.body)?;
    if answer.status.is_success() {
        return Ok(());
    }
    let told = format!("{} answered {}", printable(args.url.host().unwrap_or_default()), answer.status);
    let told =
        if secret.http.clock().correct(&answer) { format!("{told}; {}", secret.http.clock().told().unwrap_or_default()) } else { told };
    Err(match answer.status.as_u16() {
        401 | 403 => CliError::NotPermitted(told),
        429 | 500.. => CliError::Unavailable(told),
        _ => CliError::Other(told),
    })
}

pub(crate) async fn presign(mut args: PresignArgs) -> Result<(), CliError> {
    args.secret.settle()?;
    if args.expires_in > MAX_PRESIGNED {
        return Err(CliError::Usage("--expires-in: a week (168h) at most".into()));
    }
    let scope = args.target.scope(&args.url, args.secret.region())?;
    let secret = args.secret.open().await?;
    let now = secret.http.clock().now();
    let url = presign_url(&args.method, args.url, secret.signatory(), &*secret.key, scope, now, args.expires_in).await?;
    note!("whoever has this URL can use it for {:?}:", args.expires_in);
    output::line(&url)
}

fn usage(error: http::Error) -> CliError {
    CloudError::Usage(error.to_string()).into()
}
