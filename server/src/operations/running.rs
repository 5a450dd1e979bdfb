//! The watching, from the opening of its files to the end of its thread.

use std::sync::Arc;
use std::time::SystemTime;

use super::admin::socket::Bound;
use super::admin::{Admin, Shown};
use super::logs::Logs;
use super::settings::Config;
use super::snapshot::Told;
use super::sources::{Certificate, Sources};
use super::watch::Watch;
use crate::error::ServerError;
use crate::log_lines::Lines;

/// The watching of this process. Ends its thread when it is dropped.
#[derive(Debug)]
pub(crate) struct Operations {
    watch: Arc<Watch>,
    told: Arc<Told>,
    started: SystemTime,
    /// Until it is served.
    bound: Option<Bound>,
    admin: Option<Admin>,
}

impl Operations {
    /// Opens the log files, and listens for the admin pages, so that what is wrong with them is found before anything is served. `log` is where lines
    /// for standard error go.
    ///
    /// # Errors
    /// When a file or the address cannot be had.
    pub(crate) fn open(config: &Config, log: &Lines) -> Result<Self, ServerError> {
        let started = SystemTime::now();
        let bind = |address| {
            Bound::bind(address).map_err(|e| ServerError::io(&format!("cannot listen for the admin pages on {address} (--admin)"), &e))
        };
        let bound = config.admin.as_ref().map(bind).transpose()?;
        let watch = Arc::new(Watch::new(Logs::open(config, log)?));
        Ok(Self { watch, told: Arc::default(), started, bound, admin: None })
    }

    /// What requests and connections report to.
    pub(crate) fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// Answers on the admin address, where there is one, from now on.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(crate) fn serve(&mut self, sources: Sources) -> Result<(), ServerError> {
        let Some(bound) = self.bound.take() else { return Ok(()) };
        let address = bound.to_string();
        let shown = Shown { watch: self.watch(), sources, told: Arc::clone(&self.told), started: self.started };
        let admin =
            Admin::start(bound, shown).map_err(|e| ServerError::Other(format!("cannot start the thread of the admin pages: {e}")))?;
        self.admin = Some(admin);
        tracing::info!(%address, "metrics, health and status are served");
        Ok(())
    }

    /// The certificates that are shown from now on, one for each site.
    pub(crate) fn certificates(&self, certificates: Vec<Certificate>) {
        self.told.certificates(certificates);
    }

    /// Everything was read again, and taken over or not.
    pub(crate) fn reloaded(&self, is_taken: bool) {
        self.told.reloaded(is_taken);
    }

    /// No new connections are taken from now on.
    pub(crate) fn drains(&self) {
        self.told.drains();
    }

    /// Opens log files again, after somebody has moved them away. What fails is logged.
    pub(crate) fn reopen_logs(&self) {
        self.watch.logs().reopen();
    }
}
