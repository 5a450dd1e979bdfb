//! The server and the way to it: name, TCP, TLS, the protocol, the clocks, and whether TLS ends where it should.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ekm_otp::field::{Challenge, Credential, CredentialKind};
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Authority, Channel, Derivation, Ekm, Handshake, KeyId, Secret, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_client::{ConnectError, Connector, Key};
use http::header::{AUTHORIZATION, DATE, HOST, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::clock;
use super::report::{Fault, Report};
use crate::cli::{CliError, trust};

/// What TLS 1.2 has to offer is told rather than refused.
const POLICY: TlsPolicy = TlsPolicy { tls12: true, require_post_quantum: false };
/// How far the clocks may be apart for tokens to be taken (the server's `--leeway`).
const LEEWAY: u64 = 60;
const NOTICED: u64 = 5;

pub(super) struct Asked<'a> {
    pub(super) origin: &'a Authority,
    pub(super) ca: Option<&'a Path>,
    pub(super) deadline: Duration,
    pub(super) kid: Option<&'a KeyId>,
    /// Whether a key was named, usable or not.
    pub(super) was_key_given: bool,
}

/// The server's lines. They end where nothing can be found out behind a problem.
pub(super) async fn check(report: &mut Report, asked: Asked<'_>, key: Option<Key>) {
    let Some(tcp) = dial(report, &asked).await else { return };
    let Some((tls, handshake)) = handshake(report, &asked, tcp).await else { return };
    let mut probe = match Probe::start(tls, asked.origin, handshake, asked.deadline).await {
        Ok(probe) => probe,
        Err(e) => return not_ekm_otp(report, &format!("speaks no HTTP: {e}")),
    };
    let answer = match probe.get(None).await {
        Ok(answer) => answer,
        Err(e) => return not_ekm_otp(report, &format!("does not answer: {e}")),
    };
    let is_ekm_otp = match (answer.status(), challenge(&answer)) {
        (StatusCode::UNAUTHORIZED, Some(challenge)) => {
            report.ok("ekm-otp", format!("it asks for EKM-OTP, realm {:?}", challenge.realm));
            true
        }
        (StatusCode::UNAUTHORIZED, None) => {
            not_ekm_otp(report, "answers 401 and asks for another kind of authentication");
            false
        }
        (status, _) => {
            not_ekm_otp(report, &format!("answers {status} to an unauthenticated GET {WELL_KNOWN_PATH}, not 401"));
            false
        }
    };
    check_clock(report, &answer);
    if !is_ekm_otp {
        return;
    }

    let seen = probe.see().await;
    drop(probe);
    let proof = match (&seen, key, asked.kid) {
        (Seen::Ours | Seen::Odd(_), Some(key), Some(kid)) => prove(&asked, kid, key).await,
        _ => Proof::NotTried,
    };
    match (&seen, &proof) {
        (Seen::Other, _) => report.problem(
            "interception",
            Fault::NotPermitted,
            "the server sees another TLS connection than this one: TLS ends somewhere between you and the server",
            "a proxy, a load balancer or a virus scanner opens the connection: have it pass TLS through, or run the server in front of it",
        ),
        (_, Proof::Given(kind)) => {
            report.ok("interception", format!("none: the server has proved itself on the keys of this connection ({kind})"));
        }
        (Seen::Ours, _) => {
            report.ok("interception", "none seen: the server sees this TLS connection (--key and --kid have it prove that)");
        }
        (Seen::NameRefused, _) => report.problem(
            "interception",
            Fault::Other,
            format!("not known: the server is not configured for the name {}", asked.origin.host()),
            "use a name that the server has (its --server-name), or add this one there",
        ),
        (Seen::Odd(why), _) => report.warning("interception", format!("not known: {why}"), "try again later"),
    }
    match proof {
        Proof::Given(kind) => report.ok("credential", format!("the server takes it ({kind}), and has proved that it holds the secret")),
        Proof::Failed(error) => {
            let advice = match &error {
                ConnectError::Refused { .. } => {
                    "compare with the server's registry: the key id, its secret, its profile; was the server restarted since the entry was added?"
                }
                ConnectError::Key(_) => "see the lines about the key and the TPM, above",
                ConnectError::NotProven(_) => "whoever answers has a valid certificate for this name and does not hold the secret",
                _ => "try again later",
            };
            let error = CliError::from(error);
            report.problem("credential", Fault::of(&error), error.to_string(), advice);
        }
        Proof::NotTried if asked.was_key_given && asked.kid.is_none() => {
            report.warning("credential", "not tried", "name the key id with --kid");
        }
        Proof::NotTried if asked.was_key_given => {
            report.warning("credential", "not tried", "see the lines above; a key with a password needs --password-file or TPM_KEY_AUTH");
        }
        Proof::NotTried => {}
    }
}

