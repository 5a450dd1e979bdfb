//! The flags of `request`: curl's names and meanings where it has them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use http::{HeaderValue, Method, Uri};
use serde_json::Value;

use super::address::{ConnectTo, Resolve};
use super::data::DataArgs;
use super::form::FormArgs;
use super::header::{self, Wanted};
use super::{claims, target};
use crate::cli::credential::ConnectArgs;

/// What `request` and its other names take.
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// https://HOST[:PORT]/PATH
    #[arg(value_parser = target::url)]
    pub(super) url: Uri,
    #[command(flatten)]
    pub(super) how: ConnectArgs,
    #[command(flatten)]
    pub(super) what: WhatArgs,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) form: FormArgs,
    /// Send this file (PUT unless -X says otherwise); - is standard input as it comes. Where the URL ends in /, the file's name goes behind it
    #[arg(long, short = 'T', value_name = "FILE", help_heading = "Body", conflicts_with_all = ["data", "data-binary", "data-raw", "data-urlencode", "json", "form", "form-string"])]
    pub(super) upload_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) redirects: RedirectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) time: TimeArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    _refused: RefusedArgs,
    /// The method of the command's other names.
    #[arg(long = "called", hide = true, value_parser = method)]
    pub(super) called: Option<Method>,
}

impl RequestArgs {
    /// Whether what the TPM's C library says is wanted, too.
    pub(crate) fn is_very_verbose(&self) -> bool {
        self.output.verbose > 1
    }
}

/// The request itself.
#[derive(Args, Debug)]
#[command(next_help_heading = "Request")]
pub(super) struct WhatArgs {
    /// The method [default: GET, or what the body's flags say]
    #[arg(long = "request", short = 'X', value_name = "METHOD", value_parser = method)]
    pub(super) method: Option<Method>,
    /// A header field; may be repeated. 'Name;' is an empty one, 'Name:' leaves out one that would be there by itself, @FILE has one in each line
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header::wanted)]
    pub(super) headers: Vec<Wanted>,
    /// The field User-Agent; '' for none
    #[arg(long, short = 'A', value_name = "NAME", value_parser = header::value)]
    pub(super) user_agent: Option<HeaderValue>,
    /// The field Referer
    #[arg(long, short = 'e', value_name = "URL", value_parser = header::value)]
    pub(super) referer: Option<HeaderValue>,
    /// The field Cookie; may be repeated. Cookies of answers are not kept
    #[arg(long = "cookie", short = 'b', value_name = "NAME=VALUE", value_parser = header::cookies)]
    pub(super) cookies: Vec<HeaderValue>,
    /// Only these bytes: FROM-TO, FROM- or -LAST
    #[arg(long, short = 'r', value_name = "RANGE", value_parser = header::range, allow_hyphen_values = true)]
    pub(super) range: Option<HeaderValue>,
    /// Ask for a compressed answer, and show it as it was before
    #[arg(long)]
    pub(super) compressed: bool,
    /// Only the header section: HEAD, which is shown
    #[arg(long, short = 'I')]
    pub(super) head: bool,
    /// Put what -d and its like say into the URL's query instead of a body
    #[arg(long, short = 'G')]
    pub(super) get: bool,
    /// A claim of your own in the request's token; may be repeated. NAME=VALUE is a text, NAME:=VALUE is JSON (9, true, {"a":1}). Whoever reads
    /// the HTTP layer can read it in a jws and not in a jwe; this machine's process list shows it
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claims::claim)]
    pub(super) claims: Vec<(String, Value)>,
}

/// Redirects.
#[derive(Args, Debug)]
#[command(next_help_heading = "Redirects")]
pub(super) struct RedirectArgs {
    /// Follow redirects, to the same origin only: the credential is for no other
    #[arg(long, short = 'L')]
    pub(super) location: bool,
    /// Follow no more than so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) max_redirs: u32,
    /// POST stays POST after 301 (302, 303), where it would become GET
    #[arg(long, hide_short_help = true)]
    pub(super) post301: bool,
    #[arg(long, hide = true)]
    pub(super) post302: bool,
    #[arg(long, hide = true)]
    pub(super) post303: bool,
}

/// What is shown, and where.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Write the body to this file, as it comes; - is standard output, binary to a terminal, too
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Write the body to a file of the name that the URL ends in
    #[arg(long, short = 'O', conflicts_with = "output")]
    pub(super) remote_name: bool,
    /// The folder of -o and -O
    #[arg(long, value_name = "FOLDER")]
    pub(super) output_dir: Option<PathBuf>,
    /// Make the folders of -o, -O and --output-dir where they are missing
    #[arg(long)]
    pub(super) create_dirs: bool,
    /// Where it fails, remove the file that came in part
    #[arg(long, hide_short_help = true)]
    pub(super) remove_on_error: bool,
    /// Show the header section before the body
    #[arg(long, short = 'i')]
    pub(super) include: bool,
    /// Write the header section to this file; - is standard output
    #[arg(long, short = 'D', value_name = "FILE")]
    pub(super) dump_header: Option<PathBuf>,
    /// Show no body where the status says that it failed (400 and above)
    #[arg(long, short, conflicts_with = "no_fail")]
    pub(super) fail: bool,
    /// As it is without: the body is shown, and the exit code says that it failed
    #[arg(long, hide_short_help = true, conflicts_with_all = ["fail", "no_fail"])]
    pub(super) fail_with_body: bool,
    /// Exit with 0 whatever the status says, as curl does without -f
    #[arg(long)]
    pub(super) no_fail: bool,
    /// Show no progress, no warnings and no errors
    #[arg(long, short)]
    pub(super) silent: bool,
    /// Show errors even with -s
    #[arg(long, short = 'S')]
    pub(super) show_error: bool,
    /// Show no progress
    #[arg(long, hide_short_help = true)]
    pub(super) no_progress_meter: bool,
    /// Show this when all is over: a text with variables such as %{http_code} %{time_total} %{size_download} %{mac_time} %{kid} %header{NAME} \n;
    /// @FILE has it in a file. docs/command-line.md has all variables
    #[arg(long, short = 'w', value_name = "FORMAT")]
    pub(super) write_out: Option<String>,
    /// Tell on standard error what happened; twice, what the TPM's C library says of it, too
    #[arg(long, short, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Tell the connection's credential on standard error once the connection is closed. For demonstrations
    #[arg(long, hide_short_help = true)]
    pub(super) unsafe_show_otp: bool,
}

