//! What is known of one request and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ekm_otp_tower::{Peer, VerifiedClient};
use http::{Method, StatusCode, Uri};

use super::metrics::{ClientMetrics, SiteLabel};
use super::request_id::RequestId;

/// Who answered, where that was not this server itself. The proxy puts it into its responses' extensions.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// The upstream's address, as it is configured.
    pub(crate) upstream: Arc<str>,
    /// From the first try to the head of the answer.
    pub(crate) head: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All of the answer went out.
    Whole,
    /// The answer broke off, at either side.
    Cut,
    /// The client left, or its connection was ended, before there was an answer.
    Abandoned,
}

impl End {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Cut => "cut",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One request, from the first look at it to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) started: Instant,
    pub(crate) request_id: RequestId,
    pub(crate) peer: Option<Peer>,
    /// `None` on routes that are open to everybody.
    pub(crate) client: Option<VerifiedClient>,
    pub(crate) client_metrics: Option<Arc<ClientMetrics>>,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// `None` where no body came.
    pub(crate) bytes_in: Option<Arc<AtomicU64>>,
    pub(crate) bytes_out: u64,
    pub(crate) head: Option<Head>,
    pub(crate) end: End,
}

/// What is known once the answer has begun.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) after: Duration,
    pub(crate) site: Option<SiteLabel>,
    pub(crate) answered: Option<Answered>,
}

impl Exchange {
    pub(crate) fn received(&self) -> u64 {
        self.bytes_in.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }
}
