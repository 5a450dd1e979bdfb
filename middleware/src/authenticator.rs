//! One connection's authenticator, as the layer, the listener and embedders see it. What it checks: `checks`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ekm_otp::{Handshake, KeyId, TlsFacts};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode};
use zeroize::Zeroizing;

use crate::Authentication;
use crate::checks::Connection;
use crate::closed::Closed;
use crate::connections::Member;
use crate::events::{Events, NoEvents, Refused};
use crate::lifeline::{Lifeline, State};
use crate::passed::{Demand, Passed, Whose};
use crate::peer::Peer;
use crate::profile::Exporter;
use crate::refusal::Refusal;

/// Authenticates the requests of one TLS connection. Cloning is cheap; all clones are the same connection.
#[derive(Clone)]
pub struct ConnectionAuthenticator(Arc<Connection>);

impl ConnectionAuthenticator {
    /// For one finished handshake, without a stream: checks requests, and counts their failures. Whoever calls this ends the connection when
    /// [`closing`](Self::closing) resolves, at once where [`is_closed`](Self::is_closed) says so, and minds its age and the time for a first verified
    /// request: nothing here does. [`EkmStream::over`](crate::EkmStream::over) does all that for streams of other TLS stacks.
    #[must_use]
    pub fn new(handshake: Handshake, authentication: Arc<Authentication>) -> Self {
        Self::of(handshake, authentication, Arc::new(Lifeline::new()), None, None, Arc::new(NoEvents))
    }

    /// For a connection that was accepted here. With an exporter, it may be asked for keying material again, by a profile that cannot do without.
    pub(crate) fn of(
        handshake: Handshake,
        authentication: Arc<Authentication>,
        lifeline: Arc<Lifeline>,
        member: Option<Member>,
        exporter: Option<Exporter>,
        events: Arc<dyn Events>,
    ) -> Self {
        Self(Arc::new(Connection::new(handshake, authentication, lifeline, member, exporter, events)))
    }

    /// The connection's TLS facts.
    #[must_use]
    pub fn tls(&self) -> &TlsFacts {
        &self.0.tls
    }

