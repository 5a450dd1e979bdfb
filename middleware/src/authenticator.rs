//! One connection's authenticator: the checks of docs/protocol.md ("Order of checks"), in that order.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use constant_time_eq::constant_time_eq;
use ekm_otp::field::{AuthenticationInfo, Credential, CredentialKind, Presented};
use ekm_otp::{Authority, Derivation, Ekm, Handshake, KeyId, Profile, TlsFacts, WELL_KNOWN_PATH};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, uri};
use zeroize::Zeroizing;

use crate::lifeline::{Lifeline, State};
#[cfg(feature = "jose")]
use crate::profile::{Exporter, ForeignCredential};
use crate::refusal::Refusal;
use crate::store::RegisteredKey;
#[cfg(feature = "jose")]
use crate::token::{Tokens, VerifiedClaims};
use crate::{Authentication, EkmOtpLayer, VerifiedClient};

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
    /// The first authority that passed rule A, and how it was written: most connections know no other.
    covered: OnceLock<(Box<str>, Authority)>,
    /// Only where another profile than v1 is switched on: v1 exports once, before there is a connection.
    #[cfg(feature = "jose")]
    exporter: Option<Exporter>,
}

/// What the first success leaves behind: the key id is the connection's from then on.
struct Pinned {
    key: Arc<RegisteredKey>,
    client: VerifiedClient,
    /// `None` in a profile whose server proves nothing.
    proof: Option<HeaderValue>,
    /// The first whole field with a password that passed: a request that repeats it needs no second derivation.
    otp_field: OnceLock<Zeroizing<Box<[u8]>>>,
    /// What checks tokens, from the first one on.
    #[cfg(feature = "jose")]
    tokens: OnceLock<Box<Tokens>>,
}

/// A request whose credential was made by the holder of an active key, and that belongs to the connection's client.
struct Verified<'a> {
    pinned: &'a Pinned,
    /// Whether its keys were derived anew.
    is_derived: bool,
    #[cfg(feature = "jose")]
    payload: Payload,
}

/// What is still to be checked of a token, or is there already.
#[cfg(feature = "jose")]
enum Payload {
    None,
    OfToken(CredentialKind, ekm_otp::jose::VerifiedPayload),
    OfOtherProfile(VerifiedClaims),
}

/// A request that passed every check.
pub(crate) struct Passed {
    pub(crate) client: VerifiedClient,
    /// What its token says.
    #[cfg(feature = "jose")]
    pub(crate) claims: Option<VerifiedClaims>,
    /// The server proof, where the response must carry it.
    pub(crate) proof: Option<HeaderValue>,
    /// The request asks for the proof only: it ends here.
    pub(crate) is_probe: bool,
}

impl ConnectionAuthenticator {
    /// For one finished handshake. [`EkmAcceptor`](crate::EkmAcceptor) does this; call it for other TLS stacks.
    #[must_use]
    pub fn new(handshake: Handshake, authentication: Arc<Authentication>) -> Self {
        Self::of(
            handshake,
            authentication,
            #[cfg(feature = "jose")]
            None,
        )
    }

    /// For a connection that may be asked for keying material again, by a profile that cannot do without.
    #[cfg(feature = "jose")]
    pub(crate) fn with_exporter(handshake: Handshake, authentication: Arc<Authentication>, exporter: Exporter) -> Self {
        Self::of(handshake, authentication, Some(exporter))
    }

