//! Raw TCP through this server (docs/protocol.md §23): a verified client asks for a target by name, and gets a connection to what the configuration has
//! for that name, if it is one of those who may.
//!
//! The way of a tunnel: `asked` reads the request; `targets` says where it leads, for whom; `bounds` whether there is room; `open` connects, answers, and
//! joins the two streams, until both have ended, one breaks, or neither says anything.

mod asked;
mod bounds;
mod open;
mod refused;
mod settings;
mod targets;
mod to;

pub(crate) use bounds::Tunnels;
pub(crate) use open::open;
pub(crate) use refused::Refused;
pub(crate) use settings::{Config, Settings, TargetConfig, TargetSettings, resolve};
pub(crate) use targets::Targets;
