//! One connection's authenticator: the checks of docs/protocol.md ("Order of checks"), in that order.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use constant_time_eq::constant_time_eq;
use ekm_otp::field::{AuthenticationInfo, Challenge, ChallengeError, Credential};
use ekm_otp::{Authority, Derivation, Ekm, Handshake, KeyId, Secret, ServerNames, TlsFacts, WELL_KNOWN_PATH};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, uri};
use zeroize::Zeroizing;

use crate::lifeline::{Lifeline, State};
use crate::refusal::Refusal;
use crate::store::RegisteredKey;
use crate::{EkmOtpLayer, SecretStore, VerifiedClient};

/// What a server authenticates against: the registry, the names it answers to, and bounds. Shared by all connections.
pub struct Authentication {
    store: Arc<dyn SecretStore>,
    names: ServerNames,
    challenge: HeaderValue,
    channel_challenge: HeaderValue,
    unknown_kid: Arc<RegisteredKey>,
    max_failures: u32,
    max_age: Duration,
    verified_within: Duration,
}

impl Authentication {
    /// How many 401 answers one connection gets before it is closed, unless set otherwise.
    pub const MAX_FAILURES: u32 = 8;
    /// How long a connection lives at most, unless set otherwise: 1 hour.
    pub const MAX_AGE: Duration = Duration::from_secs(3600);

    /// How long a connection may go without a verified request, unless set otherwise: 30 seconds. Whoever cannot authenticate holds no
    /// connection longer, whatever phase it stalls in.
    pub const VERIFIED_WITHIN: Duration = Duration::from_secs(30);

    /// 10 years: longer than any connection, and an instant that far off can still be told.
    const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// Authenticates against `store` on connections for `names`. The realm is shown in challenges.
    ///
    /// # Errors
    /// When the realm holds anything but printable ASCII.
    pub fn new(store: Arc<dyn SecretStore>, names: ServerNames, realm: &str) -> Result<Self, ChallengeError> {
        let challenge = |error: Option<&str>| {
            let challenge = Challenge { realm: realm.to_owned(), error: error.map(str::to_owned) }.write()?;
            HeaderValue::try_from(challenge).map_err(|_| ChallengeError)
        };
        let secret = Secret::new(vec![0; 32]).unwrap_or_else(|_| unreachable!("32 bytes are a secret"));
        let kid = KeyId::new("unknown").unwrap_or_else(|_| unreachable!("the grammar allows letters"));
        let unknown_kid = Arc::new(RegisteredKey::new(kid, "nobody", secret));
        unknown_kid.revoke();
        Ok(Self {
            store,
            names,
            challenge: challenge(None)?,
            channel_challenge: challenge(Some("channel"))?,
            unknown_kid,
            max_failures: Self::MAX_FAILURES,
            max_age: Self::MAX_AGE,
            verified_within: Self::VERIFIED_WITHIN,
        })
    }