/// How it is reached, how long is waited, and how often it is tried.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(super) struct TimeArgs {
    /// How long each phase may take, in seconds: looking the name up, each address, the handshake, the TPM, an answer that does not go on
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// How long it may take until the connection stands and the server has proved itself, all phases together
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) connect_timeout: Option<Duration>,
    /// How long all may take, each try by itself
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    pub(super) max_time: Option<Duration>,
    /// Try again so often where it may pass: no answer in time, 408, 429, 500, 502, 503, 504. Waits a second, then twice as long each time, and
    /// never shorter than Retry-After says
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) retry: u32,
    /// Wait so long before each try instead
    #[arg(long, value_name = "SECONDS", value_parser = any_seconds)]
    pub(super) retry_delay: Option<Duration>,
    /// Begin no further try after so long
    #[arg(long, value_name = "SECONDS", value_parser = any_seconds)]
    pub(super) retry_max_time: Option<Duration>,
    /// Try again where the connection is refused, too
    #[arg(long, hide_short_help = true)]
    pub(super) retry_connrefused: bool,
    /// Try again after each failure, even where the request may have been carried out
    #[arg(long, hide_short_help = true)]
    pub(super) retry_all_errors: bool,
    /// Dial these addresses for HOST:PORT (* for any host) instead of looking the name up; may be repeated
    #[arg(long, value_name = "HOST:PORT:ADDRESS[,ADDRESS]")]
    pub(super) resolve: Vec<Resolve>,
    /// Dial HOST2:PORT2 for HOST1:PORT1 (empty: any, and the same); may be repeated. Name, certificate and credential stay HOST1's
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2")]
    pub(super) connect_to: Vec<ConnectTo>,
    /// Offer HTTP/1.1 alone
    #[arg(long = "http1.1", conflicts_with_all = ["http2", "http2_prior_knowledge"])]
    pub(super) http1: bool,
    /// Offer HTTP/2, and HTTP/1.1 where the server has no other: as it is without
    #[arg(long)]
    pub(super) http2: bool,
    /// Offer HTTP/2 alone
    #[arg(long)]
    pub(super) http2_prior_knowledge: bool,
}

/// The same request many times.
#[derive(Args, Debug)]
#[command(next_help_heading = "Measuring")]
pub(super) struct LoadArgs {
    /// Send the request so often, drop the bodies, and show how long it took: latencies with their histogram, answers, errors, connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["output", "remote_name", "include", "dump_header", "write_out", "location", "retry", "compressed", "unsafe_show_otp"])]
    pub(super) repeat: Option<u64>,
    /// How many of them at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), requires = "repeat")]
    pub(super) concurrency: u32,
}

/// Flags of curl that have no meaning here, or a dangerous one: told in words. And some that change nothing.
#[derive(Args, Debug)]
struct RefusedArgs {
    #[arg(long = "cert", short = 'E', hide = true, value_parser = |_: &str| refused("no client certificate is used: the key is named with --key, and the key id with --kid"))]
    _cert: Option<()>,
    #[arg(long = "insecure", short = 'k', hide = true, num_args = 0, default_missing_value = "", value_parser = |_: &str| refused("a server without a certificate that is trusted gets no request: name its CA with --ca FILE"))]
    _insecure: Option<()>,
    #[arg(long = "user", short = 'u', hide = true, value_parser = |_: &str| refused("the key says who you are (--kid, --key), and a password would be in the process list"))]
    _user: Option<()>,
    #[arg(long = "proxy", short = 'x', hide = true, value_parser = |_: &str| refused("no proxy is used: TLS must go through to the server. `ekm-otp-client proxy` is for programs that need one"))]
    _proxy: Option<()>,
    #[arg(long = "location-trusted", hide = true, num_args = 0, default_missing_value = "", value_parser = |_: &str| refused("a credential is for one origin: -L follows redirects there"))]
    _location_trusted: Option<()>,
    #[arg(long = "no-buffer", short = 'N', hide = true)]
    _no_buffer: bool,
    #[arg(long = "globoff", short = 'g', hide = true)]
    _globoff: bool,
    #[arg(long = "path-as-is", hide = true)]
    _path_as_is: bool,
    #[arg(long = "tlsv1.3", hide = true)]
    _tls13: bool,
    #[arg(long = "progress-bar", short = '#', hide = true)]
    _progress_bar: bool,
}

fn refused(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

fn method(text: &str) -> Result<Method, String> {
    match text.parse() {
        Ok(Method::CONNECT) => Err("a tunnel is no request: `ekm-otp-client connect` makes one".to_owned()),
        Ok(method) => Ok(method),
        Err(_) => Err("not a method".to_owned()),
    }
}

/// Seconds, with a fraction where that is wanted.
fn any_seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "write it in seconds: 30, or 0.5".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    any_seconds(text).and_then(|time| if time.is_zero() { Err("nothing is done in no time".to_owned()) } else { Ok(time) })
}
