//! The connections to one origin: made when they are needed, shared or stacked, replaced in time.

mod lease;
mod settings;
mod status;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ekm_otp::Authority;

use crate::ConnectError;
use crate::connection::{Connection, RetiredCredential};
use crate::connector::{Connector, HttpVersions};

pub(crate) use lease::Lease;
pub(crate) use settings::Settings;
pub use status::Status;

/// Why there is no connection for a request.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the pool with bounds follows")]
pub(crate) enum PoolError {
    Connect(Arc<ConnectError>),
    BackOff { cause: Arc<ConnectError>, wait: Duration },
    Crowded(usize),
    NoneFree(Duration),
    Draining,
}

/// All connections to one origin.
pub(crate) struct Pool {
    origin: Authority,
    connectors: Vec<Connector>,
    for_upgrades: Vec<Connector>,
    settings: Settings,
    shared: Mutex<Option<Arc<Connection>>>,
}

impl Pool {
    pub(crate) fn new(origin: Authority, connectors: Vec<Connector>, versions: HttpVersions, settings: Settings) -> Arc<Self> {
        let offering = |versions| connectors.iter().cloned().map(|connector| connector.http_versions(versions)).collect();
        let (connectors, for_upgrades) = (offering(versions), offering(HttpVersions::Http1));
        Arc::new(Self { origin, connectors, for_upgrades, settings, shared: Mutex::new(None) })
    }

    pub(crate) fn origin(&self) -> &Authority {
        &self.origin
    }

    pub(crate) fn response_deadline(&self) -> Option<Duration> {
        self.settings.response_deadline
    }

    pub(crate) async fn acquire(&self) -> Result<Lease, PoolError> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(connection) = shared.filter(|connection| connection.is_ready()) {
            return Ok(Lease::new(connection, false));
        }
        let connection = self.dial(&self.connectors).await?;
        if connection.http_version() == http::Version::HTTP_2 {
            *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
        }
        Ok(Lease::new(connection, true))
    }

    pub(crate) async fn acquire_for_upgrade(&self) -> Result<Lease, PoolError> {
        let lease = self.acquire().await?;
        let connection = lease.connection();
        if connection.http_version() != http::Version::HTTP_2 || connection.peer().takes_extended_connect() {
            return Ok(lease);
        }
        lease.give_back();
        Ok(Lease::new(self.dial(&self.for_upgrades).await?, true))
    }

    async fn dial(&self, connectors: &[Connector]) -> Result<Arc<Connection>, PoolError> {
        let mut refused = PoolError::Draining;
        for connector in connectors {
            match connector.connect().await {
                Ok(connection) => return Ok(Arc::new(connection)),
                Err(error @ ConnectError::Refused { .. }) => refused = PoolError::Connect(Arc::new(error)),
                Err(error) => return Err(PoolError::Connect(Arc::new(error))),
            }
        }
        Err(refused)
    }

    pub(crate) fn status(&self) -> Status {
        Status::default()
    }

    pub(crate) async fn drain(&self) {}

    pub(crate) async fn retire(&self) -> Option<RetiredCredential> {
        None
    }
}
