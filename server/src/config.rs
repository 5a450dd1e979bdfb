//! Flags and configuration file, resolved into one [`Config`] before anything is opened. Flags win.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Profile, ServerName, ServerNames, TlsPolicy};
use serde::Deserialize;

use crate::error::ServerError;
use crate::log_lines::LogFormat;

/// The flags of `run`. Each but `--unsafe-…` is also a key of the configuration file (with `_` for `-`).
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Configuration file (TOML). Relative paths in it are relative to its folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// File key: `authorities`, a table of lists. Further authority (host or host:port) whose requests are taken on connections for NAME;
    /// may be repeated
    #[arg(long = "authority", value_name = "NAME=AUTHORITY", help_heading = "TLS")]
    authorities: Vec<String>,
    /// Take secrets of fewer than 16 bytes. A rogue server can guess them offline
    #[arg(long, hide_short_help = true, help_heading = "Registry and credentials")]
    unsafe_weak_secret: bool,
    /// Log the credential of each connection once it is closed. For demonstrations
    #[arg(long, hide_short_help = true, help_heading = "Log")]
    unsafe_show_otp: bool,
}

/// What both a flag and the file can set.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// IP address and port to listen on, such as 0.0.0.0:8443; port 0 takes a free one, which is logged [default: 127.0.0.1:8443]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Certificate chain (PEM), the server's own certificate first
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    private_key: Option<PathBuf>,
    /// Registry: a TOML file (JSON where its name ends in .json) of key ids with secret (base64) and client name, readable by its owner only
    #[arg(long, value_name = "FILE", help_heading = "Registry and credentials")]
    secrets: Option<PathBuf>,
    /// Realm shown in challenges [default: ekm-otp]
    #[arg(long, help_heading = "Registry and credentials")]
    realm: Option<String>,
    /// File key: `server_names`. Name that clients may ask for in TLS (SNI); an IP address stands for clients that send none. Repeat for more
    #[arg(long = "server-name", value_name = "NAME", help_heading = "TLS")]
    #[serde(default)]
    server_names: Vec<String>,
    #[arg(skip)]
    #[serde(default)]
    authorities: BTreeMap<String, Vec<String>>,
    /// File key: `credentials`. Kind of credential that is accepted; repeat for more. The registry may ask for more from a key id
    /// [default: otp, jws, jwe]
    #[arg(long = "credential", value_name = "KIND", value_parser = PossibleValuesParser::new(CredentialKind::ALL.map(CredentialKind::as_str)), help_heading = "Registry and credentials")]
    #[serde(default)]
    credentials: Vec<String>,
    /// How far clocks may differ where tokens are checked, in seconds, 0 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry and credentials")]
    leeway: Option<u64>,
    /// File key: `profiles`. Wire that is spoken; repeat for more; v1 always is. go is that of the Go original, for keys with `profile = "go"` in
    /// the registry, and weaker: the server proves nothing to the client, the server's name is not covered, a token is bound to the
    /// connection, not to the request or the time; its secrets are often weak [default: v1]
    #[arg(long = "profile", hide_short_help = true, value_name = "PROFILE", value_parser = PossibleValuesParser::new(Profile::ALL.map(Profile::as_str)), help_heading = "Compatibility")]
    #[serde(default)]
    profiles: Vec<String>,
    /// With the profile go: the key id that its JWS are checked with; they name none
    #[arg(long, hide_short_help = true, value_name = "KID", help_heading = "Compatibility")]
    go_default_kid: Option<String>,
    /// Take TLS 1.2 too, with extended master secret and without resumption
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "TLS")]
    tls12: Option<bool>,
    /// Refuse every key exchange but X25519MLKEM768
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "TLS")]
    require_post_quantum: Option<bool>,
    /// How long a connection lives at most, in seconds [default: 3600]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    max_age: Option<NonZeroU64>,
    /// How many connections are open at most; when full, the oldest on which nobody was verified is cut [default: 10000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections: Option<NonZeroUsize>,
    /// How many of them one key may have; on further ones it is answered 429 [default: a quarter of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections_per_key: Option<NonZeroUsize>,
    /// How many verified ones one source may have, an IPv4 address or an IPv6 /64; on further ones that is answered 429. Raise it behind a load
    /// balancer [default: half of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections_per_source: Option<NonZeroUsize>,
    /// How long connections may take to finish after SIGTERM or SIGINT, in seconds; a second signal cuts them [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    drain: Option<u64>,
    /// What to log, as tracing's filters write it: info, debug, ekm_otp_tower=debug,… [default: info]
    #[arg(long, value_name = "FILTER", env = "EKM_OTP_LOG", help_heading = "Log")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, value_enum, help_heading = "Log")]
    log_format: Option<LogFormat>,
}

/// What the server runs with. Complete and checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    pub(crate) secrets: PathBuf,
    pub(crate) realm: String,
    pub(crate) names: ServerNames,
    pub(crate) tls: TlsPolicy,
    pub(crate) kinds: Vec<CredentialKind>,
    pub(crate) leeway: Duration,
    /// Whether the profile `go` is on.
    pub(crate) go: bool,
    pub(crate) go_default_kid: Option<KeyId>,
    pub(crate) max_age: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_key: usize,
    pub(crate) max_connections_per_source: usize,
    pub(crate) drain: Duration,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) weak_secrets: bool,
    pub(crate) show_otp: bool,
}