fn not_ekm_otp(report: &mut Report, what: &str) {
    let advice = "is it the right host and port? It is another server, one before protocol v1, or a proxy that answers in its place";
    report.problem("ekm-otp", Fault::Other, format!("this is no EKM-OTP server: it {what}"), advice);
}

async fn dial(report: &mut Report, asked: &Asked<'_>) -> Option<TcpStream> {
    let (origin, deadline) = (asked.origin, asked.deadline);
    let (host, port) = (origin.host(), origin.port());
    let addresses: io::Result<Vec<SocketAddr>> =
        within(deadline, tokio::net::lookup_host((host.clone(), port))).await.map(Iterator::collect);
    let addresses = match addresses {
        Ok(addresses) if !addresses.is_empty() => addresses,
        outcome => {
            let why = outcome.err().map_or_else(|| "it has no address".to_owned(), |e| e.to_string());
            report.problem("dns", Fault::Unavailable, format!("cannot resolve {host}: {why}"), "is the name right, and the network up?");
            return None;
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    report.ok("dns", format!("{host}: {}", shown.join(", ")));
    match within(deadline, TcpStream::connect(&*addresses)).await {
        Ok(tcp) => {
            let peer = tcp.peer_addr().map_or_else(|_| origin.to_string(), |peer| peer.to_string());
            report.ok("tcp", format!("{peer} answers"));
            Some(tcp)
        }
        Err(e) => {
            let advice = match e.kind() {
                io::ErrorKind::ConnectionRefused => "nothing listens there: is the server running, is the port right?",
                _ => "is the server running, and does a firewall or VPN stand in between?",
            };
            report.problem("tcp", Fault::Unavailable, format!("cannot connect to {origin}: {e}"), advice);
            None
        }
    }
}

async fn handshake(report: &mut Report, asked: &Asked<'_>, tcp: TcpStream) -> Option<(TlsStream<TcpStream>, Handshake)> {
    let mut config = match trust::client_config(asked.ca, &POLICY) {
        Ok(config) => config,
        Err(e) => {
            report.problem("tls", Fault::of(&e), e.to_string(), "name the certificate of the CA that signed the server's: --ca FILE (PEM)");
            return None;
        }
    };
    POLICY.restrict_client(&mut config);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let host = asked.origin.host();
    let done = match ServerName::try_from(host.clone()) {
        Ok(name) => within(asked.deadline, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await,
        Err(e) => Err(io::Error::new(io::ErrorKind::InvalidInput, e)),
    };
    let tls = match done {
        Ok(tls) => tls,
        Err(e) => {
            let (fault, advice) = not_secured(&e, &host);
            report.problem("tls", fault, e.to_string(), advice);
            return None;
        }
    };
    let handshake = match Handshake::of_client(tls.get_ref().1, asked.origin.server_name(), &POLICY) {
        Ok(handshake) => handshake,
        Err(e) => {
            report.problem("tls", Fault::Other, e.to_string(), "the server needs TLS 1.3");
            return None;
        }
    };
    let facts = &handshake.facts;
    let finding = format!("{}, {}, the certificate is valid for {host}", facts.version_name(), facts.cipher_suite_name());
    if facts.version_name() == "TLSv1.3" {
        report.ok("tls", finding);
    } else {
        report.warning("tls", finding, "have the server speak TLS 1.3; until then, `get --tls12` takes this");
    }
    let group = facts.group_name();
    if group == "X25519MLKEM768" {
        report.ok("key-exchange", format!("{group}: post-quantum"));
    } else {
        let advice = "have the server, or what ends TLS for it, offer X25519MLKEM768 (rustls, OpenSSL 3.5, Go 1.24)";
        report.warning("key-exchange", format!("{group}: who records this now may read it with a quantum computer later"), advice);
    }
    Some((tls, handshake))
}

fn not_secured(error: &io::Error, host: &str) -> (Fault, String) {
    use rustls::CertificateError as C;
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let advice = match why {
                C::NotValidForName | C::NotValidForNameContext { .. } => {
                    format!(
                        "the certificate is for another name than {host}: use its name in the URL, or give the server another certificate"
                    )
                }
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                    "renew the server's certificate; if it is not that, set this machine's clock".to_owned()
                }
                _ => "if it was signed by a CA of your own, name that with --ca FILE (PEM); else something else than the server answers"
                    .to_owned(),
            };
            (Fault::NotPermitted, advice)
        }
        Some(rustls::Error::InvalidMessage(_)) => (Fault::Other, "something without TLS listens there: is the port right?".to_owned()),
        Some(_) => (Fault::Other, "the two sides have no TLS version or key exchange in common: the server needs TLS 1.3".to_owned()),
        None if error.kind() == io::ErrorKind::TimedOut => {
            (Fault::Unavailable, "is it a TLS server? Something that waits for the client to speak otherwise, or is overloaded".to_owned())
        }
        None => (Fault::Other, "is it a TLS server? It closes the connection".to_owned()),
    }
}

