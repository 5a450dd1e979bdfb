//! Tokens: made by a client for one request, checked by the server.

use std::fmt;
use std::sync::OnceLock;

use josekit::jwe::alg::direct::DirectJweEncrypter;
use josekit::jwe::{self, Dir, JweHeader};
use josekit::jws::alg::hmac::HmacJwsSigner;
use josekit::jws::{self, HS256, JwsHeader};
use zeroize::Zeroizing;

use super::claims::Payload;
use super::compact::{A256Gcm, Fault, Hs256, RequiredHeader};
use super::{ExtraClaims, SignedRequest, VerifiedPayload};
use crate::field::{CredentialKind, PresentedToken};
use crate::{KeyId, Prk};

/// The JWS's media type, `application/` left out (RFC 7515 §4.1.9).
const TYP: &str = "ekm-otp+jwt";

impl Prk {
    /// What signs the requests of this connection for `kid`: `T("client jws")`.
    #[must_use]
    pub fn jws_signer(&self, kid: &KeyId) -> TokenSigner {
        let mut header = JwsHeader::new();
        header.set_token_type(TYP);
        header.set_key_id(kid.as_str());
        TokenSigner { key: hs256(&self.expand("client jws")), header, encrypter: None }
    }

    /// What signs and encrypts them: `T("client jws")` and `T("client jwe")`.
    #[must_use]
    pub fn jwe_signer(&self, kid: &KeyId) -> TokenSigner {
        TokenSigner { encrypter: Some(encrypter(&self.expand("client jwe"), kid)), ..self.jws_signer(kid) }
    }

    /// What checks the tokens of this connection's requests for `kid`.
    #[must_use]
    pub fn token_verifier(&self, kid: &KeyId) -> TokenVerifier {
        TokenVerifier {
            jws_header: KnownHeader::new(RequiredHeader::new(&[("alg", "HS256"), ("typ", TYP)], Some(kid))),
            jws_key: Hs256::new(&self.expand("client jws")),
            jwe_header: KnownHeader::new(RequiredHeader::of_jwe(kid)),
            jwe_key: OnceLock::new(),
            jwe_secret: self.expand("client jwe"),
        }
    }
}

/// Signs under a key of 32 bytes.
pub(crate) fn hs256(key: &[u8; 32]) -> HmacJwsSigner {
    HS256.signer_from_bytes(key).unwrap_or_else(|_| unreachable!("32 bytes are a key for HS256"))
}

/// Encrypts with `dir` and A256GCM under a key of 32 bytes: the nested JWT's header, the same in all profiles.
pub(crate) fn encrypter(key: &[u8; 32], kid: &KeyId) -> (DirectJweEncrypter, JweHeader) {
    let mut header = JweHeader::new();
    header.set_content_encryption("A256GCM");
    header.set_content_type("JWT");
    header.set_token_type("JWT");
    header.set_key_id(kid.as_str());
    (Dir.encrypter_from_bytes(key).unwrap_or_else(|_| unreachable!("32 bytes are a key for A256GCM")), header)
}

/// Makes the tokens of one connection. Each is for one request.
pub struct TokenSigner {
    key: HmacJwsSigner,
    header: JwsHeader,
    encrypter: Option<(DirectJweEncrypter, JweHeader)>,
}

impl TokenSigner {
    /// The token for `request`, made at `now` (seconds since 1970-01-01T00:00:00Z) and good for a minute. `n` is from 1 to 2^53-1 and none that the
    /// connection has seen; count up from 1.
    ///
    /// # Errors
    /// When `n` or a time is out of range, or josekit fails: OpenSSL has no memory or no randomness.
    pub fn sign(&self, request: &SignedRequest<'_>, n: u64, now: u64, extra: &ExtraClaims) -> Result<Token, SignError> {
        let payload =
            Payload::new(request, n, now, extra).ok_or_else(|| SignError("n is not from 1 to 2^53-1, or a time is later".to_owned()))?;
        let payload = Zeroizing::new(serde_json::to_vec(&payload)?);
        let jws = jws::serialize_compact(&payload, &self.header, &self.key).map(Zeroizing::new)?;
        Ok(match &self.encrypter {
            None => Token { kind: CredentialKind::Jws, compact: jws },
            Some((key, header)) => {
                Token { kind: CredentialKind::Jwe, compact: Zeroizing::new(jwe::serialize_compact(jws.as_bytes(), header, key)?) }
            }
        })
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner(..)")
    }
}

/// A token could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be signed: {0}")]
pub struct SignError(String);

impl From<serde_json::Error> for SignError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<josekit::JoseError> for SignError {
    fn from(error: josekit::JoseError) -> Self {
        Self(error.to_string())
    }
}

/// A token for one request of one connection. Its `Debug` shows nothing of it.
pub struct Token {
    kind: CredentialKind,
    compact: Zeroizing<String>,
}

impl Token {
    /// [`Jws`](CredentialKind::Jws) or [`Jwe`](CredentialKind::Jwe).
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// The compact serialization.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.compact
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.kind)
    }
}

/// Checks the tokens of one connection and key id.
pub struct TokenVerifier {
    jws_header: KnownHeader,
    jws_key: Hs256,
    jwe_header: KnownHeader,
    /// Made of `jwe_secret` by the first JWE: most connections see none.
    jwe_key: OnceLock<A256Gcm>,
    jwe_secret: Zeroizing<[u8; 32]>,
}

impl TokenVerifier {
    /// The payload of a JWS, or of the JWS inside a JWE, that was made with this connection's keys.
    ///
    /// # Errors
    /// When it is no such token.
    pub fn verify(&self, kind: CredentialKind, token: &PresentedToken<'_>) -> Result<VerifiedPayload, NotVerified> {
        let verified = match kind {
            CredentialKind::Otp => Err("a one-time password is no token"),
            CredentialKind::Jws => self.verify_jws(token.as_bytes()),
            CredentialKind::Jwe => {
                let check = |header: &[u8]| self.jwe_header.check(header);
                let key = self.jwe_key.get_or_init(|| A256Gcm::new(&self.jwe_secret));
                key.decrypt(token.as_bytes(), check).and_then(|jws| self.verify_jws(&jws))
            }
        };
        verified.map(VerifiedPayload).map_err(NotVerified)
    }

    fn verify_jws(&self, token: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.jws_key.verify(token, |header| self.jws_header.check(header))
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier(..)")
    }
}

/// The header that one client's tokens must have.
struct KnownHeader {
    required: RequiredHeader,
    /// The first spelling that passed: a client seldom has a second, and this one need not be read again.
    passed: OnceLock<Box<[u8]>>,
}

impl KnownHeader {
    fn new(required: RequiredHeader) -> Self {
        Self { required, passed: OnceLock::new() }
    }

    fn check(&self, part: &[u8]) -> Result<(), Fault> {
        if self.passed.get().is_some_and(|passed| **passed == *part) {
            return Ok(());
        }
        self.required.check(part)?;
        let _ = self.passed.set(part.into());
        Ok(())
    }
}

/// A token was not made with this connection's keys, or is not of the required form. The text is for logs; no peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotVerified(pub &'static str);
