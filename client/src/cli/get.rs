//! `get URL`: one authenticated request.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use ekm_otp::field::CredentialKind;
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Authority, KeyId, Profile};
use ekm_otp_client::{ConnectError, Connection, Connector, Mutual, Signer, with_sources};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt as _;

use super::credential::{ConnectArgs, MutualArg};
use super::error::CliError;
use super::output::note;
use super::profiles::{self, Resolved};
use super::proxy;

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// https://HOST[:PORT]/PATH
    #[arg(value_parser = url)]
    url: Uri,
    #[command(flatten)]
    how: ConnectArgs,
    /// A request header field; may be repeated
    #[arg(long = "header", short = 'H', help_heading = "Request", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A claim of your own in the request's token; may be repeated. NAME=VALUE is a text, NAME:=VALUE is JSON (9, true, {"a":1}). Whoever reads
    /// the HTTP layer can read it in a jws and not in a jwe; this machine's process list shows it
    #[arg(long = "claim", help_heading = "Request", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// How long each phase may take, in seconds
    #[arg(long, help_heading = "Request", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Tell on standard error what happened; twice, what the TPM's C library says of it, too
    #[arg(long, short, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// Tell the connection's credential on standard error once the connection is closed. For demonstrations
    #[arg(long, hide_short_help = true, help_heading = "Output")]
    unsafe_show_otp: bool,
    /// As curl has it. There is none here
    #[arg(long = "cert", hide = true, value_parser = no_client_certificate)]
    _cert: Option<()>,
}

fn url(text: &str) -> Result<Uri, String> {
    if text.contains("://[") && text.contains('%') && text.find('%') < text.find(']') {
        return Err("an IPv6 address with a zone (%eth0) is not served: use an address without one, or a name".to_owned());
    }
    let url = text.parse::<Uri>().ok().filter(|url| url.authority().is_some() && url.scheme().is_some());
    url.ok_or_else(|| "write it as https://HOST[:PORT]/PATH".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "not a field name")?;
    // Framing and hop-by-hop fields (RFC 9110 §7.6.1, RFC 9112 §6) are of the connection, and a GET here has no body.
    let of_the_connection = [
        "authorization",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "http2-settings",
    ];
    if of_the_connection.contains(&name.as_str()) {
        return Err(format!("{name} is set by the connection"));
    }
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "not a field value")?;
    Ok((name, value))
}

fn no_client_certificate(_: &str) -> Result<(), String> {
    Err("no client certificate is used: the key is named with --key, and the key id with --kid".to_owned())
}

/// `name=text` or `name:=json`.
fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE, or as NAME:=JSON")?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => (name, serde_json::from_str(value).map_err(|e| format!("no JSON behind := ({e})"))?),
        None => (name, Value::from(value)),
    };
    if name.is_empty() { Err("the claim has no name".to_owned()) } else { Ok((name.to_owned(), value)) }
}

fn extra_claims(claims: &[(String, Value)]) -> Result<ExtraClaims, CliError> {
    let mut map = Map::new();
    for (name, value) in claims {
        if map.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::Usage(format!("--claim {name} stands twice")));
        }
    }
    ExtraClaims::new(map).map_err(|e| CliError::Usage(format!("--claim: {e}")))
}

pub(crate) async fn run(args: GetArgs) -> Result<(), CliError> {
    let claims = extra_claims(&args.claims)?;
    let (dialled, target) = place(&args.url)?;
    let how = profiles::resolve(&args.how, &dialled)?;
    if !claims.is_empty() && how.credential.unwrap_or_default() == CredentialKind::Otp {
        return Err(CliError::Usage("--claim needs a token to travel in: --credential jws or jwe".into()));
    }
    if let Some(variable) = proxy::ignored() {
        note!("ekm-otp-client: warning: ${variable} is ignored, this connects to the server itself");
    }
    let deadline = Duration::from_secs(args.timeout);
    // While the TPM loads the key, certificates are read.
    let (keys, tls) = tokio::join!(how.open_keys(deadline), async { how.tls_config() });
    let keys = keys?;
    if let Some(loaded_in) = keys.loaded_in.filter(|_| args.verbose > 0) {
        note!("* TPM: key loaded, {}", milliseconds(loaded_in));
    }
    let (kid, key) = keys.keys.into_iter().next().ok_or_else(|| CliError::Usage("--key is missing".into()))?;
    let has_tpm = keys.loaded_in.is_some();
    let connector = connector(&how, kid.clone(), key, tls?, deadline)?;
    let mut request = Request::get(target).body(Empty::new()).map_err(|e| CliError::Usage(format!("the URL is not usable: {e}")))?;
    for (name, value) in &args.headers {
        request.headers_mut().append(name, value.clone());
    }

    request.extensions_mut().insert(claims);

    let mut connection = connector.connect().await.map_err(|e| match e {
        ConnectError::Refused { .. } | ConnectError::Intercepted { .. } => refused(&how, &kid, &e.to_string()),
        other => other.into(),
    })?;
    if args.verbose > 0 {
        tell_connection(&connection, &how, has_tpm);
    }
    let was_proven = connection.is_proven();
    let response = connection.send(request).await?;
    if args.verbose > 0 {
        note!("* answer: {}", response.status());
        match (was_proven, connection.is_proven()) {
            (true, _) => {}
            (false, true) => note!("* server proof: verified, in this answer"),
            (false, false) if how.wire == Profile::Go => note!("* server proof: none in the profile go"),
            (false, false) => note!("* server proof: none. This answer may come from anyone who has a valid certificate"),
        }
    }

    let status = response.status();
    write_body(response.into_body(), deadline).await?;

    let credential = connection.retire().await;
    if let Some(credential) = credential.filter(|_| args.unsafe_show_otp) {
        note!("* closed; its credential was: {}", credential.reveal());
    }
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::UNAUTHORIZED if how.wire == Profile::Go => Err(CliError::NotPermitted(
            "the server answered 401 Unauthorized: unknown key id or one of v1, another secret, a kind that it does not take, or a JWS where it has no \
             default key id"
                .into(),
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
            Err(refused(&how, &kid, &format!("the server answered {status}")))
        }
        status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
            Err(CliError::Unavailable(format!("the server answered {status}")))
        }
        status => Err(CliError::Other(format!("the server answered {status}"))),
    }
}

