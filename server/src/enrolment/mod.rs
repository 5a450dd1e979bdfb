//! Keys that came to their clients in a bundle, and keys that clients rotate themselves: what is answered below `/.well-known/ekm-otp/` (docs/protocol.md §24).

mod answer;
mod pace;
mod rotation;

use std::sync::Arc;
use std::time::SystemTime;

use ekm_otp_tower::VerifiedClient;
use http::{Method, Response, StatusCode};
use serde_json::json;

use self::answer::{failed, not_allowed, told};
use self::pace::Pace;
use crate::operations::Watch;
use crate::registry::{FirstUse, Registry, instant};

/// Remembers first uses, and gives keys their successors. One for all connections.
pub(crate) struct Enrolment {
    registry: Arc<Registry>,
    watch: Arc<Watch>,
    pace: Pace,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment").finish_non_exhaustive()
    }
}

impl Enrolment {
    pub(crate) fn new(registry: Arc<Registry>, watch: Arc<Watch>) -> Self {
        Self { registry, watch, pace: Pace::default() }
    }

    /// `POST /.well-known/ekm-otp/enrolment`: whether this is the first use of the key since it left in a bundle. It is remembered before that is answered.
    pub(crate) async fn begin(&self, method: &Method, client: &VerifiedClient) -> Response<String> {
        if method != Method::POST {
            return not_allowed("POST");
        }
        match self.first_use(client).await {
            Ok(FirstUse::Now) => told(StatusCode::NO_CONTENT, None),
            Ok(FirstUse::Before(at)) => {
                self.watch.audit().tell_of_key("enrolled_again", client, |fields| fields.text("first_use", &instant(at)));
                told(StatusCode::CONFLICT, Some(json!({ "error": "enrolled", "first_use": instant(at) })))
            }
            Ok(FirstUse::Unknown) => told(StatusCode::CONFLICT, Some(json!({ "error": "no_bundle" }))),
            Err(()) => failed(),
        }
    }

    /// Before the first other request of a key that waits for its first use. Whether it is remembered.
    pub(crate) async fn remember(&self, client: &VerifiedClient) -> bool {
        self.first_use(client).await.is_ok()
    }

    async fn first_use(&self, client: &VerifiedClient) -> Result<FirstUse, ()> {
        let used = self.registry.first_use(client.kid()).await;
        match &used {
            Ok(FirstUse::Now) => self.watch.audit().tell_of_key("enrolled", client, |_| {}),
            Ok(_) => {}
            Err(why) => {
                tracing::error!(kid = %client.kid(), %why, "it cannot be remembered that a bundle's key is used for the first time: it is refused until it can")
            }
        }
        used.map_err(drop)
    }
}

/// When a key that is rotated now ends.
fn end_of(overlap: std::time::Duration) -> SystemTime {
    SystemTime::now() + overlap
}
