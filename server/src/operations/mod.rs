//! Watching the server: who does what (access and audit log), how much and how fast (metrics), whether it is well (health, readiness), and a
//! page that shows it. Nothing in here lets a request in or keeps one out, and nothing in here knows a credential.

mod access;
mod access_log;
mod address;
mod admin;
mod audit;
mod body;
mod chart;
mod exchange;
mod exposition;
mod health;
mod in_flight;
mod lasting;
mod logs;
mod metrics;
mod page;
mod process;
mod request_id;
mod running;
mod settings;
mod snapshot;
mod sources;
mod status;
mod watch;

pub(crate) use access::Access;
pub(crate) use address::AdminAddress;
pub(crate) use exchange::Answered;
pub(crate) use lasting::Lasting;
pub(crate) use metrics::SiteLabel;
pub(crate) use request_id::RequestId;
pub(crate) use running::Operations;
pub(crate) use settings::{Config, LogTo, Settings};
pub(crate) use sources::{Certificate, Health, OldKey, RegistryState, Sources, TunnelState, UpstreamState};
pub(crate) use watch::Watch;
