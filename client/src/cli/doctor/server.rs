//! The server and the way to it: name, TCP, TLS, the protocol, the clocks, and whether TLS ends where it should.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ekm_otp::{Handshake, Profile, WELL_KNOWN_PATH};
use ekm_otp_client::{ConnectError, Signer, dial};
use http::header::DATE;
use http::{Response, StatusCode};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::clock;
use super::probe::{Probe, Seen, challenge, within};
use super::proof::{self, Asked, POLICY, Proof};
use super::report::{Fault, Report};
use crate::cli::error::CliError;
use crate::cli::{proxy, trust};

/// How far the clocks may be apart for tokens to be taken (the server's `--leeway`).
const LEEWAY: u64 = 60;
const NOTICED: u64 = 5;

/// A proxy that others would use.
pub(super) fn tell_proxy(report: &mut Report) {
    if let Some(variable) = proxy::ignored() {
        let advice =
            "nothing, if the server can be reached without; a proxy would have to pass TLS through (CONNECT), and none is used here";
        report.warning("proxy", format!("${variable} is ignored"), advice);
    }
}

/// The server's lines. They end where nothing can be found out behind a problem.
pub(super) async fn check(report: &mut Report, asked: Asked<'_>, key: Option<Arc<dyn Signer>>) {
    let Some(tcp) = reach(report, &asked).await else { return };
    let Some((tls, handshake)) = handshake(report, &asked, tcp).await else { return };
    if asked.who.wire() == Profile::Go {
        drop(tls);
        return tell_go(report, &asked, key).await;
    }
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
    let proof = match (&seen, key, &asked.who.kid) {
        (Seen::Ours | Seen::Odd(_), Some(key), Some(kid)) => proof::prove(&asked, kid, key).await,
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
        Proof::NotTried => not_tried(report, &asked),
    }
}

fn not_tried(report: &mut Report, asked: &Asked<'_>) {
    if !asked.was_key_given() {
        return;
    }
    let advice = match &asked.who.kid {
        None => "name the key id with --kid",
        Some(_) => "see the lines above; a key with a password needs --password-file or TPM_KEY_AUTH",
    };
    report.warning("credential", "not tried", advice);
}

/// The profile go: the server proves nothing and tells nothing of its own accord. Whether it takes a credential is all that can be seen.
async fn tell_go(report: &mut Report, asked: &Asked<'_>, key: Option<Arc<dyn Signer>>) {
    let (Some(key), Some(kid)) = (key, &asked.who.kid) else { return not_tried(report, asked) };
    match proof::prove_go(asked, kid, key).await {
        Ok((kind, status)) if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN => {
            let finding = format!("the server takes it ({kind}, profile go; it answers {status} to GET {WELL_KNOWN_PATH})");
            report.warning(
                "credential",
                finding,
                "in the profile go the server proves nothing: whoever has a valid certificate may have answered",
            );
        }
        Ok((kind, status)) => {
            let finding = format!("the server refuses it ({kind}, profile go): {status}");
            let advice = "compare with the server's registry: the key id, its secret, its profile; or TLS ends somewhere in between";
            report.problem("credential", Fault::NotPermitted, finding, advice);
        }
        Err(error) => report.problem("credential", Fault::of(&error), error.to_string(), "try again later"),
    }
}

fn not_ekm_otp(report: &mut Report, what: &str) {
    let advice = "is it the right host and port? It is another server, one before protocol v1, or a proxy that answers in its place";
    report.problem("ekm-otp", Fault::Other, format!("this is no EKM-OTP server: it {what}"), advice);
}

async fn reach(report: &mut Report, asked: &Asked<'_>) -> Option<TcpStream> {
    let (dialled, deadline) = (asked.dialled, asked.deadline);
    let (host, port) = (dialled.host(), dialled.port());
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
    match dial(&addresses, deadline).await {
        Ok(tcp) => {
            let peer = tcp.peer_addr().map_or_else(|_| dialled.to_string(), |peer| peer.to_string());
            report.ok("tcp", format!("{peer} answers"));
            Some(tcp)
        }
        Err(e) => {
            let advice = match e.kind() {
                io::ErrorKind::ConnectionRefused => "nothing listens there: is the server running, is the port right?",
                _ => "is the server running, and does a firewall or VPN stand in between?",
            };
            report.problem("tcp", Fault::Unavailable, format!("cannot connect to {dialled}: {e}"), advice);
            None
        }
    }
}

async fn handshake(report: &mut Report, asked: &Asked<'_>, tcp: TcpStream) -> Option<(TlsStream<TcpStream>, Handshake)> {
    let mut config = match trust::client_config(asked.who.ca.as_deref(), &POLICY) {
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
            report.problem("tls", fault, ConnectError::of_handshake(e).to_string(), advice);
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
        let finding = format!("{group}: who records this now may read it with a quantum computer later");
        if asked.needs_post_quantum {
            let finding = format!("{finding}, and the profile refuses that (require_post_quantum)");
            report.problem("key-exchange", Fault::Other, finding, advice);
        } else {
            report.warning("key-exchange", finding, advice);
        }
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
