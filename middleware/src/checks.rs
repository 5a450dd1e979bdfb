//! The checks of docs/protocol.md ("Order of checks"), in that order.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use constant_time_eq::constant_time_eq;
use ekm_otp::field::{AuthenticationInfo, Credential, CredentialError, CredentialKind, Presented};
use ekm_otp::{Derivation, Ekm, Handshake, KeyId, Profile, TlsFacts, WELL_KNOWN_PATH, is_reserved, tunnel};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request};
use zeroize::Zeroizing;

use crate::authority::{Covered, KnownAuthority};
use crate::connections::{Member, TooManyOfSource};
use crate::events::{ConnectionFacts, Events};
use crate::jose::{Tokens, VerifiedClaims, VerifiedPayload};
use crate::lifeline::{Lifeline, Stage, State};
use crate::passed::{Demand, Passed, Whose};
use crate::profile::{Exporter, ForeignCredential, Registry};
use crate::refusal::Refusal;
use crate::registered_key::{NotAttached, RegisteredKey};
use crate::{Authentication, VerifiedClient};

/// One TLS connection: what its requests are checked against, and what the first that passed left behind.
pub(crate) struct Connection {
    pub(crate) authentication: Arc<Authentication>,
    pub(crate) ekm: Ekm,
    pub(crate) tls: TlsFacts,
    pub(crate) member: Option<Member>,
    pub(crate) events: Arc<dyn Events>,
    pub(crate) lifeline: Arc<Lifeline>,
    pub(crate) failures: AtomicU32,
    pub(crate) pinned: OnceLock<Pinned>,
    /// Held while a key is tried for the pin.
    pinning: Mutex<()>,
    pub(crate) proof_is_due: AtomicBool,
    /// Whether somebody was told of the first success.
    pub(crate) is_told: AtomicBool,
    /// Whether the last request, on HTTP/1, had a body.
    pub(crate) has_body: AtomicBool,
    authority: KnownAuthority,
    /// Only where another profile than v1 is switched on: v1 exports once, before there is a connection.
    pub(crate) exporter: Option<Exporter>,
}

/// What the first success leaves behind: the key id is the connection's from then on.
pub(crate) struct Pinned {
    pub(crate) key: Arc<RegisteredKey>,
    client: VerifiedClient,
    /// `None` in a profile whose server proves nothing.
    proof: Option<HeaderValue>,
    /// The first whole field with a password that passed: a request that repeats it needs no second derivation.
    pub(crate) otp_field: OnceLock<Zeroizing<Box<[u8]>>>,
    /// What checks tokens, from the first one on.
    tokens: OnceLock<Box<Tokens>>,
}

/// A request whose credential was made by the holder of an active key, and that belongs to the connection's client.
struct Verified<'a> {
    pinned: &'a Pinned,
    /// Whether its keys were derived anew.
    is_derived: bool,
    payload: Payload,
}

/// What is still to be checked of a token, or is there already.
enum Payload {
    None,
    OfToken(CredentialKind, VerifiedPayload),
    OfOtherProfile(VerifiedClaims),
}

impl Connection {
    pub(crate) fn new(
        handshake: Handshake,
        authentication: Arc<Authentication>,
        lifeline: Arc<Lifeline>,
        member: Option<Member>,
        exporter: Option<Exporter>,
        events: Arc<dyn Events>,
    ) -> Self {
        Self {
            authentication,
            ekm: handshake.ekm,
            tls: handshake.facts,
            member,
            events,
            lifeline,
            failures: AtomicU32::new(0),
            pinned: OnceLock::new(),
            pinning: Mutex::new(()),
            proof_is_due: AtomicBool::new(true),
            is_told: AtomicBool::new(false),
            has_body: AtomicBool::new(false),
            authority: KnownAuthority::default(),
            exporter,
        }
    }

