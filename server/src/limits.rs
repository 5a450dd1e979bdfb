//! How many connections this process can have.

use ekm_otp_tower::Limits;

/// How the file descriptors are shared out. Each connection takes one, and so does each handshake that is not finished; the rest is for the
/// listeners, the log and the runtimes.
pub(crate) fn fitting(descriptors: usize, wanted: Limits) -> Limits {
    let room = descriptors.saturating_sub(64).max(8);
    let handshakes = (room / 4).clamp(4, Limits::default().handshakes);
    Limits { connections: wanted.connections.min(room.saturating_sub(handshakes).max(1)), handshakes, ..wanted }
}

/// How many tunnels fit: each takes a descriptor of its own, and connections are not to be left without.
pub(crate) fn tunnels(descriptors: usize, wanted: usize) -> usize {
    wanted.min(descriptors / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_handshakes_fit_into_the_descriptors_together() {
        for descriptors in [0, 100, 256, 1024, 4096, 1_048_576] {
            let limits = fitting(descriptors, Limits::default());
            assert!(limits.connections >= 1 && limits.handshakes >= 4, "{limits:?}");
            assert!(descriptors < 100 || limits.connections + limits.handshakes + 64 <= descriptors, "{descriptors}: {limits:?}");
        }
        assert_eq!(fitting(1_048_576, Limits::default()), Limits::default());
    }
}
