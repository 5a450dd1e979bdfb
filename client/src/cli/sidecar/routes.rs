//! Which origin a request is for: by the socket that it came in on, the name that it asks for, or the URL that it shows a proxy. Replaced as a whole when the
//! settings are read again.

use std::sync::Arc;

use ekm_otp::Authority;
use ekm_otp_client::Client;

use super::accept::Caller;
use super::asked::{Asked, HostName};
use super::browser::WebOrigin;
use super::failure::Failure;
use super::fields::Authorization;
use super::users::Users;

/// One origin, and the client that authenticates there.
#[derive(Debug)]
pub(crate) struct Origin {
    /// As it is shown: `https://api.example.com`.
    pub(super) label: String,
    pub(super) authority: Authority,
    pub(crate) client: Client,
    /// Of what it is made of.
    pub(super) print: [u8; 32],
}

/// What is true of one `[[listen]]`.
#[derive(Debug)]
pub(super) struct Rules {
    /// Names that it is called by beside the machine's own.
    pub(super) hosts: Vec<HostName>,
    /// Web pages that may use it beside those that are served here.
    pub(super) allow_origins: Vec<WebOrigin>,
    pub(super) authorization: Authorization,
    pub(super) routes: Vec<Route>,
}

#[derive(Debug)]
pub(super) struct Route {
    /// `None`: whatever name it is called by.
    pub(super) host: Option<HostName>,
    pub(super) users: Users,
    pub(super) origin: Arc<Origin>,
}

/// All rules, in the order of the listeners.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rules: Vec<Arc<Rules>>,
    /// Each once.
    pub(super) origins: Vec<Arc<Origin>>,
}

impl Rules {
    /// # Errors
    /// When the name may be anybody's, or leads to no origin.
    pub(super) fn route(&self, asked: &Asked, caller: &Caller) -> Result<&Route, Failure> {
        if asked.is_proxied {
            // A name in a URL that is shown to a proxy was looked up by nobody.
            if let Some(route) = self.routes.iter().find(|route| asked.name.is_origin(&route.origin.authority)) {
                return Ok(route);
            }
        }
        let named = self.routes.iter().find(|route| route.host.as_ref().is_some_and(|host| host.is_meant_by(&asked.name)));
        if let Some(route) = named {
            return Ok(route);
        }
        let is_known = asked.is_here(caller) || self.hosts.iter().any(|host| host.is_meant_by(&asked.name));
        if !is_known {
            return Err(if asked.is_proxied { Failure::Route } else { Failure::Host });
        }
        self.routes.iter().find(|route| route.host.is_none()).ok_or(Failure::Route)
    }

    /// Whether anything here is for whoever connected.
    pub(super) fn admit(&self, caller: &Caller) -> bool {
        self.routes.iter().any(|route| route.admits(caller))
    }
}

impl Route {
    pub(super) fn admits(&self, caller: &Caller) -> bool {
        match caller {
            // The kernel does not tell.
            Caller::Tcp { .. } => true,
            Caller::Unix { uid } => uid.is_some_and(|uid| self.users.admit(uid)),
        }
    }
}
