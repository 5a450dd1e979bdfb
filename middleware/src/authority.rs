//! Rule A (docs/protocol.md §12): a request is for an origin of the connection's server name.

use std::borrow::Cow;

use ekm_otp::Authority;
use http::header::HOST;
use http::{Request, uri};

use crate::checks::Connection;
use crate::refusal::Refusal;

impl Connection {
    /// Rule A. `Host` and `:authority` (or an absolute request target's) must agree and belong to the connection's server name.
    pub(crate) fn check_authority<B>(&self, request: &Request<B>) -> Result<Cow<'_, Authority>, Refusal> {
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
        let authority = self.covered(first)?;
        match second {
            Some(second) if second != first && *self.covered(second)? != *authority => Err(Refusal::Misdirected),
            _ => Ok(authority),
        }
    }

    /// The authority that is `written`, if it belongs to the connection's server name.
    fn covered(&self, written: &str) -> Result<Cow<'_, Authority>, Refusal> {
        if let Some((_, authority)) = self.covered.get().filter(|(known, _)| **known == *written) {
            return Ok(Cow::Borrowed(authority));
        }
        let authority = Authority::parse(written).map_err(|_| Refusal::Misdirected)?;
        if !self.authentication.names.covers(self.tls.server_name(), &authority) {
            return Err(Refusal::Misdirected);
        }
        let _ = self.covered.set((written.into(), authority.clone()));
        Ok(Cow::Owned(authority))
    }
}
