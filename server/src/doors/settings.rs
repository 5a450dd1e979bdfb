//! What can be set about doors, and its defaults.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use ekm_otp_tower::{Authentication, EkmAcceptor, Http, Limits, Peer};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::address::Address;
use super::trusted::Trusted;
use crate::settings::{self, Mistakes};

#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct Settings {
    /// What to listen on: IP:PORT, NAME:PORT, unix:PATH, vsock:PORT or vsock:CID:PORT; may be repeated. Port 0 takes a free one, which is logged
    /// [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(deserialize_with = "settings::one_or_many")]
    listen: Vec<String>,
    /// Mode of the files of Unix sockets, in octal [default: 0660]
    #[arg(long, hide_short_help = true, value_name = "MODE")]
    socket_mode: Option<String>,
    /// Load balancers whose connections begin with a header of the PROXY protocol: an address or network, or unix, vsock, vsock:CID; may be
    /// repeated. From everybody else it is refused
    #[arg(long, value_name = "NETWORK")]
    #[serde(deserialize_with = "settings::one_or_many")]
    proxy_protocol_from: Vec<String>,
    /// How many connections are open at most; when full, the oldest on which nobody was verified is cut [default: 10000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections: Option<NonZeroUsize>,
    /// How many of them one key may have; on further ones it is answered 429 [default: a quarter of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections_per_key: Option<NonZeroUsize>,
    /// How many verified ones one source may have, an IPv4 address or an IPv6 /64; on further ones that is answered 429. Behind a load
    /// balancer, see --proxy-protocol-from [default: half of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections_per_source: Option<NonZeroUsize>,
    /// How long a TLS handshake may take, in seconds, a load balancer's header included [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    handshake_within: Option<NonZeroU64>,
    /// How long a connection may go without a verified request, in seconds [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    verified_within: Option<NonZeroU64>,
    /// How long a request's header section may take from its first byte on, in seconds (HTTP/1) [default: 15]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    header_within: Option<NonZeroU64>,
    /// How long a connection may be idle, in seconds; HTTP/2 connections are asked after that time whether they live [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    keep_alive: Option<NonZeroU64>,
    /// How many bytes a request's header section may have, 8192 to 1048576 [default: 65536]
    #[arg(long, hide_short_help = true, value_name = "BYTES", help_heading = "Limits")]
    max_header_bytes: Option<u32>,
    /// How many fields it may have [default: 100]
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = "Limits")]
    max_headers: Option<NonZeroUsize>,
    /// How many requests one HTTP/2 connection may have under way [default: 128]
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = "Limits")]
    max_streams: Option<NonZeroU32>,
    /// How many 401 answers one connection gets before it is closed [default: 8]
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = "Limits")]
    max_failures: Option<NonZeroU32>,
    /// How many wrong credentials one source may show in a minute before its connections on which nobody is verified yet are answered 429; 0: any
    /// number [default: 120]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_failures_per_source: Option<u32>,
}

impl settings::Settings for Settings {
    fn relative_to(&mut self, folder: &Path) {
        self.listen.iter_mut().for_each(|address| Address::relative_to(address, folder));
    }
}

/// The same, complete.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) listen: Vec<Address>,
    pub(crate) socket_mode: u32,
    trusted: Vec<Trusted>,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_key: usize,
    pub(crate) max_connections_per_source: usize,
    pub(crate) handshake_within: Duration,
    pub(crate) verified_within: Duration,
    pub(crate) max_failures: u32,
    max_failures_per_source: u32,
    header_within: Duration,
    keep_alive: Duration,
    max_header_bytes: u32,
    max_headers: usize,
    max_streams: u32,
}

