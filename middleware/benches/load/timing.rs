//! Whether the time of a refusal tells why: unknown, wrong, revoked and expired keys, compared by Welch's t-test, with the server's log in a file.
//!
//! Tries of all kinds come in an order drawn by chance, on connections that carry several each, so that whatever drifts meets all kinds alike. A
//! |t| below 4.5 is what leakage assessments take for "cannot be told apart" (Goodwill et al., "A testing methodology for side-channel
//! resistance validation", 2011). Slow outliers, which are the machine's, weigh much in a variance: so the test is made on all times, and on
//! those below each of several percentiles of all times together.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ekm_otp_tower::protocol::field::Credential;
use ekm_otp_tower::protocol::{Derivation, Handshake, KeyId, Otp, Secret, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::AnyError;
use crate::command::{self, Surroundings};
use crate::mode::{HOST, Log, Mode, PATH, Server, Shown};
use crate::options::KeyExchange;
use crate::pki::{POLICY, Pki};
use crate::process::{ServerProcess, leave_the_servers_processor};
use crate::quantile::quantile;

/// What |t| may be.
const THRESHOLD: f64 = 4.5;
/// One less than what closes a connection.
const TRIES_PER_CONNECTION: usize = 7;
/// How many tries warm up.
const WARM_UP: usize = 500;
/// Up to which of all times, in percent, are compared.
const PERCENTILES: [f64; 5] = [1.0, 0.99, 0.95, 0.9, 0.75];

/// A kind of refusal: the key id, and whether the password is right under that key.
struct Kind {
    name: &'static str,
    kid: &'static str,
    is_right: bool,
}

/// All key ids are of one length: their bytes are no secret.
const KINDS: [Kind; 6] = [
    Kind { name: "unknown key id", kid: "key-u", is_right: false },
    Kind { name: "wrong password", kid: "key-a", is_right: false },
    Kind { name: "revoked, wrong", kid: "key-r", is_right: false },
    Kind { name: "revoked, right", kid: "key-r", is_right: true },
    Kind { name: "expired, wrong", kid: "key-e", is_right: false },
    Kind { name: "expired, right", kid: "key-e", is_right: true },
];

/// Test data, used nowhere else.
fn secret_of(kid: &str) -> Result<Secret, AnyError> {
    Ok(Secret::new(format!("test data, used nowhere else {kid}").into_bytes())?)
}

fn registry() -> Result<String, AnyError> {
    let mut text = String::new();
    for (kid, rest) in [("key-a", ""), ("key-r", "state = \"revoked\"\n"), ("key-e", "not_after = \"2001-01-01T00:00:00Z\"\n")] {
        text += &format!("[{kid}]\nsecret = \"{}\"\nclient = \"the client\"\n{rest}", *secret_of(kid)?.encode_base64());
    }
    Ok(text)
}

/// Times `tries` refusals of each kind.
///
/// # Errors
/// When two kinds can be told apart.
pub fn compare(tries: usize) -> Result<(), AnyError> {
    let binary = &command::build_binary()?;
    leave_the_servers_processor()?;
    let pki = Pki::new()?;
    let mode = Mode { name: "timing", server: Server::Binary(Log::All), shown: Shown::Password };
    let surroundings = Surroundings { folder: pki.folder(), binary, upstream: None, registry: Some(&registry()?) };
    let server = ServerProcess::start(mode, surroundings)?;
    let tls = Arc::new(pki.client_config(mode, KeyExchange::X25519MlKem768)?);

    let mut draw = Draw::new()?;
    let mut times: [Vec<f64>; KINDS.len()] = std::array::from_fn(|_| Vec::with_capacity(tries));
    let mut warm_up = WARM_UP;
    let mut left: Vec<usize> = Vec::new();
    while !left.is_empty() || times[0].len() < tries {
        let mut connection = Connection::open(&server, &tls)?;
        for _ in 0..TRIES_PER_CONNECTION {
            // Blocks of some tries of each kind, each block in an order of its own: no kind falls behind.
            if left.is_empty() {
                if times[0].len() >= tries {
                    break;
                }
                left = (0..KINDS.len()).flat_map(|kind| [kind; 4]).collect();
            }
            let kind = left.swap_remove(draw.below(left.len()));
            let time = connection.refused(&KINDS[kind])?;
            if warm_up > 0 {
                warm_up -= 1;
            } else {
                times[kind].push(time);
            }
        }
    }
    let written = |log: &str| Ok::<_, std::io::Error>(std::fs::metadata(pki.folder().join(log))?.len());
    let (log, audit) = (written(&format!("{}.log", server.addr.port()))?, written("audit.log")?);
    println!("{} refusals of each of {} kinds; {log} bytes in the log, {audit} in the audit log", times[0].len(), KINDS.len());
    let largest = report(&times);
    if largest < THRESHOLD { Ok(()) } else { Err(format!("two kinds can be told apart: |t| = {largest:.2}, at most {THRESHOLD}").into()) }
}

/// Prints each kind's times and the largest |t| of each percentile. Returns the largest of all.
fn report(times: &[Vec<f64>; KINDS.len()]) -> f64 {
    let all: Vec<f64> = times.concat();
    println!("{:<18}{:>10}{:>12}{:>12}", "kind", "tries", "median µs", "mean µs");
    for (kind, times) in KINDS.iter().zip(times) {
        println!("{:<18}{:>10}{:>12.2}{:>12.2}", kind.name, times.len(), quantile(times, 0.5), mean(times));
    }
    let mut largest = 0.0_f64;
    println!("{:<18}{:>10}  between", "up to percentile", "max |t|");
    for percentile in PERCENTILES {
        let limit = quantile(&all, percentile);
        let kept = times.each_ref().map(|times| times.iter().copied().filter(|time| *time <= limit).collect::<Vec<_>>());
        let pairs = (0..KINDS.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let worst = pairs.map(|(a, b)| (welch(&kept[a], &kept[b]).abs(), a, b)).max_by(|x, y| x.0.total_cmp(&y.0));
        if let Some((t, a, b)) = worst {
            println!("{:<18}{t:>10.2}  {} and {}", percentile * 100.0, KINDS[a].name, KINDS[b].name);
            largest = largest.max(t);
        }
    }
    largest
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Welch's t: the difference of two means in units of its standard error.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    let error = |values: &[f64]| {
        let mean = mean(values);
        let count = values.len() as f64;
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count
    };
    (mean(a) - mean(b)) / (error(a) + error(b)).sqrt()
}

/// Blocking, so that no runtime stands between the network and the clock.
struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    handshake: Handshake,
}

