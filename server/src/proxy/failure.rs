//! Why a request gets no answer of the app's. The client is told which kind, and nothing of what is behind this server.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;

/// What is answered instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server name belongs to no site.
    NoSite,
    /// Verified, but not one whom the site admits.
    NotAdmitted,
    /// Not verified, and the route is not open.
    NotOpen,
    /// Nothing is there, of what is this server's own.
    NotFound,
    /// It cannot be remembered that the client's key is used for the first time.
    NotRemembered,
    /// TRACE would show the client what is told to the app.
    Trace,
    /// The request's body has a coding that cannot be passed on.
    Coding,
    /// The client stopped sending.
    ClientSlow,
    /// The client's body broke off.
    ClientBody,
    /// No upstream could be reached.
    Unreachable,
    /// An upstream answered what is no HTTP, or nothing.
    Broken,
    /// An upstream took too long.
    TimedOut,
}

impl Failure {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoSite => StatusCode::MISDIRECTED_REQUEST,
            Self::NotAdmitted | Self::NotOpen => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::ClientSlow => StatusCode::REQUEST_TIMEOUT,
            Self::ClientBody => StatusCode::BAD_REQUEST,
            Self::Unreachable | Self::NotRemembered => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NoSite => "this server does not serve this name\n",
            Self::NotAdmitted => "this client is not allowed here\n",
            Self::NotOpen => "this needs a credential\n",
            Self::NotFound => "this server has nothing here\n",
            Self::NotRemembered => "this server cannot remember now that this key is used for the first time; its log says why\n",
            Self::Trace => "TRACE is not served\n",
            Self::Coding => "this transfer coding is not served\n",
            Self::ClientSlow => "the request did not arrive in time\n",
            Self::ClientBody => "the request did not arrive whole\n",
            Self::Unreachable => "the application cannot be reached; try again later\n",
            Self::Broken => "the application did not answer properly\n",
            Self::TimedOut => "the application did not answer in time\n",
        }
    }

    pub(super) fn answer(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.text()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Unreachable | Self::NotRemembered => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
            Self::Trace => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))),
            _ => {}
        }
        response
    }
}
