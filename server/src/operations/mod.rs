//! Watching the server: who does what (access and audit log), how much and how fast (metrics), whether it is well (health, readiness), and a
//! page that shows it. Nothing in here lets a request in or keeps one out, and nothing in here knows a credential.

mod access;
mod access_log;
mod address;
mod body;
mod exchange;
mod in_flight;
mod metrics;
mod request_id;
mod settings;
mod watch;

pub(crate) use access::Access;
pub(crate) use body::{Counted, Watched};
pub(crate) use exchange::Answered;
pub(crate) use metrics::SiteLabel;
pub(crate) use request_id::RequestId;
pub(crate) use settings::{Config, Settings};
pub(crate) use watch::Watch;
