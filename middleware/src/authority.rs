//! Rule A (docs/protocol.md §12): a request is for an origin of the connection's server name.

use std::borrow::Cow;
use std::sync::OnceLock;

use ekm_otp::{Authority, ServerName, ServerNames};
use http::header::HOST;
use http::{Request, uri};

use crate::refusal::Refusal;

/// An authority that belongs to a connection's server name.
#[derive(Clone)]
pub(crate) struct Covered {
    authority: Authority,
    /// What a token calls it.
    pub(crate) audience: Box<str>,
}

/// The first authority of a connection that passed rule A, and how it was written: most connections know no other.
#[derive(Default)]
pub(crate) struct KnownAuthority(OnceLock<(Box<str>, Covered)>);

impl KnownAuthority {
    /// Rule A. `Host` and `:authority` (or an absolute request target's) must agree and belong to the connection's server name.
    pub(crate) fn check<B>(&self, request: &Request<B>, names: &ServerNames, sni: &ServerName) -> Result<Cow<'_, Covered>, Refusal> {
        // Authority-form is for CONNECT only (RFC 9112 §3.2.3): it names no target that a token could cover.
        if request.uri().path_and_query().is_none() {
            return Err(Refusal::Target);
        }
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (host, None) => host.map(|host| host.to_str().map_err(|_| Refusal::Host)).transpose()?,
            _ => return Err(Refusal::Host),
        };
        let target = request.uri().authority().map(uri::Authority::as_str);
        if request.uri().scheme().is_some_and(|scheme| *scheme != uri::Scheme::HTTPS) {
            return Err(Refusal::Misdirected);
        }
        let (first, second) = match (target, host) {
            (Some(target), host) => (target, host),
            (None, Some(host)) => (host, None),
            (None, None) => return Err(Refusal::Host),
        };
        let covered = self.covered(first, names, sni)?;
        match second {
            Some(second) if second != first && self.covered(second, names, sni)?.authority != covered.authority => {
                Err(Refusal::Misdirected)
            }
            _ => Ok(covered),
        }
    }

    /// The authority that is `written`, if it belongs to the connection's server name.
    fn covered(&self, written: &str, names: &ServerNames, sni: &ServerName) -> Result<Cow<'_, Covered>, Refusal> {
        if let Some((_, covered)) = self.0.get().filter(|(known, _)| **known == *written) {
            return Ok(Cow::Borrowed(covered));
        }
        let authority = Authority::parse(written).map_err(|_| Refusal::Misdirected)?;
        if !names.covers(sni, &authority) {
            return Err(Refusal::Misdirected);
        }
        let covered = Covered { audience: authority.audience().into(), authority };
        let _ = self.0.set((written.into(), covered.clone()));
        Ok(Cow::Owned(covered))
    }
}