    /// The connection's number, which no other one of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.lifeline.id()
    }

    /// The other end's address, where the connection came by an [`EkmListener`](crate::EkmListener) and the other end has one.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.origin()?.address()
    }

    /// The other end, where the connection came by an [`EkmListener`](crate::EkmListener): also one without an address.
    #[must_use]
    pub fn origin(&self) -> Option<Peer> {
        self.0.member.as_ref().map(|member| member.peer)
    }

    /// Resolves once the connection is to be closed: too many failures, its age, or a revoked key. Then shut it down gracefully, so
    /// that the last answer still arrives; what does not end in time is cut. One task may wait at a time.
    pub async fn closing(&self) {
        std::future::poll_fn(|cx| self.0.lifeline.poll_closing(cx)).await;
    }

    /// The one-time password of a connection that is closed, for demonstrations: it fits no other connection.
    /// `None` while the connection is open, and when no request with one was verified on it.
    #[must_use]
    pub fn retired_otp(&self) -> Option<RetiredOtp> {
        let pinned = self.0.pinned.get().filter(|_| self.0.lifeline.state() == State::Closed)?;
        Some(RetiredOtp(Zeroizing::new(String::from_utf8_lossy(pinned.otp_field.get()?).into_owned())))
    }

    pub(crate) fn lifeline(&self) -> &Arc<Lifeline> {
        &self.0.lifeline
    }

    pub(crate) fn authentication(&self) -> &Arc<Authentication> {
        &self.0.authentication
    }

    /// Whether the last request had a body. It may not have been read when it was answered.
    pub(crate) fn may_be_uploading(&self) -> bool {
        self.0.has_body.load(Ordering::Relaxed)
    }

    /// A request has come, with a body or not.
    pub(crate) fn asked(&self, has_body: bool) {
        self.0.has_body.store(has_body, Ordering::Relaxed);
        self.0.lifeline.asked();
    }

    /// A response with the proof is on its way: the next one needs none.
    pub(crate) fn proof_was_sent(&self) {
        self.0.proof_is_due.store(false, Ordering::Relaxed);
    }

    /// Whether a request was verified on it.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.0.pinned.get().is_some()
    }

    /// Whether the connection is gone or cut.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.lifeline.state() >= State::Cut
    }

    /// The stream is gone.
    pub(crate) fn left(&self) {
        self.0.left();
    }

    /// Ends the connection gracefully: what is under way may finish.
    pub fn close(&self) {
        self.0.lifeline.end(State::Draining, Closed::Application);
    }

    /// Cuts the connection at once: reads and writes fail, upgraded streams included.
    pub fn cut(&self) {
        self.0.lifeline.end(State::Cut, Closed::Application);
    }

    /// Takes the credential away: no application needs it.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        if let Some(profile) = &self.0.authentication.other_profile {
            profile.strip(headers);
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.lifeline.state() != State::Open
    }

    /// Checks one request. A failure that is answered 401 is counted, and the last one that is allowed closes the connection; so does one connection too many of a key or a source.
    pub(crate) fn authenticate<B>(&self, request: &Request<B>, demand: Demand) -> Result<Passed, Refusal> {
        let passed = self.0.authenticate(request, demand).map_err(|refusal| self.count_to_source(refusal)).inspect_err(|refusal| {
            if refusal.is_unauthorized() {
                self.count_failure();
            } else if refusal.status() == StatusCode::TOO_MANY_REQUESTS {
                self.0.lifeline.end(State::Closing, Closed::Limit);
            }
        })?;
        if let Whose::Verified(client, _) = &passed.as_whose {
            let is_first = !self.0.is_told.load(Ordering::Relaxed) && !self.0.is_told.swap(true, Ordering::Relaxed);
            self.0.events.verified(&self.0.facts(), client, is_first);
        }
        Ok(passed)
    }

    /// A wrong credential counts to its source, and is answered 429 once that had too many. A right one passes all the same: one that fails shuts out
    /// nobody who shares its address, and a tag of 256 bits is not guessed however often it is tried. Whoever was verified here before is told
    /// what is wrong.
    fn count_to_source(&self, refusal: Refusal) -> Refusal {
        let Some(member) = self.0.member.as_ref().filter(|_| refusal.reason().is_a_failure_of_its_source()) else { return refusal };
        let may_try = member.may_try();
        member.failed();
        match may_try {
            Err(wait) if !self.is_verified() => Refusal::FailuresOfSource { wait, why: Box::new(refusal) },
            _ => refusal,
        }
    }

    /// Tells that the handshake is finished.
    pub(crate) fn tell_open(&self) {
        self.0.events.handshake_finished(&self.0.facts(), self.0.lifeline.age());
    }

    /// Tells of a refusal. Not before it is answered: what this costs depends on the reason.
    pub(crate) fn tell_refused(&self, refusal: &Refusal) {
        let refused = Refused { reason: refusal.reason(), status: refusal.status(), kid: refusal.kid() };
        self.0.events.refused(&self.0.facts(), &refused);
        if let Some(left_out) = self.0.authentication.log_budget.take() {
            let (peer, status) = (self.origin().map(tracing::field::display), refusal.status().as_u16());
            tracing::info!(peer, status, reason = %refusal, left_out, "request refused");
        }
    }

    pub(crate) fn count_failure(&self) {
        if self.0.failures.fetch_add(1, Ordering::AcqRel) + 1 >= self.0.authentication.max_failures {
            self.0.lifeline.end(State::Closing, Closed::Failures);
        }
    }
}

impl fmt::Debug for ConnectionAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kid: Option<&KeyId> = self.0.pinned.get().map(|pinned| pinned.key.kid());
        f.debug_struct("ConnectionAuthenticator").field("tls", &self.0.tls).field("kid", &kid).finish_non_exhaustive()
    }
}

/// The credential of a closed connection. Its `Debug` is redacted; [`reveal`](Self::reveal) is greppable.
pub struct RetiredOtp(Zeroizing<String>);

impl RetiredOtp {
    /// The whole `Authorization` field that the closed connection's client showed.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RetiredOtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetiredOtp(..)")
    }
}