impl Settings {
    pub(crate) fn resolve(self, mistakes: &mut Mistakes) -> Doors {
        let mut listen = Vec::new();
        for (at, text) in self.listen.iter().enumerate() {
            text.parse().map_or_else(
                |e: super::address::AddressError| mistakes.add_at("listen", at, e.to_string()),
                |address| listen.push(address),
            );
        }
        if self.listen.is_empty() {
            listen.push(Address::Ip(([127, 0, 0, 1], 8443).into()));
        }
        let mut trusted = Vec::new();
        for (at, text) in self.proxy_protocol_from.iter().enumerate() {
            match text.parse() {
                Ok(network) => trusted.push(network),
                Err(e) => mistakes.add_at("proxy_protocol_from", at, super::trusted::TrustedError::to_string(&e)),
            }
        }
        let socket_mode =
            self.socket_mode.as_deref().map_or(Some(0o660), |mode| u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777));
        if socket_mode.is_none() {
            mistakes.add("socket_mode", "write three or four octal digits in quotes, such as \"0660\"");
        }
        let max_header_bytes = self.max_header_bytes.unwrap_or(64 * 1024);
        if !(8192..=1024 * 1024).contains(&max_header_bytes) {
            mistakes.add("max_header_bytes", format!("{max_header_bytes}: 8192 to 1048576"));
        }
        let max_connections = self.max_connections.map_or(10_000, NonZeroUsize::get);
        let or_part = |set: Option<NonZeroUsize>, part: usize| set.map_or((max_connections / part).max(1), NonZeroUsize::get);
        let seconds = |set: Option<NonZeroU64>, default: Duration| set.map_or(default, |seconds| Duration::from_secs(seconds.get()));
        Doors {
            listen,
            socket_mode: socket_mode.unwrap_or(0o660),
            trusted,
            max_connections,
            max_connections_per_key: or_part(self.max_connections_per_key, 4),
            max_connections_per_source: or_part(self.max_connections_per_source, 2),
            handshake_within: seconds(self.handshake_within, EkmAcceptor::HANDSHAKE_WITHIN),
            verified_within: seconds(self.verified_within, Authentication::VERIFIED_WITHIN),
            max_failures: self.max_failures.map_or(Authentication::MAX_FAILURES, NonZeroU32::get),
            max_failures_per_source: self.max_failures_per_source.unwrap_or(Limits::default().failures),
            header_within: seconds(self.header_within, Http::<TokioExecutor>::HEADER_WITHIN),
            keep_alive: seconds(self.keep_alive, Duration::from_secs(60)),
            max_header_bytes,
            max_headers: self.max_headers.map_or(100, NonZeroUsize::get),
            max_streams: self.max_streams.map_or(128, NonZeroU32::get),
        }
    }
}

impl Doors {
    /// How many connections there may be.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            per_source: self.max_connections_per_source,
            failures: self.max_failures_per_source,
            ..Limits::default()
        }
    }

    /// Of the settings that are looked at when the server starts only: whether they differ.
    pub(crate) fn only_at_start(&self, before: &Self) -> Vec<(&'static str, bool)> {
        vec![
            ("listen", self.listen != before.listen || self.socket_mode != before.socket_mode),
            ("proxy_protocol_from", format!("{:?}", self.trusted) != format!("{:?}", before.trusted)),
            ("max_connections", self.max_connections != before.max_connections),
            ("max_connections_per_source", self.max_connections_per_source != before.max_connections_per_source),
            ("max_failures_per_source", self.max_failures_per_source != before.max_failures_per_source),
            (
                "times and sizes of handshakes and header sections",
                (self.handshake_within, self.header_within, self.keep_alive, self.max_header_bytes, self.max_headers, self.max_streams)
                    != (
                        before.handshake_within,
                        before.header_within,
                        before.keep_alive,
                        before.max_header_bytes,
                        before.max_headers,
                        before.max_streams,
                    ),
            ),
        ]
    }

    /// Whether a peer is a load balancer that says whom it connects.
    pub(crate) fn speaks_for_others(&self) -> impl Fn(&Peer) -> bool + Send + Sync + 'static {
        let trusted = self.trusted.clone();
        move |peer| trusted.iter().any(|trusted| trusted.is(peer))
    }

    /// How HTTP is spoken.
    pub(crate) fn http(&self) -> Http<TokioExecutor> {
        let mut http = Http::new(TokioExecutor::new());
        http.header_within(self.header_within);
        let bytes = usize::try_from(self.max_header_bytes).unwrap_or(usize::MAX);
        http.http1().header_read_timeout(self.keep_alive).max_buf_size(bytes);
        // Whatever is set costs an allocation for each request; the default is 100.
        if self.max_headers != 100 {
            http.http1().max_headers(self.max_headers);
        }
        // Streams that are reset by their client are counted, too, until they are done with: rapid reset ends the connection.
        http.http2()
            .enable_connect_protocol()
            .keep_alive_interval(self.keep_alive)
            .max_concurrent_streams(self.max_streams)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(1024)
            .max_header_list_size(self.max_header_bytes.min(16 * 1024));
        http
    }
}
