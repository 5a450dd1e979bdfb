//! Why there is no connection, or no answer, split by whose fault it is.

use std::time::Duration;

use ekm_otp::{Authority, TlsError};
use http::StatusCode;

use crate::certificate;
use crate::signer::SignerError;

/// Why no authenticated connection came about. Nothing but the bodyless probe was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot connect to {address}: {source}{}", way_to(.source))]
    Unreachable {
        /// Host and port that were dialled.
        address: Authority,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A phase took longer than it may.
    #[error("{phase} took longer than {deadline:?}: the server is overloaded, or a firewall stands in between")]
    Deadline {
        /// What was waited for.
        phase: &'static str,
        /// How long.
        deadline: Duration,
    },
    /// The server's certificate is not trusted, or names another server.
    #[error("the server's certificate is refused: {}", certificate_in_words(.0))]
    Certificate(#[source] std::io::Error),
    /// The TLS handshake failed, for instance because the two sides share no version.
    #[error("the TLS handshake failed: {0}{hint}", hint = hint(.0))]
    Handshake(#[source] std::io::Error),
    /// The handshake agreed on what the policy refuses.
    #[error(transparent)]
    Policy(#[from] TlsError),
    /// The key could not be used.
    #[error(transparent)]
    Key(#[from] SignerError),
    /// Tokens were asked for, and this program was built without them.
    #[cfg(not(feature = "jose"))]
    #[error("this program was built without the feature `jose`, and so without {0} credentials")]
    NoTokens(ekm_otp::field::CredentialKind),
    /// HTTP broke.
    #[error("the connection broke: {}", with_sources(.0))]
    Http(#[from] hyper::Error),
    /// The server refuses this client's credential.
    #[error("the server refuses the credential ({status}): {why}")]
    Refused {
        /// 401, 403 or 421.
        status: StatusCode,
        /// What may be the matter.
        why: Refusal,
    },
    /// Whoever answered says that it sees another TLS connection than this client. Nobody has authenticated that: it is a diagnosis.
    #[error(
        "who answers says that it sees another TLS connection than this client: TLS ends somewhere in between{}. Have that pass TLS through, or run the \
         server in front of it",
        named(.issuer.as_deref())
    )]
    Intercepted {
        /// Who issued the certificate that was shown, as it says itself (RFC 4514), where that can be read.
        issuer: Option<String>,
    },
    /// The server cannot answer now.
    #[error("the server is not available ({0}): try again later")]
    Unavailable(StatusCode),
    /// The server did not prove that it holds the secret.
    #[error("the server did not prove that it holds the secret of this key id: {0}. Only the bodyless probe was sent to it")]
    NotProven(String),
}

/// What may be the matter with a refused credential. The server says no more than it must, and nobody has authenticated what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It sees another TLS connection than this client.
    #[error("it sees another TLS connection than this client: TLS ends somewhere in between")]
    Channel,
    /// It wants another kind of credential.
    #[error("it wants another kind of credential from this key id, or from all (--credential otp, jws or jwe)")]
    Credential,
    /// The clocks differ.
    #[error("the two clocks differ too much")]
    Time,
    /// The token's claims do not fit the request.
    #[error("it sees another request than this client sent: something in between changes the authority or the target")]
    Claims,
    /// It does not take this key id and secret, and does not say why.
    #[error("unknown key id, another secret, a revoked key, one of another wire (v1, go), or a name that the server is not configured for")]
    Unknown,
    /// It is not configured for the request's authority.
    #[error("the server is not configured for this authority (its --server-name or --authority)")]
    Authority,
}

/// What to look at.
fn way_to(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ". Nothing listens there: is the server running, and the port right?",
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::TimedOut => ". Does a firewall stand in between?",
        _ => ". Is the name right, and the network up?",
    }
}

fn named(issuer: Option<&str>) -> String {
    issuer.map_or_else(String::new, |issuer| format!(" (the certificate that was shown here was issued by {issuer})"))
}

/// An error with the errors behind it, each told once: hyper's own texts leave out why.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let why = error.to_string();
        if !text.contains(&why) {
            text += &format!(": {why}");
        }
        source = error.source();
    }
    text
}

fn certificate_in_words(error: &std::io::Error) -> String {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(why)) => certificate::in_words(why),
        _ => error.to_string(),
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    use rustls::AlertDescription::ProtocolVersion;
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(ProtocolVersion) | rustls::Error::PeerIncompatible(_)) => {
            " (a server that has no TLS 1.3, or no key exchange in common? --tls12 takes TLS 1.2)"
        }
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            " (what listens there does not speak TLS, but plain HTTP perhaps: is the port right?)"
        }
        _ => "",
    }
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl ConnectError {
    /// Splits what the TLS stack reports by whose fault it is: [`Certificate`](Self::Certificate) or [`Handshake`](Self::Handshake).
    #[must_use]
    pub fn of_handshake(error: std::io::Error) -> Self {
        if let Some(rustls::Error::InvalidCertificate(_)) = tls_error(&error) { Self::Certificate(error) } else { Self::Handshake(error) }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request is for another origin than the connection's.
    #[error("the request is for {asked}, and this connection and its credential are for {origin}")]
    ForeignAuthority {
        /// What the request's URI names.
        asked: String,
        /// What the connection is for.
        origin: Authority,
    },
    /// The request holds a field that is the connection's to set.
    #[error("the field {0} is set by the connection")]
    ReservedField(http::HeaderName),
    /// The URI has no usable form.
    #[error("the request target is not usable: {0}")]
    Target(#[from] http::Error),
    /// The request has claims, and a credential without a token cannot carry them.
    #[error("claims need a token to travel in: --credential jws or jwe")]
    NoToken,
    /// The request's claims or its target are too long for a credential.
    #[error("{0}")]
    ClaimsTooLong(String),
    /// The request's token could not be made.
    #[cfg(feature = "jose")]
    #[error(transparent)]
    Sign(#[from] ekm_otp::jose::SignError),
    /// The response carried a proof that is not this connection's.
    #[error("the server's proof is wrong: it does not hold the secret of this key id, or TLS ends somewhere in between")]
    WrongProof,
    /// No response header section in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The connection was closed before. Nothing was sent.
    #[error("the connection is closed")]
    Closed,
    /// HTTP broke.
    #[error("the connection broke: {}", with_sources(.0))]
    Http(#[from] hyper::Error),
}

impl RequestError {
    /// Whether the server says that it has not processed the request: a stream that it refused (RFC 9113 §8.7), or one that its GOAWAY leaves out (§6.8).
    pub(crate) fn is_unprocessed(&self) -> bool {
        let Self::Http(error) = self else { return false };
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
                return error.is_remote() && (error.is_go_away() || is_refused);
            }
            source = error.source();
        }
        false
    }
}

#[cfg(feature = "jose")]
impl From<ekm_otp::field::TooLong> for RequestError {
    fn from(error: ekm_otp::field::TooLong) -> Self {
        Self::ClaimsTooLong(error.to_string())
    }
}
