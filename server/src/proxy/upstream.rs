//! One upstream of a site: where it is, how it is spoken to, how it does.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::health::{Change, Health};
use super::target::{Protocol, Target};
use super::tls::ClientTls;

/// One upstream. It lives as long as its site's settings.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// No other has it in this process.
    pub(super) id: u64,
    pub(super) target: Target,
    /// The target, as it is shown.
    pub(super) label: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) tls: Option<ClientTls>,
    pub(super) connect_timeout: Duration,
    pub(super) health: Health,
}

impl Upstream {
    pub(super) fn new(target: Target, protocol: Protocol, tls: Option<ClientTls>, connect_timeout: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let label = target.to_string().into();
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), target, label, protocol, tls, connect_timeout, health: Health::default() }
    }

    pub(super) fn answered(&self) {
        if self.health.answered() == Change::Back {
            tracing::info!(upstream = &*self.label, "the upstream answers again");
        }
    }

    pub(super) fn failed(&self, at_connecting: bool, error: &dyn Display) {
        match self.health.failed(at_connecting) {
            Change::Out => tracing::warn!(upstream = &*self.label, %error, "the upstream is left out for a while"),
            _ => tracing::info!(upstream = &*self.label, %error, "the upstream failed"),
        }
    }
}
