//! `Authentication-Info: proof="…"` (RFC 7615 §3; docs/protocol.md, "Server proof").

use http::HeaderName;

use super::grammar::{Cursor, auth_params};
use crate::{PresentedProof, ServerProof};

/// What a response's header section says of the server's proof.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuthenticationInfo {
    /// No proof.
    Absent,
    /// Exactly one well-formed proof, not verified yet.
    Proof(PresentedProof),
    /// Something that is not exactly one well-formed proof.
    Malformed,
}

impl AuthenticationInfo {
    /// The field's name.
    pub const FIELD: HeaderName = HeaderName::from_static("authentication-info");

    /// Reads all `Authentication-Info` fields of one response's header section.
    #[must_use]
    pub fn read<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::Absent;
        for field in fields {
            let Ok(params) = Cursor::new(field).and_then(|mut cursor| auth_params(&mut cursor)) else { return Self::Malformed };
            let Some(proof) = params.iter().find(|p| p.is("proof")) else { continue };
            found = match (found, PresentedProof::decode(&proof.value)) {
                (Self::Absent, Some(proof)) => Self::Proof(proof),
                _ => return Self::Malformed,
            };
        }
        found
    }

    /// Writes the field's value.
    #[must_use]
    pub fn write(proof: &ServerProof) -> String {
        format!(r#"proof="{}""#, *proof.encode())
    }
}