    /// Sets how many 401 answers one connection gets before it is closed (at least 1).
    #[must_use]
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures.max(1);
        self
    }

    /// Sets how long a connection lives at most.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age.min(Self::FOREVER);
        self
    }

    /// Sets how long a connection may go without a verified request.
    #[must_use]
    pub fn verified_within(mut self, deadline: Duration) -> Self {
        self.verified_within = deadline.min(Self::FOREVER);
        self
    }

    pub(crate) fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    pub(crate) fn channel_challenge(&self) -> &HeaderValue {
        &self.channel_challenge
    }

    /// How long a connection lives without a verified request, and with one.
    pub(crate) fn ages(&self) -> (Duration, Duration) {
        (self.verified_within.min(self.max_age), self.max_age)
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Authenticates the requests of one TLS connection. Cloning is cheap; all clones are the same connection.
#[derive(Clone)]
pub struct ConnectionAuthenticator(Arc<Connection>);

struct Connection {
    authentication: Arc<Authentication>,
    ekm: Ekm,
    tls: TlsFacts,
    lifeline: Arc<Lifeline>,
    failures: AtomicU32,
    pinned: OnceLock<Pinned>,
    proof_is_due: AtomicBool,
    /// The first authority that passed rule A, as it was written: most connections know no other.
    covered: OnceLock<Box<str>>,
}

/// What the first success leaves behind: the key id is the connection's from then on.
struct Pinned {
    key: Arc<RegisteredKey>,
    /// The whole field that was verified: a request that repeats it needs no second derivation.
    field: Zeroizing<Box<[u8]>>,
    proof: HeaderValue,
    client: VerifiedClient,
}

/// A request that passed every check.
pub(crate) struct Passed {
    pub(crate) client: VerifiedClient,
    /// The server proof, where the response must carry it.
    pub(crate) proof: Option<HeaderValue>,
    /// The request asks for the proof only: it ends here.
    pub(crate) is_probe: bool,
}

impl ConnectionAuthenticator {
    /// For one finished handshake. [`EkmAcceptor`](crate::EkmAcceptor) does this; call it for other TLS stacks.
    #[must_use]
    pub fn new(handshake: Handshake, authentication: Arc<Authentication>) -> Self {
        Self(Arc::new(Connection {
            authentication,
            ekm: handshake.ekm,
            tls: handshake.facts,
            lifeline: Arc::new(Lifeline::default()),
            failures: AtomicU32::new(0),
            pinned: OnceLock::new(),
            proof_is_due: AtomicBool::new(true),
            covered: OnceLock::new(),
        }))
    }

    /// The layer that authenticates this connection's requests.
    #[must_use]
    pub fn layer(&self) -> EkmOtpLayer {
        EkmOtpLayer::bound_to(self.clone())
    }

    /// The connection's TLS facts.
    #[must_use]
    pub fn tls(&self) -> &TlsFacts {
        &self.0.tls
    }

    /// Resolves once the connection is to be closed: too many failures, its age, or a revoked key. Then shut it down gracefully, so
    /// that the last answer still arrives; what does not end in time is cut. One task may wait at a time.
    pub async fn closing(&self) {
        std::future::poll_fn(|cx| self.0.lifeline.poll_closing(cx)).await;
    }

    /// The one-time password of a connection that is closed, for demonstrations: it fits no other connection.
    /// `None` while the connection is open, and when no request was verified on it.
    #[must_use]
    pub fn retired_otp(&self) -> Option<RetiredOtp> {
        let pinned = self.0.pinned.get().filter(|_| self.0.lifeline.state() == State::Closed)?;
        Some(RetiredOtp(Zeroizing::new(String::from_utf8_lossy(&pinned.field).into_owned())))
    }

    pub(crate) fn lifeline(&self) -> &Arc<Lifeline> {
        &self.0.lifeline
    }

    pub(crate) fn authentication(&self) -> &Arc<Authentication> {
        &self.0.authentication
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

    /// Cuts the connection at once: reads and writes fail, upgraded streams included.
    pub fn cut(&self) {
        self.0.lifeline.advance(State::Cut);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.lifeline.state() != State::Open
    }

    /// Checks one request. A failure that is answered 401 is counted, and the last one that is allowed closes the connection.
    pub(crate) fn authenticate<B>(&self, request: &Request<B>) -> Result<Passed, Refusal> {
        self.0.authenticate(request).inspect_err(|refusal| {
            let limit = self.0.authentication.max_failures;
            if refusal.is_unauthorized() && self.0.failures.fetch_add(1, Ordering::AcqRel) + 1 >= limit {
                self.0.lifeline.advance(State::Closing);
            }
        })
    }
}

impl Connection {
    fn authenticate<B>(&self, request: &Request<B>) -> Result<Passed, Refusal> {
        if self.failures.load(Ordering::Acquire) >= self.authentication.max_failures {
            return Err(Refusal::TooManyFailures);
        }
        let (pinned, derived) = self.verify(request.headers())?;
        if request.method() == Method::CONNECT && !is_extended_connect_for_websocket(request) {
            return Err(Refusal::Connect);
        }
        self.check_authority(request)?;

        let is_probe = request.uri().path() == WELL_KNOWN_PATH;
        if is_probe && request.method() != Method::GET {
            return Err(Refusal::ProbeMethod);
        }
        let proof_is_due = derived || is_probe || self.proof_is_due.load(Ordering::Relaxed);
        let proof = proof_is_due.then(|| pinned.proof.clone());
        Ok(Passed { client: pinned.client.clone(), proof, is_probe })
    }

    /// Parse, rule N, channel, look up, MAC, active, pin. Whether the password was derived anew comes with it.
    fn verify(&self, headers: &HeaderMap) -> Result<(&Pinned, bool), Refusal> {
        if self.lifeline.state() >= State::Cut {
            return Err(Refusal::Ended);
        }
        if let Some(pinned) = self.pinned.get().filter(|pinned| repeats(headers, &pinned.field)) {
            return if pinned.key.is_active() { Ok((pinned, false)) } else { Err(Refusal::Revoked(pinned.key.kid().clone())) };
        }
        let credential = Credential::read(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))?;
        if !self.authentication.names.accepts(self.tls.server_name()) {
            return Err(Refusal::ServerName);
        }
        if !credential.channel.matches(&self.ekm.channel()) {
            return Err(Refusal::Channel);
        }

        let key = self.authentication.store.get(&credential.kid).map_err(|e| Refusal::Registry(e.0))?;
        // An unknown key id costs the same work as a known one: it gets a key that is never active.
        let key = key.unwrap_or_else(|| Arc::clone(&self.authentication.unknown_kid));
        let derivation = Derivation::new(&self.ekm, &credential.kid, self.tls.server_name());
        let tag = key.secret().mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        let mac_equal = prk.otp().verify(&credential.otp);
        let active = key.is_active();
        if !(mac_equal & active) {
            // For the log only: the answer is the same.
            let is_unknown = Arc::ptr_eq(&key, &self.authentication.unknown_kid);
            return Err(match (is_unknown, active) {
                (true, _) => Refusal::UnknownKid(credential.kid),
                (false, false) => Refusal::Revoked(credential.kid),
                (false, true) => Refusal::Otp(credential.kid),
            });
        }

        let pinned = match self.pinned.get() {
            Some(pinned) => pinned,
            None => self.pin(key, headers, &AuthenticationInfo::write(&prk.server_proof()))?,
        };
        // Two requests may have raced for the pin: the key id is compared again.
        if *pinned.key.kid() == credential.kid { Ok((pinned, true)) } else { Err(Refusal::Pinned) }
    }

    fn pin(&self, key: Arc<RegisteredKey>, headers: &HeaderMap, proof: &str) -> Result<&Pinned, Refusal> {
        let field = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let pinned = self.pinned.get_or_init(|| {
            let mut proof = HeaderValue::from_str(proof).unwrap_or_else(|_| unreachable!("base64url is visible ASCII"));
            proof.set_sensitive(true);
            Pinned { client: VerifiedClient::new(Arc::clone(&key), self.tls.clone()), key, field: Zeroizing::new(field.into()), proof }
        });
        // From here on a revocation cuts this connection; one that came in between does it now.
        if !pinned.key.attach(&self.lifeline) {
            self.lifeline.advance(State::Cut);
            return Err(Refusal::Revoked(pinned.key.kid().clone()));
        }
        Ok(pinned)
    }

    /// Rule A. `Host` and `:authority` (or an absolute request target's) must agree and belong to the connection's server name.
    fn check_authority<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (host, None) => host.map(|host| host.to_str().map_err(|_| Refusal::Host)).transpose()?,
            _ => return Err(Refusal::Host),
        };
        let target = request.uri().authority().map(uri::Authority::as_str);
        if request.uri().scheme().is_some_and(|scheme| *scheme != uri::Scheme::HTTPS) {
            return Err(Refusal::Misdirected);
        }
        for written in [target, host].into_iter().flatten() {
            if self.covered.get().is_some_and(|covered| **covered == *written) {
                continue;
            }
            let authority = Authority::parse(written).map_err(|_| Refusal::Misdirected)?;
            if !self.authentication.names.covers(self.tls.server_name(), &authority) {
                return Err(Refusal::Misdirected);
            }
        }
        match (target, host) {
            (Some(target), Some(host)) if target != host && Authority::parse(target) != Authority::parse(host) => Err(Refusal::Misdirected),
            (Some(written), _) | (None, Some(written)) => {
                self.covered.get_or_init(|| written.into());
                Ok(())
            }
            (None, None) => Err(Refusal::Host),
        }
    }
}

/// Whether the request has exactly one credential field, the same as the verified one. In constant time.
fn repeats(headers: &HeaderMap, verified: &[u8]) -> bool {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => constant_time_eq(field.as_bytes(), verified),
        _ => false,
    }
}

/// RFC 8441: the only CONNECT that is served.
fn is_extended_connect_for_websocket<B>(request: &Request<B>) -> bool {
    request.extensions().get::<hyper::ext::Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket")
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
