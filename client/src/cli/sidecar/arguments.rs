//! The flags of `proxy`.

use std::path::PathBuf;

use clap::Args;
use ekm_otp::Authority;
use ekm_otp::tunnel::Target;

use super::super::connect::target;
use super::super::credential::ConnectArgs;
use super::super::origin::origin_alone;
use super::address::Address;
use super::asked::HostName;
use super::browser::WebOrigin;
use super::fields::Authorization;

#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// Where local programs find it: 127.0.0.1:PORT, [::1]:PORT, localhost:PORT (0: a free port) or unix:PATH; may be repeated. Passed over where the service manager
    /// hands sockets over
    #[arg(long, value_name = "ADDRESS", help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) listen: Vec<Address>,
    /// Carry TCP connections to LISTEN (an address as for --listen) through the origin's server to HOST:PORT, as its configuration calls it; may be repeated
    #[arg(long, value_name = "LISTEN=HOST:PORT", value_parser = tunnel, help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) tcp: Vec<Tunnel>,
    /// The origin that requests go to [default: that of the profile]
    #[arg(long, value_name = "URL", value_parser = origin_alone, help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) to: Option<Authority>,
    /// A file (TOML) with several sockets and origins
    #[arg(long, value_name = "FILE", help_heading = "Sidecar")]
    pub(super) config: Option<PathBuf>,
    /// Another name that programs call it by, NAME or NAME:PORT, beside localhost and its address; may be repeated
    #[arg(long = "host", value_name = "NAME", value_parser = host_name, help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) hosts: Vec<HostName>,
    /// A web page's origin that may use it, such as http://localhost:3000, beside pages that are served here; may be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = web_origin, help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) allow_origins: Vec<WebOrigin>,
    /// A user (name or number, * for all) who may use a Unix socket, beside you and root; may be repeated
    #[arg(long = "allow-user", value_name = "USER", help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) users: Vec<String>,
    /// The mode of Unix sockets, octal [default: 0600; 0666 with --allow-user, whom the kernel tells apart]
    #[arg(long = "socket-mode", value_name = "MODE", value_parser = mode, help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) mode: Option<u32>,
    /// What becomes of a request's own Authorization field: refuse, drop, or the name of another field that it goes on in [default: refuse]
    #[arg(long, value_name = "RULE", value_parser = Authorization::parse, help_heading = "Sidecar", conflicts_with = "config")]
    pub(super) authorization: Option<Authorization>,
    /// Where /metrics, /readyz and /healthz are: an address as for --listen, of this machine alone
    #[arg(long, value_name = "ADDRESS", help_heading = "Sidecar")]
    pub(super) admin: Option<Address>,
    /// Listen where other machines, or other users by a folder that they can write, get in between: whoever reaches it acts with your key
    #[arg(long, help_heading = "Sidecar")]
    pub(super) unsafe_listen: bool,
    /// How many connections of local programs there may be at once
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub(super) max_connections: u32,
    /// How long each phase of connecting to the origin may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub(super) timeout: u64,
    /// How long the origin may take to begin an answer, in seconds. Bodies take as long as they take
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub(super) response_timeout: u64,
    /// How long a websocket may be silent, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    pub(super) stream_timeout: u64,
    /// How long an unused connection to the origin is kept, in seconds; 0: each request has one of its own
    #[arg(long, value_name = "SECONDS", default_value_t = 90, help_heading = "Limits")]
    pub(super) idle_limit: u64,
    /// How long what is under way may take when it is stopped, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, help_heading = "Limits")]
    pub(super) drain: u64,
    /// Speak HTTP/1.1 to the origin
    #[arg(long = "http1.1", help_heading = "Limits")]
    pub(super) http1: bool,
    /// Tell each request on standard error, its query left out
    #[arg(long, short, help_heading = "Output")]
    pub(super) verbose: bool,
    /// Write systemd user units that start it as these flags say, and tell how to enable them
    #[arg(long, help_heading = "Output")]
    pub(super) install_user_units: bool,
    #[command(flatten)]
    pub(super) how: ConnectArgs,
}

/// Where it is listened, and where that leads.
#[derive(Clone, Debug)]
pub(crate) struct Tunnel {
    pub(super) listen: Address,
    pub(super) target: Target,
}

fn tunnel(text: &str) -> Result<Tunnel, String> {
    let (listen, to) = text.rsplit_once('=').ok_or("write LISTEN=HOST:PORT, such as 127.0.0.1:5432=db.internal:5432")?;
    let listen = listen.parse().map_err(|e: super::address::AddressError| e.to_string())?;
    Ok(Tunnel { listen, target: target(to)? })
}

fn host_name(text: &str) -> Result<HostName, String> {
    HostName::parse(text).ok_or_else(|| "write NAME or NAME:PORT".to_owned())
}

fn web_origin(text: &str) -> Result<WebOrigin, String> {
    WebOrigin::parse(text).ok_or_else(|| "write it as the browser does: http://HOST[:PORT]".to_owned())
}

pub(super) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| "write octal digits, such as 0660".to_owned())
}
