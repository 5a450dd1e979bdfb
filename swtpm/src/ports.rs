//! Two ports side by side: swtpm's data channel and its control channel.

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;

/// Listeners on two free ports of 127.0.0.1, side by side.
///
/// They lie below those that the kernel gives to connections (from 32768 on): such a port stays taken for a minute after its connection was
/// closed, and each TPM command is a connection.
///
/// # Panics
/// When 1000 pairs are taken.
#[must_use]
pub fn two_listeners() -> (TcpListener, TcpListener) {
    let listen = |port: u64| TcpListener::bind(("127.0.0.1", u16::try_from(port).ok()?)).ok();
    let random = RandomState::new();
    let mut ports = (0..1000_u16).map(|i| 10_000 + random.hash_one(i) % 11_000 * 2);
    ports.find_map(|port| Some((listen(port)?, listen(port + 1)?))).expect("two free ports side by side")
}
