//! What is compared, and the test data that both ends of a connection know.

use ekm_otp_tower::protocol::{KeyId, KeyIdError, Secret, SecretError};

/// One line of the comparison: which server, and what its client shows with each request.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub name: &'static str,
    pub server: Server,
    pub shown: Shown,
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// hyper's HTTP/1 and tokio-rustls, and nothing else: the handshake in the connection's task, no timer, no upgrades, whatever the request
    /// carries ignored. Nobody would run it, and nothing is cheaper.
    Bare,
    /// The same with client certificates, one issuer deep.
    BareMtls,
    /// hyper-util's server as its own examples use it: HTTP/1 and HTTP/2, upgrades, a time for each request's header section.
    Usual,
    /// The same behind a static token as long as our credential, compared in constant time: no bearer check costs less.
    Bearer,
    /// This crate as its examples use it.
    Layer,
    /// The server's binary, as built for release, with its default configuration.
    Binary(Log),
    /// nginx as Debian packages it, with a static answer.
    Nginx { client_certificates: bool },
    /// hyper's HTTP/1 server and hyper-util's client, with tokio-rustls in front: each request is handed on as it is, with no rule and no limit.
    BareProxy { client_certificates: bool },
    /// The server's binary in front of [`UPSTREAM`], else with its default configuration.
    BinaryProxy(Log),
    /// nginx in front of [`UPSTREAM`], over connections that it keeps.
    NginxProxy { client_certificates: bool },
    /// Plain HTTP, and nothing else.
    Upstream,
}

impl Server {
    /// Whether it hands requests on.
    pub fn is_proxy(self) -> bool {
        matches!(self, Self::BareProxy { .. } | Self::BinaryProxy(_) | Self::NginxProxy { .. })
    }

    /// Whether it asks for the client's certificate.
    pub fn wants_certificates(self) -> bool {
        let (Self::Nginx { client_certificates } | Self::BareProxy { client_certificates } | Self::NginxProxy { client_certificates }) =
            self
        else {
            return self == Self::BareMtls;
        };
        client_certificates
    }
}

/// What stands behind all proxies. It works on the client's processor, and nobody counts what it does.
pub const UPSTREAM: Mode = mode("upstream", Server::Upstream, Shown::Nothing);

/// What the binary logs, into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Errors only.
    Errors,
    /// As it does unless told otherwise: a line for each request.
    Default,
    /// All there is for an operator, the audit log in a file of its own.
    All,
}

/// What goes with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    /// A token as long as the password's field.
    Bearer,
    /// The connection's password.
    Password,
    /// A signed token for each request.
    Jws,
    /// A signed and encrypted token for each request.
    Jwe,
}

const fn mode(name: &'static str, server: Server, shown: Shown) -> Mode {
    Mode { name, server, shown }
}

impl Mode {
    /// In the order of measuring and of the tables. What shows a credential to `Bare` pays for its bytes alone.
    pub const ALL: [Self; 23] = [
        mode("bare", Server::Bare, Shown::Nothing),
        mode("bare, otp's bytes", Server::Bare, Shown::Password),
        mode("bare, jws's bytes", Server::Bare, Shown::Jws),
        mode("bare, jwe's bytes", Server::Bare, Shown::Jwe),
        mode("bare mtls", Server::BareMtls, Shown::Nothing),
        mode("server, log off", Server::Binary(Log::Errors), Shown::Password),
        mode("server, log", Server::Binary(Log::Default), Shown::Password),
        mode("server, jws", Server::Binary(Log::Errors), Shown::Jws),
        mode("server, jwe", Server::Binary(Log::Errors), Shown::Jwe),
        mode("layer, otp", Server::Layer, Shown::Password),
        mode("layer, jws", Server::Layer, Shown::Jws),
        mode("layer, jwe", Server::Layer, Shown::Jwe),
        mode("usual", Server::Usual, Shown::Nothing),
        mode("usual, bearer", Server::Bearer, Shown::Bearer),
        mode("nginx", Server::Nginx { client_certificates: false }, Shown::Nothing),
        mode("nginx mtls", Server::Nginx { client_certificates: true }, Shown::Nothing),
        mode("bare proxy", Server::BareProxy { client_certificates: false }, Shown::Nothing),
        mode("bare proxy mtls", Server::BareProxy { client_certificates: true }, Shown::Nothing),
        mode("proxy, log off", Server::BinaryProxy(Log::Errors), Shown::Password),
        mode("proxy, log", Server::BinaryProxy(Log::Default), Shown::Password),
        mode("proxy, jws", Server::BinaryProxy(Log::Errors), Shown::Jws),
        mode("nginx proxy", Server::NginxProxy { client_certificates: false }, Shown::Nothing),
        mode("nginx proxy mtls", Server::NginxProxy { client_certificates: true }, Shown::Nothing),
    ];

    /// Where [`Server::Bare`] without any bytes stands in [`ALL`](Self::ALL), and where it stands with the bytes of `shown`.
    pub const BARE: usize = 0;
    pub const fn same_bytes(self) -> usize {
        match self.shown {
            Shown::Nothing => Self::BARE,
            Shown::Bearer | Shown::Password => 1,
            Shown::Jws => 2,
            Shown::Jwe => 3,
        }
    }

    /// Where the proxies stand in [`ALL`](Self::ALL) that the others are compared with.
    pub const BARE_PROXY: usize = 16;
    pub const NGINX_PROXY: usize = 21;
    pub const NGINX_PROXY_MTLS: usize = 22;

    /// Whether the server has a proof to show.
    pub fn is_ours(self) -> bool {
        matches!(self.server, Server::Layer | Server::Binary(_) | Server::BinaryProxy(_))
    }
}

/// The one host that the servers answer to.
pub const HOST: &str = "localhost";
/// What is asked for. All answer it alike; the binary knows no other path that is as small.
pub const PATH: &str = "/get";

/// The one client's key id.
pub fn kid() -> Result<KeyId, KeyIdError> {
    KeyId::new("client1")
}

/// The one client's secret: test data.
pub fn secret() -> Result<Secret, SecretError> {
    Secret::new(b"test data, used nowhere else ...".to_vec())
}

/// A bearer credential of the same length as the EKM-OTP credential of [`kid`], since each byte of a header costs something.
pub fn bearer_credential() -> String {
    const SCHEME: &str = "Bearer ";
    let same_length = r#"EKM-OTP kid="client1", channel="", otp="""#.len() + CHANNEL_CHARS + OTP_CHARS;
    format!("{SCHEME}{}", "t".repeat(same_length - SCHEME.len()))
}

/// 16 and 32 bytes in unpadded base64url.
const CHANNEL_CHARS: usize = 22;
const OTP_CHARS: usize = 43;
