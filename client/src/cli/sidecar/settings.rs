//! What is listened on, and which origin is behind it: complete and checked, nothing opened yet.

use std::time::Duration;

use ekm_otp::Authority;
use ekm_otp::tunnel::Target;

use super::super::error::CliError;
use super::address::Address;
use super::asked::HostName;
use super::bind::Door;
use super::browser::WebOrigin;
use super::fields::Authorization;
use super::users::Users;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Each phase of making a connection to the origin.
    pub(super) connect: Duration,
    /// The beginning of its answer.
    pub(super) response: Duration,
    /// An unused connection to it.
    pub(super) idle_limit: Duration,
    /// A silent websocket.
    pub(super) stream_idle: Duration,
    /// What is under way when the process is stopped.
    pub(super) drain: Duration,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) listeners: Vec<Listener>,
    pub(super) admin: Option<Door>,
    pub(super) is_unsafe: bool,
    pub(super) max_connections: usize,
    pub(super) times: Times,
    pub(super) is_http1_only: bool,
}

/// One `[[listen]]`, or one `[[tcp]]`.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None`: only the service manager's sockets.
    pub(super) address: Option<Address>,
    /// Raw TCP, through a tunnel to this; else HTTP.
    pub(super) tunnel: Option<Target>,
    pub(super) mode: Option<u32>,
    pub(super) hosts: Vec<HostName>,
    pub(super) allow_origins: Vec<WebOrigin>,
    pub(super) authorization: Authorization,
    /// At least one.
    pub(super) routes: Vec<RouteSettings>,
}

/// One origin behind it.
#[derive(Debug)]
pub(super) struct RouteSettings {
    pub(super) host: Option<HostName>,
    /// `None`: that of the profile.
    pub(super) to: Option<Authority>,
    pub(super) profile: Option<String>,
    /// `None`: nobody was named.
    pub(super) users: Option<Users>,
}

impl Listener {
    /// Who may connect at all: who may use any of its origins.
    pub(super) fn users(&self) -> Users {
        let mut all = Vec::new();
        for route in &self.routes {
            match route.users.clone().unwrap_or_else(Users::own) {
                Users::All => return Users::All,
                Users::Only(users) => all.extend(users),
            }
        }
        all.sort_unstable();
        all.dedup();
        Users::Only(all)
    }

    /// Whether users are named, whom a TCP socket does not tell apart.
    pub(super) fn names_users(&self) -> bool {
        self.routes.iter().any(|route| route.users.is_some())
    }

    /// # Errors
    /// Where it asks for what its kind of address has not.
    pub(super) fn check(&self) -> Result<(), CliError> {
        match &self.address {
            Some(address @ (Address::Ip(_) | Address::Localhost(_))) if self.names_users() => Err(self.no_users(&address.to_string())),
            Some(address @ (Address::Ip(_) | Address::Localhost(_))) if self.mode.is_some() => {
                Err(CliError::Usage(format!("{address}: a TCP address has no mode: only unix:PATH has one")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn no_users(&self, shown: &str) -> CliError {
        CliError::Usage(format!(
            "{shown}: on a TCP address the kernel does not tell who connects, every user of this machine may: name users for unix:PATH only"
        ))
    }
}
