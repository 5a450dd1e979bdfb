//! Who else uses the same software TPM. swtpm has no resource manager, and its TCTI opens a connection per command: several processes
//! can share one. What is loaded in it may be flushed as a leftover only when nobody else is there.
//!
//! Each process sits on one of a few abstract Unix sockets, named after the TPM's address. The kernel frees a seat when its process ends,
//! SIGKILL included, and no file is left. Like the TPM's loopback port, the names are those of one network namespace.

use std::net::SocketAddr as TcpAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

const SEATS: usize = 16;
/// Whoever flushes leftovers holds all seats for some milliseconds.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// This process's seat.
pub(crate) struct Presence {
    name: String,
    seat: (usize, UnixListener),
}

impl Presence {
    /// Takes a free seat at the TPM that was reached at this address, however it was spelt. `None` when 16 others are there: unseen by
    /// them, this process would lose its keys to whoever comes next.
    pub(crate) fn at(reached: TcpAddr) -> Option<Self> {
        let (ip, port) = (reached.ip().to_canonical(), reached.port());
        let name = if ip.is_loopback() { format!("ekm-otp-tpm/loopback/{port}") } else { format!("ekm-otp-tpm/{ip}/{port}") };
        for _ in 0..TRIES {
            if let Some(seat) = (0..SEATS).find_map(|i| Some((i, sit(&name, i)?))) {
                return Some(Self { name, seat });
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    /// Takes all other seats, so that nobody can come in while the result lives. `None` when somebody is there.
    pub(crate) fn alone(&self) -> Option<Vec<UnixListener>> {
        (0..SEATS).filter(|i| *i != self.seat.0).map(|i| sit(&self.name, i)).collect()
    }
}

fn sit(name: &str, seat: usize) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("{name}/{seat}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_alone_beside_another() {
        // Two spellings of one TPM: nothing listens there.
        let first = Presence::at("127.0.0.1:1".parse().expect("an address")).expect("a seat");
        assert!(first.alone().is_some());
        let second = Presence::at("[::1]:1".parse().expect("an address")).expect("a seat");
        assert!(first.alone().is_none() && second.alone().is_none());
        drop(first);
        let all = second.alone().expect("the first has gone");
        // Nobody comes in while the leftovers are flushed.
        assert!(sit(&second.name, 0).is_none());
        drop(all);
        assert!(sit(&second.name, 0).is_some());
    }
}
