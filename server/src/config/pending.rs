//! Where to listen, and how many connections there may be.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;

use clap::Args;
use serde::Deserialize;

use crate::settings::Settings;

#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(super) struct DoorSettings {
    /// IP address and port to listen on, such as 0.0.0.0:8443; port 0 takes a free one, which is logged [default: 127.0.0.1:8443]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// How many connections are open at most; when full, the oldest on which nobody was verified is cut [default: 10000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections: Option<NonZeroUsize>,
    /// How many of them one key may have; on further ones it is answered 429 [default: a quarter of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections_per_key: Option<NonZeroUsize>,
    /// How many verified ones one source may have, an IPv4 address or an IPv6 /64; on further ones that is answered 429. Raise it behind a load
    /// balancer [default: half of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections_per_source: Option<NonZeroUsize>,
}

impl Settings for DoorSettings {
    fn relative_to(&mut self, _: &Path) {}
}

/// The same, complete.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) listen: SocketAddr,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_key: usize,
    pub(crate) max_connections_per_source: usize,
}

impl DoorSettings {
    pub(super) fn resolve(self) -> Doors {
        let max_connections = self.max_connections.map_or(10_000, NonZeroUsize::get);
        let or_part = |set: Option<NonZeroUsize>, part: usize| set.map_or((max_connections / part).max(1), NonZeroUsize::get);
        Doors {
            listen: self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8443))),
            max_connections,
            max_connections_per_key: or_part(self.max_connections_per_key, 4),
            max_connections_per_source: or_part(self.max_connections_per_source, 2),
        }
    }
}
