//! `WWW-Authenticate: EKM-OTP realm="…"[, error="…"]` (RFC 9110 §11.6.1).

use super::grammar::{Cursor, Fault, Param};
use crate::SCHEME;

/// A server's challenge of this scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The protection space, for people.
    pub realm: String,
    /// A diagnosis such as `channel`. No client changes what it sends because of it.
    pub error: Option<String>,
}

impl Challenge {
    /// Finds this scheme's challenge in all `WWW-Authenticate` fields of one response; `None` when there is none that is well-formed.
    #[must_use]
    pub fn read<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        fields.into_iter().find_map(|field| Self::read_field(field).ok().flatten())
    }

    fn read_field(field: &[u8]) -> Result<Option<Self>, Fault> {
        let mut cursor = Cursor::new(field)?;
        loop {
            cursor.skip_empty_elements();
            if cursor.at_end() {
                return Ok(None);
            }
            let scheme = cursor.token().ok_or("no authentication scheme")?;
            let params = if cursor.spaces() && !cursor.token68() { challenge_params(&mut cursor)? } else { Vec::new() };
            if scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
                return Self::from_params(&params).map(Some);
            }
        }
    }

    fn from_params(params: &[Param<'_>]) -> Result<Self, Fault> {
        let text = |name: &str| {
            let mut values = params.iter().filter(|p| p.is(name)).map(|p| String::from_utf8_lossy(&p.value).into_owned());
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err("a parameter stands twice"),
            }
        };
        Ok(Self { realm: text("realm")?.ok_or("realm is missing")?, error: text("error")? })
    }

    /// Writes the field's value.
    ///
    /// # Errors
    /// When realm or error hold anything but printable ASCII.
    pub fn write(&self) -> Result<String, ChallengeError> {
        let mut value = format!("{SCHEME} realm={}", quoted(&self.realm)?);
        if let Some(error) = &self.error {
            value += &format!(", error={}", quoted(error)?);
        }
        Ok(value)
    }
}

fn quoted(text: &str) -> Result<String, ChallengeError> {
    let mut value = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => value.extend(['\\', c]),
            ' '..='~' => value.push(c),
            _ => return Err(ChallengeError),
        }
    }
    value.push('"');
    Ok(value)
}

/// Realm or error cannot be written into a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a challenge consists of printable ASCII characters only")]
pub struct ChallengeError;

/// The parameters of one challenge in a list of challenges: they end where the next element is `scheme` rather than `name=`.
fn challenge_params<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Param<'a>>, Fault> {
    let mut params = Vec::new();
    loop {
        cursor.skip_empty_elements();
        let mut ahead = cursor.clone();
        let is_param = ahead.token().is_some() && {
            ahead.skip_ows();
            ahead.eat(b'=')
        };
        if cursor.at_end() || !is_param {
            return Ok(params);
        }
        params.push(cursor.auth_param()?);
        cursor.end_of_element()?;
    }
}
