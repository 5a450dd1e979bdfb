//! The reverse proxy: the app behind this server sees plain requests, with fields that say who was verified and that nobody else can set.
//!
//! The way of a request: [`Proxy`] finds the [`Site`] of its connection's server name; `admission` says whether the client may pass; `own` answers what is
//! this server's and no app's; `headers`
//! takes away what the app must not believe and adds what it may; `forward` chooses an upstream and tries it; `pool` holds this thread's connections to
//! it. (What a sidecar needs as much is in `ekm_otp_relay`: fields of one hop, websockets, joined streams.) The answer comes back through `headers`, its body as it arrives.

mod admission;
mod balance;
mod body;
mod challenges;
mod connect;
mod demo;
mod failure;
mod forward;
mod forwarded;
mod headers;
mod health;
mod identity;
mod open;
mod own;
mod pool;
mod progress;
mod request_body;
mod service;
mod settings;
mod shared;
mod site;
mod target;
mod tls;
mod upstream;

pub(crate) use own::Own;
pub(crate) use service::Proxy;
pub(crate) use settings::{SiteConfig, SiteSettings};
pub(crate) use site::{Site, Sites, UpstreamHealth};