    fn of(handshake: Handshake, authentication: Arc<Authentication>, #[cfg(feature = "jose")] exporter: Option<Exporter>) -> Self {
        Self(Arc::new(Connection {
            authentication,
            ekm: handshake.ekm,
            tls: handshake.facts,
            lifeline: Arc::new(Lifeline::default()),
            failures: AtomicU32::new(0),
            pinned: OnceLock::new(),
            proof_is_due: AtomicBool::new(true),
            covered: OnceLock::new(),
            #[cfg(feature = "jose")]
            exporter,
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

    /// Takes the credential away: no application needs it.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        #[cfg(feature = "jose")]
        if let Some(profile) = &self.0.authentication.other_profile {
            profile.strip(headers);
        }
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
        if self.lifeline.state() >= State::Cut {
            return Err(Refusal::Ended);
        }
        let verified = self.verify(request.headers())?;
        let pinned = verified.pinned;
        if request.method() == Method::CONNECT && !is_extended_connect_for_websocket(request) {
            return Err(Refusal::Connect);
        }
        let authority = self.check_authority(request)?;

        let is_probe = request.uri().path() == WELL_KNOWN_PATH;
        if is_probe && request.method() != Method::GET {
            return Err(Refusal::ProbeMethod);
        }
        #[cfg(feature = "jose")]
        let claims = match verified.payload {
            Payload::None => None,
            Payload::OfOtherProfile(claims) => Some(claims),
            Payload::OfToken(kind, payload) => {
                let tokens = pinned.tokens.get().unwrap_or_else(|| unreachable!("what verified the token is kept"));
                Some(tokens.check(kind, &payload, request, &authority, self.authentication.leeway)?)
            }
        };
        #[cfg(not(feature = "jose"))]
        let _ = authority;
        let proof_is_due = verified.is_derived || is_probe || self.proof_is_due.load(Ordering::Relaxed);
        Ok(Passed {
            client: pinned.client.clone(),
            #[cfg(feature = "jose")]
            claims,
            proof: pinned.proof.clone().filter(|_| proof_is_due),
            is_probe,
        })
    }

    /// Parse, kind, rule N, channel, look up, MAC, active, pin, minimum.
    fn verify(&self, headers: &HeaderMap) -> Result<Verified<'_>, Refusal> {
        if let Some(pinned) = self.pinned.get().filter(|pinned| repeats(headers, pinned)) {
            return if pinned.key.is_active() { Ok(Verified::again(pinned)) } else { Err(Refusal::Revoked(pinned.key.kid().clone())) };
        }
        #[cfg(feature = "jose")]
        if let Some(verified) = self.verify_other_profile(headers) {
            return verified;
        }
        let credential = Credential::read(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))?;
        let kind = credential.presented.kind();
        self.check_kind_and_name(kind)?;
        if !credential.channel.matches(&self.ekm.channel()) {
            return Err(Refusal::Channel);
        }
        #[cfg(feature = "jose")]
        if let Some(verified) = self.verify_token_again(&credential) {
            return verified;
        }

        let key = self.authentication.look_up(&credential.kid, Profile::V1)?;
        let derivation = Derivation::new(&self.ekm, &credential.kid, self.tls.server_name());
        let tag = key.secret().mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        let proof = || Some(AuthenticationInfo::write(&prk.server_proof()));
        match &credential.presented {
            Presented::Otp(otp) => {
                let is_right = prk.otp().verify(otp).then_some(()).ok_or("another one-time password");
                let (pinned, ()) = self.admit(key, &credential.kid, kind, is_right, proof)?;
                let field = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
                pinned.otp_field.get_or_init(|| Zeroizing::new(field.into()));
                Ok(Verified { is_derived: true, ..Verified::again(pinned) })
            }
            #[cfg(feature = "jose")]
            Presented::Jws(token) | Presented::Jwe(token) => {
                let tokens = Tokens::new(prk.token_verifier(&credential.kid));
                let (pinned, payload) = self.admit(key, &credential.kid, kind, tokens.verify(kind, token), proof)?;
                pinned.tokens.get_or_init(|| Box::new(tokens));
                Ok(Verified { pinned, is_derived: true, payload: Payload::OfToken(kind, payload) })
            }
            #[cfg(not(feature = "jose"))]
            Presented::Jws(_) | Presented::Jwe(_) => Err(Refusal::Kind(kind)),
        }
    }

    /// A token of the client that the connection belongs to: its keys are there already.
    #[cfg(feature = "jose")]
    fn verify_token_again(&self, credential: &Credential) -> Option<Result<Verified<'_>, Refusal>> {
        let (Presented::Jws(token) | Presented::Jwe(token)) = &credential.presented else { return None };
        let pinned = self.pinned.get().filter(|pinned| *pinned.key.kid() == credential.kid)?;
        let kind = credential.presented.kind();
        let verified = pinned.tokens.get()?.verify(kind, token);
        let admitted = self.admit(Arc::clone(&pinned.key), &credential.kid, kind, verified, || None);
        Some(admitted.map(|(pinned, payload)| Verified { pinned, is_derived: false, payload: Payload::OfToken(kind, payload) }))
    }

