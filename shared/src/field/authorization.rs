//! `Authorization: EKM-OTP kid="…", channel="…", otp="…"` (docs/protocol.md, "Credential").

use std::fmt;

use zeroize::Zeroizing;

#[cfg(feature = "jose")]
use super::grammar::MAX_FIELD_LEN;
use super::grammar::{Cursor, auth_params};
use super::{CredentialKind, Presented, PresentedToken};
use crate::{Channel, KeyId, Otp, PresentedOtp, SCHEME};

/// What one request presents. Nothing in it is verified.
#[derive(Debug)]
pub struct Credential<'a> {
    /// The key id it claims.
    pub kid: KeyId,
    /// The connection it claims to be made for.
    pub channel: Channel,
    /// What shows that it was made by a holder of the secret.
    pub presented: Presented<'a>,
}

impl<'a> Credential<'a> {
    /// Reads all `Authorization` fields of one request: exactly one must be there.
    ///
    /// # Errors
    /// When there is none, more than one, or it is not exactly one well-formed credential of this scheme.
    pub fn read(fields: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, CredentialError> {
        let mut fields = fields.into_iter();
        let field = fields.next().ok_or(CredentialError::Missing)?;
        if fields.next().is_some() {
            return Err(CredentialError::Malformed("more than one Authorization field"));
        }
        let mut cursor = Cursor::new(field)?;
        match cursor.token() {
            Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) => {}
            Some(_) => return Err(CredentialError::Missing),
            None => return Err(CredentialError::Malformed("no authentication scheme")),
        }
        if !cursor.spaces() {
            return Err(CredentialError::Malformed("no parameters"));
        }
        let mut params = auth_params(&mut cursor)?;
        let mut get = |name: &str| params.iter_mut().find(|p| p.is(name)).map(|p| std::mem::take(&mut p.value));

        let kid = get("kid").ok_or(CredentialError::Malformed("kid is missing"))?;
        let kid = KeyId::from_bytes(&kid).map_err(|_| CredentialError::Malformed("kid is not a key id"))?;
        let channel = get("channel").ok_or(CredentialError::Malformed("channel is missing"))?;
        let channel = Channel::decode(&channel).ok_or(CredentialError::Malformed("channel is not 16 bytes of canonical base64url"))?;
        let presented = match (get("otp"), get("jws"), get("jwe")) {
            (Some(otp), None, None) => {
                Presented::Otp(PresentedOtp::decode(&otp).ok_or(CredentialError::Malformed("otp is not 32 bytes of canonical base64url"))?)
            }
            (None, Some(token), None) => Presented::Jws(PresentedToken::new(token)),
            (None, None, Some(token)) => Presented::Jwe(PresentedToken::new(token)),
            (None, None, None) => return Err(CredentialError::Malformed("none of otp, jws, jwe")),
            _ => return Err(CredentialError::Malformed("more than one of otp, jws, jwe")),
        };
        Ok(Self { kid, channel, presented })
    }
}

impl Credential<'_> {
    /// Writes the field's value with a one-time password.
    #[must_use]
    pub fn write(kid: &KeyId, channel: &Channel, otp: &Otp) -> Zeroizing<String> {
        Self::write_value(kid, channel, CredentialKind::Otp, &otp.encode())
    }

    /// Writes the field's value with a token.
    ///
    /// # Errors
    /// When the field would be longer than a server reads: the token's claims are too long.
    #[cfg(feature = "jose")]
    pub fn write_token(kid: &KeyId, channel: &Channel, token: &crate::jose::Token) -> Result<Zeroizing<String>, TooLong> {
        let field = Self::write_value(kid, channel, token.kind(), token.as_str());
        if field.len() > MAX_FIELD_LEN { Err(TooLong(field.len())) } else { Ok(field) }
    }

    fn write_value(kid: &KeyId, channel: &Channel, kind: CredentialKind, value: &str) -> Zeroizing<String> {
        Zeroizing::new(format!(r#"{SCHEME} kid="{kid}", channel="{}", {kind}="{value}""#, channel.encode()))
    }
}

/// A credential does not fit into the field.
#[cfg(feature = "jose")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential would have {0} bytes, and a server reads at most 4096: the token's own claims or the request target are too long")]
pub struct TooLong(usize);

/// Why a request presents no credential. Logs may tell these apart; answers to a peer never do.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// No `Authorization` field, or one of another scheme.
    #[error("no EKM-OTP credential")]
    Missing,
    /// The field breaks the grammar.
    #[error("malformed credential: {0}")]
    Malformed(&'static str),
}

impl From<super::grammar::Fault> for CredentialError {
    fn from(fault: super::grammar::Fault) -> Self {
        Self::Malformed(fault)
    }
}

impl fmt::Debug for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
