//! Lines of the audit log: who was verified, refused or thrown out, on which connection. Never what they showed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use ekm_otp_tower::{ConnectionFacts, VerifiedClient};

use super::logs::Sink;
use crate::log_lines::Fields;

/// How many lines a second may be caused by those on whose connection nobody was verified: each costs them less than the disk.
const UNVERIFIED_A_SECOND: u32 = 100;

/// Writes the audit log, within bounds.
#[derive(Debug)]
pub(crate) struct Audit {
    sink: Sink,
    start: Instant,
    /// The second, counted from the start, that `lines` are of.
    second: AtomicU64,
    lines: AtomicU32,
    left_out: AtomicU64,
}

impl Audit {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, start: Instant::now(), second: AtomicU64::new(0), lines: AtomicU32::new(0), left_out: AtomicU64::new(0) }
    }

    /// What happened to a connection, and what else is known of it.
    pub(crate) fn tell(
        &self,
        outcome: &str,
        connection: &ConnectionFacts<'_>,
        client: Option<&VerifiedClient>,
        more: impl FnOnce(&mut Fields<'_>),
    ) {
        if self.sink.is_off() {
            return;
        }
        let client = client.or(connection.client);
        if client.is_none() && !self.may_write(self.start.elapsed().as_secs()) {
            return;
        }
        self.sink.audit(|fields| {
            fields.text("outcome", outcome);
            fields.number("connection", connection.id);
            if let Some(peer) = &connection.peer {
                fields.shown("peer", peer);
            }
            if let Some(tls) = connection.tls {
                fields.text("server_name", tls.server_name().as_str());
            }
            if let Some(client) = client {
                fields.text("client", client.client());
                fields.text("kid", client.kid().as_str());
            }
            more(fields);
            if client.is_none() {
                let left_out = self.left_out.swap(0, Ordering::Relaxed);
                if left_out > 0 {
                    fields.number("left_out", left_out);
                }
            }
        });
    }

    /// What a verified client did to its key.
    pub(crate) fn tell_of_key(&self, outcome: &str, client: &VerifiedClient, more: impl FnOnce(&mut Fields<'_>)) {
        self.sink.audit(|fields| {
            fields.text("outcome", outcome);
            fields.number("connection", client.connection());
            if let Some(peer) = client.origin() {
                fields.shown("peer", peer);
            }
            fields.text("server_name", client.tls().server_name().as_str());
            fields.text("client", client.client());
            fields.text("kid", client.kid().as_str());
            more(fields);
        });
    }

    /// Two threads may meet at a new second: then some lines more are written.
    fn may_write(&self, now: u64) -> bool {
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.lines.store(0, Ordering::Relaxed);
        }
        let may = self.lines.fetch_add(1, Ordering::Relaxed) < UNVERIFIED_A_SECOND;
        if !may {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_verified_writes_so_many_lines_a_second_and_the_rest_is_counted() {
        let audit = Audit::new(Sink::Off);
        assert_eq!((0..10_000).filter(|_| audit.may_write(0)).count(), 100);
        assert!(audit.may_write(1));
        assert_eq!(audit.left_out.load(Ordering::Relaxed), 9_900);
    }
}