impl Connection {
    fn open(server: &ServerProcess, tls: &Arc<ClientConfig>) -> Result<Self, AnyError> {
        let tcp = TcpStream::connect(server.addr)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(tls), HOST.try_into()?)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let handshake = Handshake::of_client(&stream.conn, ServerName::from_host(HOST)?, &POLICY)?;
        Ok(Self { stream, handshake })
    }

    /// How long a request that is refused takes, in microseconds: from its last byte written to its answer's last byte read.
    fn refused(&mut self, kind: &Kind) -> Result<f64, AnyError> {
        let kid = KeyId::new(kind.kid)?;
        let field = Credential::write(&kid, &self.handshake.ekm.channel(), &self.password(&kid, kind.is_right)?);
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {}\r\n\r\n", *field);
        let mut answer = [0; 4096];
        let mut filled = 0;
        let start = Instant::now();
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        while !answer[..filled].ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut answer[filled..])? {
                0 => return Err("the server closed the connection, or answered with a body".into()),
                read => filled += read,
            }
        }
        let time = start.elapsed().as_secs_f64() * 1e6;
        if !answer.starts_with(b"HTTP/1.1 401 ") {
            return Err(format!("{}: answered {}", kind.name, String::from_utf8_lossy(&answer[..filled.min(40)])).into());
        }
        Ok(time)
    }

    fn password(&self, kid: &KeyId, is_right: bool) -> Result<Otp, AnyError> {
        let secret = secret_of(if is_right { kid.as_str() } else { "another key" })?;
        let derivation = Derivation::new(&self.handshake.ekm, kid, self.handshake.facts.server_name());
        let tag = secret.mac(derivation.mac_input());
        Ok(derivation.finish(tag).otp())
    }
}

/// Xorshift (Marsaglia 2003): an order that the server cannot know is all that is asked for.
struct Draw(u64);

impl Draw {
    fn new() -> Result<Self, AnyError> {
        Ok(Self(u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() & u128::from(u64::MAX))? | 1))
    }

    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % count as u64).unwrap_or_default()
    }
}