impl Config {
    pub(crate) fn resolve(args: RunArgs) -> Result<Self, ServerError> {
        let file = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        let flags = args.settings;
        let required = |flag: Option<PathBuf>, file: Option<PathBuf>, name: &str| {
            flag.or(file).ok_or_else(|| {
                ServerError::Config(format!("--{name} is missing (or `{}` in the configuration file)", name.replace('-', "_")))
            })
        };
        let first_set = |flags: Vec<String>, file: Vec<String>| if flags.is_empty() { file } else { flags };
        let kinds = parse_all::<CredentialKind>("credential", &first_set(flags.credentials, file.credentials))?;
        let profiles = parse_all::<Profile>("profile", &first_set(flags.profiles, file.profiles))?;
        let go = profiles.contains(&Profile::Go);
        let go_default_kid = flags.go_default_kid.or(file.go_default_kid);
        if go_default_kid.is_some() && !go {
            return Err(ServerError::Config("--go-default-kid: the profile go is not switched on (--profile v1 --profile go)".into()));
        }
        if go && !profiles.contains(&Profile::V1) {
            return Err(ServerError::Config("--profile go: v1 is always spoken, so name it too (--profile v1 --profile go)".into()));
        }
        let max_connections = flags.max_connections.or(file.max_connections).map_or(10_000, NonZeroUsize::get);
        let server_names = if flags.server_names.is_empty() { file.server_names } else { flags.server_names };
        let mut authorities: Vec<(String, String)> =
            file.authorities.into_iter().flat_map(|(name, list)| list.into_iter().map(move |a| (name.clone(), a))).collect();
        if !args.authorities.is_empty() {
            authorities = args.authorities.iter().map(|pair| split_authority(pair)).collect::<Result<_, _>>()?;
        }
        Ok(Self {
            listen: flags.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8443))),
            certificate: required(flags.certificate, file.certificate, "certificate")?,
            private_key: required(flags.private_key, file.private_key, "private-key")?,
            secrets: required(flags.secrets, file.secrets, "secrets")?,
            realm: flags.realm.or(file.realm).unwrap_or_else(|| "ekm-otp".to_owned()),
            names: server_names_of(&server_names, &authorities)?,
            tls: TlsPolicy {
                tls12: flags.tls12.or(file.tls12).unwrap_or(false),
                require_post_quantum: flags.require_post_quantum.or(file.require_post_quantum).unwrap_or(false),
            },
            kinds: if kinds.is_empty() { CredentialKind::ALL.to_vec() } else { kinds },
            leeway: match flags.leeway.or(file.leeway).unwrap_or(60) {
                seconds @ 0..=600 => Duration::from_secs(seconds),
                more => {
                    return Err(ServerError::Config(format!("--leeway {more}: at most 600 seconds, else no token would ever be too old")));
                }
            },
            go,
            go_default_kid: go_default_kid
                .map(|kid| KeyId::new(&kid).map_err(|e| ServerError::Config(format!("--go-default-kid {kid}: {e}"))))
                .transpose()?,
            max_age: Duration::from_secs(flags.max_age.or(file.max_age).map_or(3600, NonZeroU64::get)),
            max_connections,
            max_connections_per_key: flags
                .max_connections_per_key
                .or(file.max_connections_per_key)
                .map_or((max_connections / 4).max(1), NonZeroUsize::get),
            max_connections_per_source: flags
                .max_connections_per_source
                .or(file.max_connections_per_source)
                .map_or((max_connections / 2).max(1), NonZeroUsize::get),
            drain: Duration::from_secs(flags.drain.or(file.drain).unwrap_or(30)),
            log: flags.log.filter(|log| !log.trim().is_empty()).or(file.log).unwrap_or_else(|| "info".to_owned()),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            weak_secrets: args.unsafe_weak_secret,
            show_otp: args.unsafe_show_otp,
        })
    }
}

impl Settings {
    fn read(path: &Path) -> Result<Self, ServerError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
        let mut settings: Self = toml::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text)).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count());
            // Values are shown behind a quotation mark, and one may be a secret that was put into the wrong file.
            let message = e.message().split('"').next().unwrap_or_default().trim_end();
            ServerError::Config(format!("{shown}: line {line}: {message}"))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut settings.certificate, &mut settings.private_key, &mut settings.secrets].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(settings)
    }
}

fn parse_all<T: FromStr<Err: Display>>(flag: &str, texts: &[String]) -> Result<Vec<T>, ServerError> {
    texts.iter().map(|text| text.parse().map_err(|e| ServerError::Config(format!("--{flag} {text}: {e}")))).collect()
}

fn split_authority(pair: &str) -> Result<(String, String), ServerError> {
    let (name, authority) =
        pair.split_once('=').ok_or_else(|| ServerError::Config(format!("--authority {pair}: write it as NAME=HOST[:PORT]")))?;
    Ok((name.to_owned(), authority.to_owned()))
}

fn server_names_of(server_names: &[String], authorities: &[(String, String)]) -> Result<ServerNames, ServerError> {
    let mut names = ServerNames::new();
    for name in server_names {
        names.allow_host(name).map_err(|e| ServerError::Config(format!("server name: {e}")))?;
    }
    if names.is_empty() {
        return Err(ServerError::Config(
            "--server-name is missing (or `server_names` in the configuration file): the name that clients ask for".into(),
        ));
    }
    for (name, authority) in authorities {
        let server_name = ServerName::from_host(name).map_err(|e| ServerError::Config(format!("authority: {e}")))?;
        if !names.accepts(&server_name) {
            return Err(ServerError::Config(format!("authority {name}={authority}: {name} is no configured server name")));
        }
        let authority = Authority::parse(authority).map_err(|e| ServerError::Config(format!("authority {authority:?}: {e}")))?;
        names.allow_authority(server_name, authority);
    }
    Ok(names)
}
