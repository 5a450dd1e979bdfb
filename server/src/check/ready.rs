//! Asks a running server's admin listener whether it is ready: for probes that can run this program, and nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::ServerError;
use crate::operations::AdminAddress;

/// All of it: an answer may wait for the server's threads.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than a server with hundreds of sites says.
const MOST: usize = 256 * 1024;

/// What `/readyz` says. An error where the server is not ready, too, with what it says of that.
pub(super) fn readiness(address: &AdminAddress) -> Result<String, ServerError> {
    let until = Instant::now() + PATIENCE;
    let answer = ask(address, until).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            ServerError::Unavailable(format!("{address} does not answer within {} seconds", PATIENCE.as_secs()))
        }
        ErrorKind::PermissionDenied => ServerError::io(&format!("cannot ask {address}"), &e),
        _ => ServerError::Unavailable(format!("cannot ask {address}: {e}")),
    })?;
    let stranger = || ServerError::Unavailable(format!("{address} answers, but not as the admin listener of an ekm-otp-server"));
    let (status, content) = parse(&answer).ok_or_else(stranger)?;
    // Whoever else listens there is not believed.
    if !content.lines().any(|line| line.starts_with("ok workers: ") || line.starts_with("FAILS workers: ")) {
        return Err(stranger());
    }
    if status == 200 { Ok(content.to_owned()) } else { Err(ServerError::Unavailable(content.trim_end().to_owned())) }
}

/// Whether an ekm-otp-server's admin listener is there, ready or not.
pub(super) fn is_answered(address: &AdminAddress) -> bool {
    let answer = ask(address, Instant::now() + PATIENCE);
    answer.is_ok_and(|answer| parse(&answer).is_some_and(|(_, content)| content.contains(" workers: ")))
}

fn ask(address: &AdminAddress, until: Instant) -> io::Result<String> {
    match address {
        AdminAddress::Loopback(address) => {
            let socket = TcpStream::connect_timeout(address, left(until)?)?;
            exchange(&socket, |time| socket.set_read_timeout(Some(time)).and_then(|()| socket.set_write_timeout(Some(time))), until)
        }
        AdminAddress::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            exchange(&socket, |time| socket.set_read_timeout(Some(time)).and_then(|()| socket.set_write_timeout(Some(time))), until)
        }
    }
}

/// To the end of the answer, each step within what is left of the time.
fn exchange<S: Copy + Read + Write>(mut socket: S, limit: impl Fn(Duration) -> io::Result<()>, until: Instant) -> io::Result<String> {
    limit(left(until)?)?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        limit(left(until)?)?;
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if answer.len() > MOST {
            return Err(io::Error::new(ErrorKind::InvalidData, "its answer has no end"));
        }
    }
    String::from_utf8(answer).map_err(|_| io::Error::new(ErrorKind::InvalidData, "its answer is no text"))
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Status and content of an answer that came whole.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, content) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (content.len() == length).then_some((status, content))
}