/// What was shown to a server that refuses it, and who looks for the reason.
fn refused(how: &Resolved, kid: &KeyId, text: &str) -> CliError {
    let name = how.origin.host();
    CliError::NotPermitted(format!(
        "{text}. The key id was {kid}, the server's name {name}; `ekm-otp-client doctor` with --url, --kid and --key says more"
    ))
}

/// Writes the body as it comes. What has come is written whatever happens then: an error, or a signal that drops this.
async fn write_body(mut body: Incoming, deadline: Duration) -> Result<(), CliError> {
    let mut stdout = tokio::io::stdout();
    loop {
        let frame = match tokio::time::timeout(deadline, body.frame()).await {
            Err(_) => Err(CliError::Unavailable(format!("the answer's body stalled for {} s", deadline.as_secs()))),
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => frame.map_err(|e| CliError::Other(format!("the answer's body is incomplete: {}", with_sources(&e)))),
        };
        if let Ok(data) = frame?.into_data() {
            stdout.write_all(&data).await.map_err(CliError::output)?;
            stdout.flush().await.map_err(CliError::output)?;
        }
    }
}

/// Where the URL's server is dialled, and the target on it.
fn place(url: &Uri) -> Result<(Authority, Uri), CliError> {
    if url.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(CliError::Usage(format!("{url}: only https:// is served, a credential never travels without TLS")));
    }
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let dialled = Authority::parse(authority).map_err(|e| CliError::Usage(format!("{url}: {e}")))?;
    Ok((dialled, SignedRequest::origin_form(url).parse().map_err(|e| CliError::Usage(format!("{url}: {e}")))?))
}

fn connector(how: &Resolved, kid: KeyId, key: Arc<dyn Signer>, tls: ClientConfig, deadline: Duration) -> Result<Connector, CliError> {
    let connector = Connector::new(tls, how.tls, how.origin.clone(), kid, key)
        .credential(how.credential.unwrap_or_default())
        .deadline(deadline)
        .dial(&how.dialled);
    match (how.wire, how.mutual) {
        (Profile::Go, Some(MutualArg::Require)) => {
            Err(CliError::Usage("--mutual require: the server proves nothing in the profile go".into()))
        }
        (Profile::Go, _) => {
            note!(
                "ekm-otp-client: warning: --profile go: the server proves nothing, a rogue one with a valid certificate is not found out"
            );
            Ok(connector.profile_go())
        }
        (Profile::V1, None | Some(MutualArg::Require)) => Ok(connector.mutual(Mutual::Require)),
        (Profile::V1, Some(MutualArg::Prefer)) => Ok(connector.mutual(Mutual::Prefer)),
    }
}

fn tell_connection(connection: &Connection, how: &Resolved, has_tpm: bool) {
    let holder = if has_tpm { "TPM" } else { "software key" };
    note!("* TLS: {}", connection.tls());
    note!("* HTTP: {:?}", connection.http_version());
    let macs = if how.wire == Profile::Go && how.credential.unwrap_or_default() == CredentialKind::Jwe { "two HMACs" } else { "one HMAC" };
    note!("* {holder}: {macs}, {}", milliseconds(connection.mac_time()));
    if connection.is_proven() {
        note!("* server proof: verified, before the request was sent");
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