    /// As events tell of it.
    pub(crate) fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            id: self.lifeline.id(),
            peer: self.member.as_ref().map(|member| member.peer),
            tls: Some(&self.tls),
            client: self.pinned.get().map(|pinned| &pinned.client),
        }
    }

    /// The stream is gone: the key forgets the connection.
    pub(crate) fn left(&self) {
        self.lifeline.advance(State::Closed);
        // A request that is still at its pin has either been seen to end it, or sees the end.
        let pinning = self.pinning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pinned) = self.pinned.get() {
            pinned.key.detach(&self.lifeline);
        }
        drop(pinning);
        self.events.closed(&self.facts(), self.lifeline.why(), self.lifeline.age());
    }

    /// All checks of one request.
    pub(crate) fn authenticate<B>(&self, request: &Request<B>, demand: Demand) -> Result<Passed, Refusal> {
        if self.failures.load(Ordering::Acquire) >= self.authentication.max_failures {
            return Err(Refusal::TooManyFailures);
        }
        if self.lifeline.state() >= State::Cut {
            return Err(Refusal::Ended);
        }
        let verified = match self.verify(request.headers()) {
            Err(Refusal::Credential(CredentialError::Missing)) => return self.pass_without_credential(request, demand),
            verified => verified?,
        };
        let pinned = verified.pinned;
        let covered = self.check_target(request)?;

        let is_probe = request.uri().path() == WELL_KNOWN_PATH;
        if is_probe && request.method() != Method::GET {
            return Err(Refusal::ProbeMethod);
        }
        let claims = match verified.payload {
            Payload::None => None,
            Payload::OfOtherProfile(claims) => Some(claims),
            Payload::OfToken(kind, payload) => {
                let tokens = pinned.tokens.get().unwrap_or_else(|| unreachable!("what verified the token is kept"));
                Some(tokens.check(kind, &payload, request, &covered.audience, self.authentication.leeway)?)
            }
        };
        let proof_is_due = verified.is_derived || is_probe || self.proof_is_due.load(Ordering::Relaxed);
        let as_whose = Whose::Verified(pinned.client.clone(), claims);
        Ok(Passed { as_whose, proof: pinned.proof.clone().filter(|_| proof_is_due), is_probe })
    }

    /// CONNECT, and rule A.
    fn check_target<B>(&self, request: &Request<B>) -> Result<Cow<'_, Covered>, Refusal> {
        if request.method() == Method::CONNECT && !is_extended_connect(request) {
            return Err(Refusal::Connect);
        }
        self.authority.check(request, &self.authentication.names, self.tls.server_name())
    }

    /// What passes although it shows no credential of ours: what another layer verified before it took the credential away, and what needs none.
    #[cold]
    fn pass_without_credential<B>(&self, request: &Request<B>, demand: Demand) -> Result<Passed, Refusal> {
        let missing = Err(Refusal::Credential(CredentialError::Missing));
        // Whoever shows another scheme's credential means to be checked.
        if request.headers().contains_key(AUTHORIZATION) {
            return missing;
        }
        if let (Some(before), Some(pinned)) = (request.extensions().get::<VerifiedClient>(), self.pinned.get())
            && pinned.client.is_same(before)
        {
            return match pinned.key.usable() {
                Ok(()) => Ok(Passed { as_whose: Whose::VerifiedBefore, proof: None, is_probe: false }),
                Err(why) => Err(Refusal::Unusable { kid: pinned.key.kid().clone(), why }),
            };
        }
        let is_open = match demand {
            Demand::AsConfigured => self.authentication.is_open_to(request.method(), request.uri()),
            Demand::Credential => false,
            Demand::Nothing => true,
        };
        if !is_open || is_reserved(request.uri().path()) {
            return missing;
        }
        self.check_name()?;
        self.check_target(request)?;
        self.lifeline.let_in();
        Ok(Passed { as_whose: Whose::Nobody, proof: None, is_probe: false })
    }

    /// Parse, kind, rule N, channel, look up, MAC, active, pin, minimum.
    fn verify(&self, headers: &HeaderMap) -> Result<Verified<'_>, Refusal> {
        if let Some(pinned) = self.pinned.get().filter(|pinned| repeats(headers, pinned)) {
            return match pinned.key.usable() {
                Ok(()) => Ok(Verified::again(pinned)),
                Err(why) => Err(Refusal::Unusable { kid: pinned.key.kid().clone(), why }),
            };
        }
        if let Some(verified) = self.verify_other_profile(headers) {
            return verified;
        }
        let credential = Credential::read(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))?;
        let kind = credential.presented.kind();
        self.check_kind_and_name(kind)?;
        if !credential.channel.matches(&self.ekm.channel()) {
            return Err(Refusal::Channel);
        }
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
            Presented::Jws(token) | Presented::Jwe(token) => {
                let tokens = Tokens::new(&prk, &credential.kid);
                let (pinned, payload) = self.admit(key, &credential.kid, kind, tokens.verify(kind, token), proof)?;
                pinned.tokens.get_or_init(|| Box::new(tokens));
                Ok(Verified { pinned, is_derived: true, payload: Payload::OfToken(kind, payload) })
            }
        }
    }

    /// A token of the client that the connection belongs to: its keys are there already.
    fn verify_token_again(&self, credential: &Credential<'_>) -> Option<Result<Verified<'_>, Refusal>> {
        let (Presented::Jws(token) | Presented::Jwe(token)) = &credential.presented else { return None };
        let pinned = self.pinned.get().filter(|pinned| *pinned.key.kid() == credential.kid)?;
        let kind = credential.presented.kind();
        let verified = pinned.tokens.get()?.verify(kind, token);
        let admitted = self.admit(Arc::clone(&pinned.key), &credential.kid, kind, verified, || None);
        Some(admitted.map(|(pinned, payload)| Verified { pinned, is_derived: false, payload: Payload::OfToken(kind, payload) }))
    }

    /// A credential of another profile, where one is switched on.
    fn verify_other_profile(&self, headers: &HeaderMap) -> Option<Result<Verified<'_>, Refusal>> {
        let (profile, exporter) = (self.authentication.other_profile.as_ref()?, self.exporter.as_ref()?);
        let kind = profile.kind_of(headers)?;
        let verify = || {
            self.check_kind_and_name(kind)?;
            let ForeignCredential { key, kid, claims } = profile.verify(kind, headers, self.registry(), exporter)?;
            let (pinned, claims) = self.admit(key, &kid, kind, claims, || None)?;
            Ok(Verified { pinned, is_derived: false, payload: claims.map_or(Payload::None, Payload::OfOtherProfile) })
        };
        Some(verify())
    }

    fn registry(&self) -> Registry<'_> {
        Registry { keys: &*self.authentication, leeway: self.authentication.leeway }
    }

    /// What can be refused before a key id is looked at, and so says nothing about any: kind, rule N.
    fn check_kind_and_name(&self, kind: CredentialKind) -> Result<(), Refusal> {
        if !self.authentication.kinds.contains(&kind) {
            return Err(Refusal::Kind(kind));
        }
        self.check_name()
    }

    /// Rule N.
    fn check_name(&self) -> Result<(), Refusal> {
        if !self.authentication.names.accepts(self.tls.server_name()) {
            return Err(Refusal::ServerName);
        }
        Ok(())
    }

    /// MAC, active, in its time and for this name, pin, minimum: what `key` must pass once it is known whether the credential is right under it.
    fn admit<T>(
        &self,
        key: Arc<RegisteredKey>,
        kid: &KeyId,
        kind: CredentialKind,
        is_right: Result<T, &'static str>,
        proof: impl FnOnce() -> Option<String>,
    ) -> Result<(&Pinned, T), Refusal> {
        let right = match (is_right, key.usable_for(self.tls.server_name())) {
            (Ok(right), Ok(())) => right,
            // For the log only: the answer is the same.
            (_, Err(_)) if self.authentication.is_unknown(&key) => return Err(Refusal::UnknownKid(kid.clone())),
            (_, Err(why)) => return Err(Refusal::Unusable { kid: kid.clone(), why }),
            (Err(why), Ok(())) => return Err(Refusal::Wrong { kid: kid.clone(), why }),
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
        let _pinning = self.pinning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pinned) = self.pinned.get() {
            return Ok(pinned);
        }
        // From here on a revocation cuts this connection.
        key.attach(&self.lifeline, self.authentication.max_connections_per_key).map_err(|why| match why {
            NotAttached::Unusable(why) => Refusal::Unusable { kid: key.kid().clone(), why },
            NotAttached::Full => Refusal::TooManyOfKey { kid: key.kid().clone(), limit: self.authentication.max_connections_per_key },
            NotAttached::Ended => Refusal::Ended,
        })?;
        if let Some(Err(TooManyOfSource { limit })) = self.member.as_ref().map(Member::is_verified) {
            key.detach(&self.lifeline);
            return Err(Refusal::TooManyOfSource { limit });
        }
        self.lifeline.advance_stage(Stage::Verified);
        Ok(self.pinned.get_or_init(|| {
            let proof = proof.map(|proof| {
                let mut proof = HeaderValue::from_str(&proof).unwrap_or_else(|_| unreachable!("base64url is visible ASCII"));
                proof.set_sensitive(true);
                proof
            });
            Pinned {
                client: VerifiedClient::new(
                    Arc::clone(&key),
                    self.tls.clone(),
                    self.member.as_ref().map(|member| member.peer),
                    self.lifeline.id(),
                ),
                key,
                proof,
                otp_field: OnceLock::new(),
                tokens: OnceLock::new(),
            }
        }))
    }
}

/// Where no stream told that it is gone: on a connection of another TLS stack, whose embedder holds no [`EkmStream`](crate::EkmStream).
impl Drop for Connection {
    fn drop(&mut self) {
        if self.lifeline.state() < State::Closed
            && let Some(pinned) = self.pinned.get()
        {
            pinned.key.detach(&self.lifeline);
        }
    }
}

impl<'a> Verified<'a> {
    /// The credential was verified on this connection before.
    fn again(pinned: &'a Pinned) -> Self {
        Self { pinned, is_derived: false, payload: Payload::None }
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

/// RFC 8441: the only CONNECTs that are served, for websockets, and for tunnels where those are asked for.
fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.extensions().get::<hyper::ext::Protocol>().is_some_and(|protocol| match protocol.as_str() {
        "websocket" => true,
        tunnel::PROTOCOL => request.uri().path().starts_with(tunnel::PATH),
        _ => false,
    })
}
