//! One connection to the server, on which nothing but made-up credentials are shown, and what its answers tell.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ekm_otp::field::{Challenge, Credential, CredentialKind};
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Authority, Channel, Derivation, Ekm, Handshake, KeyId, Secret, WELL_KNOWN_PATH};
use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// Which TLS connection the server sees.
pub(super) enum Seen {
    /// This one.
    Ours,
    /// Another one.
    Other,
    /// It does not look: it is not configured for the name.
    NameRefused,
    /// It answers what it should not.
    Odd(String),
}

/// One connection, on which nothing but made-up credentials are shown.
pub(super) struct Probe<'a> {
    sender: Sender,
    driver: tokio::task::AbortHandle,
    origin: &'a Authority,
    handshake: Handshake,
    deadline: Duration,
}

enum Sender {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl<'a> Probe<'a> {
    pub(super) async fn start(
        tls: TlsStream<TcpStream>,
        origin: &'a Authority,
        handshake: Handshake,
        deadline: Duration,
    ) -> io::Result<Self> {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        let (sender, driver) = if is_h2 {
            let (sender, connection) = within(deadline, async { other(http2::handshake(TokioExecutor::new(), io).await) }).await?;
            (Sender::H2(sender), tokio::spawn(async move { drop(connection.await) }).abort_handle())
        } else {
            let (sender, connection) = within(deadline, async { other(http1::handshake(io).await) }).await?;
            (Sender::H1(sender), tokio::spawn(async move { drop(connection.await) }).abort_handle())
        };
        Ok(Self { sender, driver, origin, handshake, deadline })
    }

    /// `GET /.well-known/ekm-otp`, and its answer without the body.
    pub(super) async fn get(&mut self, credential: Option<&str>) -> io::Result<Response<()>> {
        let mut request = Request::get(WELL_KNOWN_PATH).body(Empty::new()).map_err(io::Error::other)?;
        if let Some(credential) = credential {
            let mut value = HeaderValue::from_str(credential).map_err(io::Error::other)?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let (sender, origin) = (&mut self.sender, self.origin);
        let exchange = async {
            let answer = match sender {
                Sender::H1(sender) => {
                    let host = HeaderValue::from_str(&origin.to_string()).map_err(io::Error::other)?;
                    request.headers_mut().insert(HOST, host);
                    other(sender.ready().await)?;
                    other(sender.send_request(request).await)?
                }
                Sender::H2(sender) => {
                    *request.uri_mut() = format!("https://{origin}{WELL_KNOWN_PATH}").parse().map_err(io::Error::other)?;
                    other(sender.ready().await)?;
                    other(sender.send_request(request).await)?
                }
            };
            let (parts, body) = answer.into_parts();
            // The connection is free again once the body has ended. One that is endless is another server's.
            let _ = Limited::new(body, 64 * 1024).collect().await;
            Ok(Response::from_parts(parts, ()))
        };
        within(self.deadline, exchange).await
    }

    /// Shows credentials of a key that nobody has: first one for another connection, to see that the server looks at all, then one for this.
    pub(super) async fn see(&mut self) -> Seen {
        let odd = |answer: &Response<()>| match challenge(answer) {
            Some(Challenge { error: Some(error), .. }) => Seen::Odd(format!("the server answers error={error:?}")),
            _ => Seen::Odd(format!("the server answers {}", answer.status())),
        };
        for kind in CredentialKind::ALL {
            let ours = self.handshake.ekm.channel();
            let foreign = made_up_channel();
            let (control, real) = match (foreign.and_then(|channel| self.made_up(kind, &channel)), self.made_up(kind, &ours)) {
                (Ok(control), Ok(real)) => (control, real),
                (Err(e), _) | (_, Err(e)) => return Seen::Odd(e.to_string()),
            };
            let answer = match self.get(Some(&control)).await {
                Ok(answer) => answer,
                Err(e) => return Seen::Odd(e.to_string()),
            };
            match refusal(&answer) {
                // Not this kind of credential; which one, the next tries show.
                Some(Some(error)) if error == "credential" => continue,
                Some(Some(error)) if error == "channel" => {}
                Some(None) => return Seen::NameRefused,
                _ => return odd(&answer),
            }
            return match self.get(Some(&real)).await {
                Ok(answer) => match refusal(&answer) {
                    Some(None) => Seen::Ours,
                    Some(Some(error)) if error == "channel" => Seen::Other,
                    _ => odd(&answer),
                },
                Err(e) => Seen::Odd(e.to_string()),
            };
        }
        Seen::Odd("the server takes no kind of credential of this protocol".to_owned())
    }

    /// A credential whose secret is made up on the spot.
    pub(super) fn made_up(&self, kind: CredentialKind, channel: &Channel) -> io::Result<Zeroizing<String>> {
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let (secret, kid) = (Secret::new(secret).map_err(io::Error::other)?, KeyId::new("doctor").map_err(io::Error::other)?);
        let derivation = Derivation::new(&self.handshake.ekm, &kid, self.handshake.facts.server_name());
        let tag = secret.mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        let signer = match kind {
            CredentialKind::Otp => return Ok(Credential::write(&kid, channel, &prk.otp())),
            CredentialKind::Jws => prk.jws_signer(&kid),
            CredentialKind::Jwe => prk.jwe_signer(&kid),
        };
        let request = SignedRequest { audience: &self.origin.audience(), method: "GET", target: WELL_KNOWN_PATH };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let token = signer.sign(&request, 1, now, &ExtraClaims::default()).map_err(io::Error::other)?;
        Credential::write_token(&kid, channel, &token).map_err(io::Error::other)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) fn made_up_channel() -> io::Result<Channel> {
    let mut bytes = [0; Ekm::LEN];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Ekm::from_bytes(bytes).channel())
}

pub(super) fn challenge(answer: &Response<()>) -> Option<Challenge> {
    Challenge::read(answer.headers().get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes))
}

/// The error of a 401 of this protocol, if it tells one.
pub(super) fn refusal(answer: &Response<()>) -> Option<Option<String>> {
    (answer.status() == StatusCode::UNAUTHORIZED).then(|| challenge(answer)).flatten().map(|challenge| challenge.error)
}

pub(super) fn other<T>(result: hyper::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::other)
}

pub(super) async fn within<T>(deadline: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", deadline.as_secs())));
    tokio::time::timeout(deadline, work).await.unwrap_or_else(late)
}
