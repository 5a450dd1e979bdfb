//! Who sent a request, and whether the site lets it pass.

use std::net::SocketAddr;

use ekm_otp::ServerName;
use ekm_otp_tower::{Unverified, VerifiedClaims, VerifiedClient};
use http::Extensions;
use http::request::Parts;

use super::failure::Failure;
use super::site::Site;

/// What the layer in front found out.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    Verified(VerifiedClient, Option<VerifiedClaims>),
    /// A route was open.
    Unverified(Unverified),
}

impl Caller {
    /// `None` where there is no such layer.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        match extensions.remove::<VerifiedClient>() {
            Some(client) => Some(Self::Verified(client, extensions.remove::<VerifiedClaims>())),
            None => extensions.remove::<Unverified>().map(Self::Unverified),
        }
    }

    pub(super) fn server_name(&self) -> &ServerName {
        match self {
            Self::Verified(client, _) => client.tls().server_name(),
            Self::Unverified(unverified) => unverified.connection().tls().server_name(),
        }
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Verified(client, _) => client.peer(),
            Self::Unverified(unverified) => unverified.connection().peer(),
        }
    }

    pub(super) fn verified(&self) -> Option<(&VerifiedClient, Option<&VerifiedClaims>)> {
        match self {
            Self::Verified(client, claims) => Some((client, claims.as_ref())),
            Self::Unverified(_) => None,
        }
    }

    /// Whether the site lets it pass. The layer in front has decided which routes are open, by what may be older settings than these.
    pub(super) fn admit(&self, site: &Site, request: &Parts) -> Result<(), Failure> {
        match self {
            Self::Verified(client, claims) => site.allow.admits(client, claims.as_ref()).then_some(()).ok_or(Failure::NotAdmitted),
            Self::Unverified(_) => site.is_open(&request.method, &request.uri).then_some(()).ok_or(Failure::NotOpen),
        }
    }
}
