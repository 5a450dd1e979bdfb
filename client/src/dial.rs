//! One TCP connection to a name with several addresses (RFC 8305, "Happy Eyeballs"): the next address is tried when the last has had its head
//! start, or has failed; the first that answers is taken.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long an address is waited for before the next is tried, too (RFC 8305 §5: Connection Attempt Delay).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to one of the addresses. Each has a deadline of its own.
///
/// # Errors
/// When none answers: with the reason of each.
pub async fn dial(addresses: &[SocketAddr], deadline: Duration) -> io::Result<TcpStream> {
    let mut waiting = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(async move {
                let connected = timeout(deadline, TcpStream::connect(address)).await;
                (address, connected.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {deadline:?}")))))
            });
        }
        let head_start = async {
            // Nobody else to try: then whatever is under way is all.
            if waiting.len() == 0 { std::future::pending().await } else { sleep(HEAD_START).await }
        };
        tokio::select! {
            finished = attempts.next() => match finished {
                Some((_, Ok(tcp))) => return Ok(tcp),
                Some((address, Err(error))) => failures.push((address, error)),
                None => return Err(all_of(failures)),
            },
            () = head_start => {}
        }
    }
}

/// The families in turn, beginning with the first address's (RFC 8305 §4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_first = |address: &&SocketAddr| addresses.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let (mut these, mut others) = (addresses.iter().filter(is_first), addresses.iter().filter(|address| !is_first(address)));
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(these.next());
        order.extend(others.next());
    }
    order
}

fn all_of(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    match failures.pop() {
        None => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        Some((_, error)) if failures.is_empty() => error,
        Some((address, error)) => {
            let kind = error.kind();
            failures.push((address, error));
            let told: Vec<String> = failures.iter().map(|(address, error)| format!("{}: {error}", address.ip())).collect();
            io::Error::new(kind, told.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_are_tried_in_turn() {
        let read = |text: &str| text.split(' ').map(|address| address.parse().expect("an address")).collect::<Vec<SocketAddr>>();
        let mixed = read("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1");
        assert_eq!(interleaved(&mixed), read("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"));
        let one = read("1.1.1.1:1 2.2.2.2:1");
        assert_eq!(interleaved(&one), one);
        assert_eq!(interleaved(&[]), []);
    }
}
