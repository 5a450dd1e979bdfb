//! `get URL`: one authenticated request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args, ValueEnum};
use ekm_otp::field::CredentialKind;
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Authority, KeyId, Profile, TlsPolicy};
use ekm_otp_client::{ConnectError, Connection, Connector, Mutual, Signer, with_sources};
use ekm_otp_tpm::{BusEncryption, KeyKind, KeySource};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt as _;

use super::credential::CredentialArgs;
use super::error::CliError;
use super::output::note;
use super::{proxy, trust};

#[derive(Args, Debug)]
#[command(mut_arg("kid", |kid| kid.required(true)), mut_arg("key", |key| key.required_unless_present("secret_file")))]
pub(crate) struct GetArgs {
    /// https://HOST[:PORT]/PATH
    #[arg(value_parser = url)]
    url: Uri,
    #[command(flatten)]
    who: CredentialArgs,
    /// Let the HMAC's input and result travel in clear between this process and the TPM
    #[arg(long, hide_short_help = true, help_heading = "TPM")]
    unsafe_plain_bus: bool,
    /// A request header field; may be repeated
    #[arg(long = "header", short = 'H', help_heading = "Request", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A claim of your own in the request's token; may be repeated. NAME=VALUE is a text, NAME:=VALUE is JSON (9, true, {"a":1}). Whoever reads
    /// the HTTP layer can read it in a jws and not in a jwe; this machine's process list shows it
    #[arg(long = "claim", help_heading = "Request", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// When the server must prove itself: before the request is sent, or where its answer carries a proof (a diagnosis only)
    /// [default: require; with --profile go the server proves nothing]
    #[arg(long, value_enum, help_heading = "Request")]
    mutual: Option<MutualArg>,
    /// Take TLS 1.2 too, with extended master secret and without resumption
    #[arg(long, help_heading = "TLS")]
    tls12: bool,
    /// Refuse every key exchange but X25519MLKEM768
    #[arg(long, help_heading = "TLS")]
    require_post_quantum: bool,
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

impl GetArgs {
    fn kid(&self) -> Result<&KeyId, CliError> {
        self.who.kid.as_ref().ok_or_else(|| CliError::Usage("--kid is missing".into()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MutualArg {
    Require,
    Prefer,
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
    if !claims.is_empty() && args.who.credential.unwrap_or_default() == CredentialKind::Otp {
        return Err(CliError::Usage("--claim needs a token to travel in: --credential jws or jwe".into()));
    }
    if let Some(variable) = proxy::ignored() {
        note!("ekm-otp-client: warning: ${variable} is ignored, this connects to the server itself");
    }
    let deadline = Duration::from_secs(args.timeout);
    // While the TPM loads the key, certificates are read.
    let policy = TlsPolicy { tls12: args.tls12, require_post_quantum: args.require_post_quantum };
    let (key, tls) = tokio::join!(key(&args, deadline), async { trust::client_config(args.who.ca.as_deref(), &policy) });
    let (connector, target) = connector(&args, key?, tls, policy, deadline)?;
    let mut request = Request::get(target).body(Empty::new()).map_err(|e| CliError::Usage(format!("the URL is not usable: {e}")))?;
    for (name, value) in &args.headers {
        request.headers_mut().append(name, value.clone());
    }

    request.extensions_mut().insert(claims);

    let mut connection = connector.connect().await.map_err(|e| match e {
        ConnectError::Refused { .. } | ConnectError::Intercepted { .. } => refused(&args, &e.to_string()),
        other => other.into(),
    })?;
    if args.verbose > 0 {
        tell_connection(&connection, &args);
    }
    let was_proven = connection.is_proven();
    let response = connection.send(request).await?;
    if args.verbose > 0 {
        note!("* answer: {}", response.status());
        match (was_proven, connection.is_proven()) {
            (true, _) => {}
            (false, true) => note!("* server proof: verified, in this answer"),
            (false, false) if args.who.profile == Profile::Go => note!("* server proof: none in the profile go"),
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
        StatusCode::UNAUTHORIZED if args.who.profile == Profile::Go => Err(CliError::NotPermitted(
            "the server answered 401 Unauthorized: unknown key id or one of v1, another secret, a kind that it does not take, or a JWS where it has no \
             default key id"
                .into(),
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
            Err(refused(&args, &format!("the server answered {status}")))
        }
        status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
            Err(CliError::Unavailable(format!("the server answered {status}")))
        }
        status => Err(CliError::Other(format!("the server answered {status}"))),
    }
}

/// What was shown to a server that refuses it, and who looks for the reason.
fn refused(args: &GetArgs, text: &str) -> CliError {
    let host = args.url.host().unwrap_or_default();
    let name = args.who.server_name.as_deref().unwrap_or(host);
    let kid = args.who.kid.as_ref().map_or("", KeyId::as_str);
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

/// The connector for the URL's origin, and the target on it.
fn connector(
    args: &GetArgs,
    key: Arc<dyn Signer>,
    tls: Result<ClientConfig, CliError>,
    policy: TlsPolicy,
    deadline: Duration,
) -> Result<(Connector, Uri), CliError> {
    let url = &args.url;
    if url.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(CliError::Usage(format!("{url}: only https:// is served, a credential never travels without TLS")));
    }
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let dialled = Authority::parse(authority).map_err(|e| CliError::Usage(format!("{url}: {e}")))?;
    let origin = args.who.origin(&dialled)?;
    let connector = Connector::new(tls?, policy, origin, args.kid()?.clone(), key)
        .credential(args.who.credential.unwrap_or_default())
        .deadline(deadline)
        .dial(&dialled);
    let connector = match (args.who.profile, args.mutual) {
        (Profile::Go, Some(MutualArg::Require)) => {
            return Err(CliError::Usage("--mutual require: the server proves nothing in the profile go".into()));
        }
        (Profile::Go, _) => {
            note!(
                "ekm-otp-client: warning: --profile go: the server proves nothing, a rogue one with a valid certificate is not found out"
            );
            connector.profile_go()
        }
        (Profile::V1, None | Some(MutualArg::Require)) => connector.mutual(Mutual::Require),
        (Profile::V1, Some(MutualArg::Prefer)) => connector.mutual(Mutual::Prefer),
    };
    Ok((connector, SignedRequest::origin_form(url).parse().map_err(|e| CliError::Usage(format!("{url}: {e}")))?))
}

async fn key(args: &GetArgs, deadline: Duration) -> Result<Arc<dyn Signer>, CliError> {
    let kid = args.kid()?;
    match (&args.who.key, args.who.secret().await?) {
        (Some(key), _) => {
            let tpm = args.who.use_key.tpm.open_for_use()?.with_deadline(deadline);
            let bus = if args.unsafe_plain_bus { BusEncryption::Off } else { BusEncryption::On };
            let source = args.who.use_key.source(key, &tpm).await?.with_bus(bus);
            if let KeySource::File { file, .. } = &source
                && let Some(description) = file.description().filter(|description| *description != kid.as_str())
            {
                note!("ekm-otp-client: warning: the key was made for the key id {description}, not {kid}");
            }
            let key = tpm.load(source);
            // Before anything is dialled: a key that cannot be used is told at once, and the connection then costs one TPM command.
            let started = Instant::now();
            let description = key.prepare().await?;
            if description.kind != Some(KeyKind::HmacSha256) {
                return Err(CliError::Usage(format!("{}: this cannot make HMACs, and this protocol needs one", description.algorithm)));
            }
            if args.verbose > 0 {
                note!("* TPM: key loaded, {}", milliseconds(started.elapsed()));
            }
            Ok(Arc::new(key))
        }
        (None, Some(secret)) => {
            note!("ekm-otp-client: warning: the secret is in a file and in this process's memory, not in a TPM: whoever reads it has it");
            Ok(Arc::new(secret))
        }
        (None, None) => Err(CliError::Usage("--key or --secret-file is missing".into())),
    }
}

fn tell_connection(connection: &Connection, args: &GetArgs) {
    let holder = if args.who.key.is_some() { "TPM" } else { "software key" };
    note!("* TLS: {}", connection.tls());
    note!("* HTTP: {:?}", connection.http_version());
    let macs = if args.who.profile == Profile::Go && args.who.credential.unwrap_or_default() == CredentialKind::Jwe {
        "two HMACs"
    } else {
        "one HMAC"
    };
    note!("* {holder}: {macs}, {}", milliseconds(connection.mac_time()));
    if connection.is_proven() {
        note!("* server proof: verified, before the request was sent");
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
