//! `aws request`, `aws presign`: any request to AWS, signed by the key in the TPM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use ekm_otp_cloud::CloudError;
use ekm_otp_cloud::aws::{MAX_PRESIGNED, Scope, presign_url, sign_request};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::super::cloud::whole_seconds;
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
    #[arg(value_parser = url)]
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
    #[arg(value_parser = url)]
    url: Uri,
    /// The method
    #[arg(long, default_value = "GET")]
    method: Method,
    /// How long the URL is good: at most a week (168h)
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = whole_seconds)]
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

fn url(text: &str) -> Result<Uri, String> {
    if text.contains('#') {
        return Err("what follows # is not sent: write it %23 where it is part of a name".to_owned());
    }
    text.parse().map_err(|e: http::uri::InvalidUri| e.to_string())
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "a field is NAME: VALUE".to_owned())?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|e| e.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|e| e.to_string())?;
    if ["host", "authorization", "content-length", "x-amz-date"].contains(&name.as_str()) {
        return Err(format!("{name} is set here"));
    }
    Ok((name, value))
}

impl TargetArgs {
    /// What the flags say, else what the URL's host surely tells: `service.region.amazonaws.com`, S3's and API Gateway's names, and `service.amazonaws.com`.
    fn scope(&self, url: &Uri, secret: &SecretArgs) -> Result<Scope, CliError> {
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let name =
            ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"].iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        let labels: Vec<&str> = name.map(|name| name.split('.').collect()).unwrap_or_default();
        let is_region =
            |label: &str| label.matches('-').count() >= 2 && label.ends_with(|c: char| c.is_ascii_digit()) && !label.starts_with("s3");
        let told = match labels[..] {
            [service, region] if is_region(region) && !service.contains("s3") => Some((service.trim_end_matches("-fips"), region)),
            [.., "s3" | "s3-fips", region] | [.., "s3" | "s3-fips", "dualstack", region] if is_region(region) => Some(("s3", region)),
            [_, "execute-api", region] if is_region(region) => Some(("execute-api", region)),
            [service] if !service.contains("s3") => Some((service, "us-east-1")),
            [.., "s3"] => Some(("s3", "us-east-1")),
            _ => None,
        };
        let unknown =
            |what: &str, flag: &str| CliError::Usage(format!("the host {host:?} does not surely tell the {what}: name it with {flag}"));
        let (service, region) = told.unzip();
        let flag = secret.aws_region.clone().filter(|region| !region.is_empty());
        // What the environment says is meant for hosts that tell nothing.
        let other = if told.is_none() { secret.region() } else { None };
        Ok(Scope {
            service: self.service.clone().or(service.map(str::to_owned)).ok_or_else(|| unknown("service", "--service"))?,
            region: flag.or(region.map(str::to_owned)).or(other).ok_or_else(|| unknown("region", "--aws-region"))?,
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
    let scope = args.target.scope(&args.url, &args.secret)?;
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
    let scope = args.target.scope(&args.url, &args.secret)?;
    let secret = args.secret.open().await?;
    let now = secret.http.clock().now();
    let url = presign_url(&args.method, args.url, secret.signatory(), &*secret.key, scope, now, args.expires_in).await?;
    note!("whoever has this URL can use it for {:?}:", args.expires_in);
    output::line(&url)
}

fn usage(error: http::Error) -> CliError {
    CloudError::Usage(error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        secret: SecretArgs,
    }

    #[test]
    fn service_and_region_are_what_the_flags_say_or_the_host_surely_tells() {
        let scope = |host: &str, flags: &[&str]| {
            let line = Line::try_parse_from([&["x"], flags].concat()).expect("flags");
            let url = format!("https://{host}/").parse().expect("a URL");
            line.target.scope(&url, &line.secret).ok().map(|scope| format!("{} {}", scope.service, scope.region))
        };
        for (host, told) in [
            ("ec2.eu-west-1.amazonaws.com", Some("ec2 eu-west-1")),
            ("kms-fips.us-gov-west-1.amazonaws.com", Some("kms us-gov-west-1")),
            ("sts.cn-north-1.amazonaws.com.cn", Some("sts cn-north-1")),
            ("b.s3.eu-west-1.amazonaws.com", Some("s3 eu-west-1")),
            ("a.b.s3.dualstack.eu-west-1.amazonaws.com", Some("s3 eu-west-1")),
            ("abc123.execute-api.eu-west-1.amazonaws.com", Some("execute-api eu-west-1")),
            ("iam.amazonaws.com", Some("iam us-east-1")),
            ("b.s3.amazonaws.com", Some("s3 us-east-1")),
            ("search-d.eu-west-1.es.amazonaws.com", None),
            ("s3-us-west-2.amazonaws.com", None),
            ("1.s3-control.eu-west-1.amazonaws.com", None),
            ("vpce-1-a.sts.eu-west-1.vpce.amazonaws.com", None),
            ("sts.eu-west-1.amazonaws.com.evil.test", None),
        ] {
            assert_eq!(scope(host, &[]).as_deref(), told, "{host}");
        }
        let flags = ["--service", "s3", "--aws-region", "us-west-2"];
        assert_eq!(scope("s3-us-west-2.amazonaws.com", &flags).as_deref(), Some("s3 us-west-2"));
        assert_eq!(scope("ec2.eu-west-1.amazonaws.com", &flags).as_deref(), Some("s3 us-west-2"));
    }
}
