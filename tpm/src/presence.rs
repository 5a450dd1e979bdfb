//! Who else uses the same software TPM. swtpm has no resource manager, and its TCTI opens a connection per command: several processes
//! can share one. What is loaded in it may be flushed as a leftover only when nobody else is there.
//!
//! Each process sits on one of a few abstract Unix sockets, named after the TPM's address. The kernel frees a seat when its process ends,
//! SIGKILL included, and no file is left. Like the TPM's loopback port, the names are those of one network namespace.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use crate::Tcti;

const SEATS: usize = 16;
/// Whoever flushes leftovers holds all seats for some milliseconds.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// This process's seat.
pub(crate) struct Presence {
    name: String,
    seat: Option<(usize, UnixListener)>,
}

impl Presence {
    /// Takes a free seat. Without one (16 others are there) this process works all the same, unseen by the others.
    pub(crate) fn at(tcti: &Tcti) -> Self {
        let name = format!("ekm-otp-tpm/{tcti}");
        for _ in 0..TRIES {
            if let Some(seat) = (0..SEATS).find_map(|i| Some((i, sit(&name, i)?))) {
                return Self { name, seat: Some(seat) };
            }
            std::thread::sleep(PAUSE);
        }
        Self { name, seat: None }
    }

    /// Takes all other seats, so that nobody can come in while the result lives. `None` when somebody is there.
    pub(crate) fn alone(&self) -> Option<Vec<UnixListener>> {
        let own = self.seat.as_ref()?.0;
        (0..SEATS).filter(|i| *i != own).map(|i| sit(&self.name, i)).collect()
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
        let tcti: Tcti = "swtpm:host=nobody.test,port=1".parse().expect("a TCTI string");
        let first = Presence::at(&tcti);
        assert!(first.alone().is_some());
        let second = Presence::at(&tcti);
        assert!(first.alone().is_none() && second.alone().is_none());
        drop(first);
        let all = second.alone().expect("the first has gone");
        // Nobody comes in while the leftovers are flushed.
        assert!(sit(&second.name, 0).is_none());
        drop(all);
        assert!(sit(&second.name, 0).is_some());
    }
}