    /// A credential of another profile, where one is switched on.
    #[cfg(feature = "jose")]
    fn verify_other_profile(&self, headers: &HeaderMap) -> Option<Result<Verified<'_>, Refusal>> {
        let (profile, exporter) = (self.authentication.other_profile.as_ref()?, self.exporter.as_ref()?);
        let kind = profile.kind_of(headers)?;
        let verify = || {
            self.check_kind_and_name(kind)?;
            let ForeignCredential { key, kid, claims } = profile.verify(kind, headers, &self.authentication, exporter)?;
            let (pinned, claims) = self.admit(key, &kid, kind, claims, || None)?;
            Ok(Verified { pinned, is_derived: false, payload: claims.map_or(Payload::None, Payload::OfOtherProfile) })
        };
        Some(verify())
    }

    /// What can be refused before a key id is looked at, and so says nothing about any: kind, rule N.
    fn check_kind_and_name(&self, kind: CredentialKind) -> Result<(), Refusal> {
        if !self.authentication.kinds.contains(&kind) {
            return Err(Refusal::Kind(kind));
        }
        if !self.authentication.names.accepts(self.tls.server_name()) {
            return Err(Refusal::ServerName);
        }
        Ok(())
    }

    /// MAC and active, pin, minimum: what `key` must pass once it is known whether the credential is right under it.
    fn admit<T>(
        &self,
        key: Arc<RegisteredKey>,
        kid: &KeyId,
        kind: CredentialKind,
        is_right: Result<T, &'static str>,
        proof: impl FnOnce() -> Option<String>,
    ) -> Result<(&Pinned, T), Refusal> {
        let right = match (is_right, key.is_active()) {
            (Ok(right), true) => right,
            // For the log only: the answer is the same.
            (_, false) if self.authentication.is_unknown(&key) => return Err(Refusal::UnknownKid(kid.clone())),
            (_, false) => return Err(Refusal::Revoked(kid.clone())),
            (Err(why), true) => return Err(Refusal::Wrong { kid: kid.clone(), why }),
        };
        let pinned = match self.pinned.get() {
            Some(pinned) => pinned,
            None => self.pin(key, proof())?,
        };
        // Two requests may have raced for the pin: the key id is compared again.
        if pinned.key.kid() != kid {
            return Err(Refusal::Pinned);
        }
        if kind < pinned.key.minimum() {
            return Err(Refusal::BelowMinimum { kid: kid.clone(), kind });
        }
        Ok((pinned, right))
    }

    fn pin(&self, key: Arc<RegisteredKey>, proof: Option<String>) -> Result<&Pinned, Refusal> {
        let pinned = self.pinned.get_or_init(|| {
            let proof = proof.map(|proof| {
                let mut proof = HeaderValue::from_str(&proof).unwrap_or_else(|_| unreachable!("base64url is visible ASCII"));
                proof.set_sensitive(true);
                proof
            });
            Pinned {
                client: VerifiedClient::new(Arc::clone(&key), self.tls.clone()),
                key,
                proof,
                otp_field: OnceLock::new(),
                #[cfg(feature = "jose")]
                tokens: OnceLock::new(),
            }
        });
        // From here on a revocation cuts this connection; one that came in between does it now.
        if !pinned.key.attach(&self.lifeline) {
            self.lifeline.advance(State::Cut);
            return Err(Refusal::Revoked(pinned.key.kid().clone()));
        }
        Ok(pinned)
    }

    /// Rule A. `Host` and `:authority` (or an absolute request target's) must agree and belong to the connection's server name.
    fn check_authority<B>(&self, request: &Request<B>) -> Result<Cow<'_, Authority>, Refusal> {
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

impl<'a> Verified<'a> {
    /// The credential was verified on this connection before.
    fn again(pinned: &'a Pinned) -> Self {
        Self {
            pinned,
            is_derived: false,
            #[cfg(feature = "jose")]
            payload: Payload::None,
        }
    }
}

/// Whether the request has exactly one credential field, the same as the verified one. In constant time.
fn repeats(headers: &HeaderMap, pinned: &Pinned) -> bool {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    match (fields.next(), fields.next(), pinned.otp_field.get()) {
        (Some(field), None, Some(verified)) => constant_time_eq(field.as_bytes(), verified),
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
