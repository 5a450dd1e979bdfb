//! What a request's way through the sidecar has in common with others': where it came in, and what it became.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Response, StatusCode};

use super::accept::Caller;
use super::asked::Asked;
use super::failure::{Failure, OriginFailure};
use super::fields;
use super::log::Log;
use super::metrics::Metrics;
use super::routes::{Origin, Rules, Table};
use super::running::Running;
use super::settings::Times;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) table: ArcSwap<Table>,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    pub(super) times: Times,
}

/// Where a request came in.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    pub(super) shared: Arc<Shared>,
    /// Which of the table's rules are for it.
    pub(super) door: usize,
    pub(super) caller: Caller,
    pub(super) running: Running,
}

/// What a request is, once it may go on.
pub(super) struct Admitted {
    pub(super) origin: Arc<Origin>,
    pub(super) asked: Asked,
}

impl Entrance {
    pub(super) fn rules(&self) -> Option<Arc<Rules>> {
        self.shared.table.load().rules.get(self.door).cloned()
    }

    /// Makes the origin's answer the local program's.
    pub(super) fn finish<B>(&self, admitted: &Admitted, response: &mut Response<B>) {
        let here = format!("http://{}", admitted.asked.name);
        fields::response(response.headers_mut(), &admitted.origin.label, &here);
        *response.extensions_mut() = http::Extensions::new();
        *response.version_mut() = http::Version::default();
    }

    /// The server no longer takes the key.
    pub(super) fn refused() -> Failure {
        Failure::Origin {
            kind: OriginFailure::Refused,
            text: format!(
                "the server refuses the credential ({}) of a connection that it took before: the key was revoked, or it has expired, or this kind of \
                 credential does not do here",
                StatusCode::UNAUTHORIZED
            ),
            retry_after: None,
        }
    }
}
