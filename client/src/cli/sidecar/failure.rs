//! Why a request gets no answer of the origin's. The program is told what is wrong and what to do, in a text, in the field `Ekm-Otp-Error`, and, where it
//! speaks gRPC, in gRPC's own way. Nothing of the request, no secret and no credential is in it.

use std::time::Duration;

use ekm_otp_client::{Error, ErrorKind};
use http::{HeaderName, StatusCode};

/// Says which of the sidecar's own answers this is; no origin's answer has it.
pub(super) const ERROR: HeaderName = HeaderName::from_static("ekm-otp-error");

/// What is wrong with the request, or with the way to the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// `Host` is missing, doubled, or no host.
    HostField,
    /// A name that could be anybody's.
    Host,
    /// No origin is configured for this name.
    Route,
    /// Another page's request.
    CrossSite,
    /// A browser's, and it does not say which page's.
    Unsaid,
    /// This user may not.
    Caller,
    /// The request has a credential of its own.
    Authorization,
    /// What is below the well-known path is between client and server.
    Reserved,
    /// CONNECT.
    Connect,
    /// TRACE.
    Trace,
    /// A transfer coding that cannot be passed on.
    Coding,
    /// The process drains.
    Draining,
    /// The origin was not reached, or refuses, or broke off.
    Origin { kind: OriginFailure, text: String, retry_after: Option<Duration> },
}

/// What is wrong between here and the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum OriginFailure {
    Refused,
    NotProven,
    Intercepted,
    Certificate,
    Key,
    Unavailable,
    Deadline,
    Broken,
    Request,
}

impl OriginFailure {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NotProven => "not-proven",
            Self::Intercepted => "intercepted",
            Self::Certificate => "certificate",
            Self::Key => "key",
            Self::Unavailable => "unavailable",
            Self::Deadline => "deadline",
            Self::Broken => "broken",
            Self::Request => "request",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Refused | Self::NotProven | Self::Intercepted | Self::Certificate | Self::Key | Self::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken => StatusCode::BAD_GATEWAY,
            Self::Request => StatusCode::BAD_REQUEST,
        }
    }

    /// grpc/doc/statuscodes.md: UNAUTHENTICATED, UNAVAILABLE, DEADLINE_EXCEEDED, INVALID_ARGUMENT.
    fn grpc(self) -> u8 {
        match self {
            Self::Refused | Self::NotProven | Self::Intercepted | Self::Certificate => 16,
            Self::Key | Self::Unavailable | Self::Broken => 14,
            Self::Deadline => 4,
            Self::Request => 3,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Refused | Self::NotProven | Self::Intercepted | Self::Certificate | Self::Key => {
                "No request was sent. `ekm-otp-client doctor` with --url and the same key or profile says more."
            }
            Self::Unavailable => "No request was sent; try again later.",
            Self::Deadline => "The request may have been processed.",
            Self::Broken => "The request may have been processed; it is not repeated here unless that is harmless.",
            Self::Request => "The request cannot be sent as it is.",
        }
    }
}

impl Failure {
    /// Of what the client says.
    pub(super) fn of(error: &Error, back_off: Option<Duration>) -> Self {
        let kind = match error.kind() {
            ErrorKind::Usage => OriginFailure::Request,
            ErrorKind::Refused => OriginFailure::Refused,
            ErrorKind::NotProven => OriginFailure::NotProven,
            ErrorKind::Intercepted => OriginFailure::Intercepted,
            ErrorKind::Certificate => OriginFailure::Certificate,
            ErrorKind::Key => OriginFailure::Key,
            ErrorKind::Unavailable => OriginFailure::Unavailable,
            ErrorKind::Deadline => OriginFailure::Deadline,
            _ => OriginFailure::Broken,
        };
        Self::Origin { kind, text: error.to_string(), retry_after: error.retry_after().or(back_off) }
    }

    /// In a word: what stands in `Ekm-Otp-Error`, in the log and in the metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::HostField | Self::Host => "host",
            Self::Route => "route",
            Self::CrossSite | Self::Unsaid => "cross-site",
            Self::Caller => "caller",
            Self::Authorization => "authorization",
            Self::Reserved => "reserved",
            Self::Connect => "connect",
            Self::Trace | Self::Coding => "method",
            Self::Draining => "draining",
            Self::Origin { kind, .. } => kind.word(),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::HostField => StatusCode::BAD_REQUEST,
            Self::Host | Self::Route => StatusCode::MISDIRECTED_REQUEST,
            Self::CrossSite | Self::Unsaid | Self::Caller | Self::Authorization | Self::Reserved => StatusCode::FORBIDDEN,
            Self::Connect | Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Origin { kind, .. } => kind.status(),
        }
    }

    /// As gRPC says it.
    pub(super) fn grpc(&self) -> u8 {
        match self {
            // PERMISSION_DENIED, UNIMPLEMENTED, UNAVAILABLE, INVALID_ARGUMENT
            Self::CrossSite | Self::Unsaid | Self::Caller | Self::Authorization | Self::Reserved | Self::Host | Self::Route => 7,
            Self::Connect | Self::Trace | Self::Coding => 12,
            Self::Draining => 14,
            Self::HostField => 3,
            Self::Origin { kind, .. } => kind.grpc(),
        }
    }

    /// What is wrong, and what to do.
    pub(super) fn text(&self) -> String {
        match self {
            Self::HostField => "the request needs one Host field with a host name in it".into(),
            Self::Host => "this sidecar is not called by this name: use localhost or the address that it listens on, with its port, or add the name \
                           with --host (a page of another site may have led here by a name of its own)"
                .into(),
            Self::Route => "no origin is configured here for this name: --to names one, `[[listen.route]]` several".into(),
            Self::CrossSite => "the request comes from a page that was not served here, so it is refused: type the address into the browser, or name \
                                the page's origin with --allow-origin"
                .into(),
            Self::Unsaid => "this browser does not say which page a request comes from (Sec-Fetch-Site), so it is refused: use \
                             http://localhost and the port, or a newer browser"
                .into(),
            Self::Caller => "this user may not use this: --allow-user (or `users`) names those who may".into(),
            Self::Authorization => "the request has an Authorization field of its own, and the one that leaves here is the sidecar's: leave it out, \
                                    or say what becomes of it with --authorization (drop, or the name of a field that the application reads)"
                .into(),
            Self::Reserved => "what is below /.well-known/ekm-otp is between the sidecar and its server".into(),
            Self::Connect => "CONNECT is not served: TLS between a program and its server cannot be authenticated by anybody in between. Ask for \
                              http:// in place of https://: from here on it is TLS (HTTP_PROXY), or call this address itself. For raw TCP there is \
                              `ekm-otp-client connect`, or --tcp"
                .into(),
            Self::Trace => "TRACE is not served".into(),
            Self::Coding => "this transfer coding is not served: send the body as it is, or in chunks".into(),
            Self::Draining => "this sidecar is being stopped: try again".into(),
            Self::Origin { kind, text, .. } => format!("{text}. {}", kind.advice()),
        }
    }
}