fn check_clock(report: &mut Report, answer: &Response<()>) {
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok());
    let Some((server, ours)) = date.and_then(clock::parse).zip(now) else {
        report.warning("clock", "the server does not tell its time (Date)", "compare the clocks by hand: tokens need them within 60 s");
        return;
    };
    let apart = server.abs_diff(ours);
    let finding = match (apart, server < ours) {
        (0..=1, _) => "the same as the server's".to_owned(),
        (_, true) => format!("the server's is {apart} s behind"),
        (_, false) => format!("the server's is {apart} s ahead"),
    };
    let advice = "set both by NTP (timedatectl set-ntp true)";
    if apart > LEEWAY {
        let finding = format!("{finding}: tokens (jws, jwe) will be refused, {LEEWAY} s are allowed");
        report.problem("clock", Fault::Other, finding, advice);
    } else if apart > NOTICED {
        report.warning("clock", finding, advice);
    } else {
        report.ok("clock", finding);
    }
}

/// What became of a real credential.
enum Proof {
    NotTried,
    Given(CredentialKind),
    Failed(ConnectError),
}

/// A connection of its own, as any other command makes it. A server or an entry in its registry may ask for more than a password.
async fn prove(asked: &Asked<'_>, kid: &KeyId, key: Key) -> Proof {
    let Ok(tls) = trust::client_config(asked.ca, &POLICY) else { return Proof::NotTried };
    let mut connector = Connector::new(tls, POLICY, asked.origin.clone(), kid.clone(), key).deadline(asked.deadline);
    let mut last = None;
    for kind in CredentialKind::ALL {
        connector = connector.credential(kind);
        match connector.connect().await {
            Ok(_) => return Proof::Given(kind),
            Err(e @ ConnectError::Refused { why, .. }) if why.contains("another kind of credential") => last = Some(e),
            Err(e) => return Proof::Failed(e),
        }
    }
    last.map_or(Proof::NotTried, Proof::Failed)
}

/// Which TLS connection the server sees.
enum Seen {
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
struct Probe<'a> {
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
    async fn start(tls: TlsStream<TcpStream>, origin: &'a Authority, handshake: Handshake, deadline: Duration) -> io::Result<Self> {
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
    async fn get(&mut self, credential: Option<&str>) -> io::Result<Response<()>> {
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
    async fn see(&mut self) -> Seen {
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
    fn made_up(&self, kind: CredentialKind, channel: &Channel) -> io::Result<Zeroizing<String>> {
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

fn made_up_channel() -> io::Result<Channel> {
    let mut bytes = [0; Ekm::LEN];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Ekm::from_bytes(bytes).channel())
}

fn challenge(answer: &Response<()>) -> Option<Challenge> {
    Challenge::read(answer.headers().get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes))
}

/// The error of a 401 of this protocol, if it tells one.
fn refusal(answer: &Response<()>) -> Option<Option<String>> {
    (answer.status() == StatusCode::UNAUTHORIZED).then(|| challenge(answer)).flatten().map(|challenge| challenge.error)
}

fn other<T>(result: hyper::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::other)
}

async fn within<T>(deadline: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", deadline.as_secs())));
    tokio::time::timeout(deadline, work).await.unwrap_or_else(late)
}
