//! A document, taken apart: every byte is kept, and nothing is believed yet.

use super::{PCR_LEN, Pcrs};
use crate::cbor::{self, CborError, Value};
use crate::cose::{CoseError, Sign1};

/// The most bytes that are looked at. NitroTPM hands documents out through 8 KiB.
const MAX_LEN: usize = 64 * 1024;
/// Registers of a Nitro enclave; a TPM has 24.
const MAX_PCRS: u8 = 32;

/// Whose registers a document shows: the same number means something else in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Those of a TPM (`nitrotpm_pcrs`): what a virtual machine booted.
    NitroTpm,
    /// Those of a Nitro enclave (`pcrs`).
    Enclave,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NitroTpm => "NitroTPM",
            Self::Enclave => "Nitro Enclave",
        })
    }
}

/// An attestation document, decoded. Whoever shows it shows what somebody claims: [`Document::verify`] proves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    raw: Vec<u8>,
    pub(super) envelope: Sign1,
    kind: Kind,
    module_id: String,
    digest: String,
    timestamp: u64,
    pcrs: Pcrs,
    certificate: Vec<u8>,
    cabundle: Vec<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    others: Vec<(String, Value)>,
}

/// Why bytes are no attestation document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Too long.
    #[error("it has {0} bytes, and an attestation document has at most {MAX_LEN}")]
    Long(usize),
    /// The envelope.
    #[error(transparent)]
    Cose(#[from] CoseError),
    /// What is signed is no CBOR.
    #[error("what the document signs is damaged: {0}")]
    Payload(CborError),
    /// What is signed is no map from names to values.
    #[error("what the document signs is no map with names as keys")]
    NoMap,
    /// A field that has to be there.
    #[error("the document has no {0}")]
    Missing(&'static str),
    /// A field of another type or length than it has to be.
    #[error("the document's {field} is not {wanted}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// Both.
    #[error("the document has registers of an enclave (pcrs) and of a TPM (nitrotpm_pcrs)")]
    TwoKinds,
}

/// The fields of the map, each taken once.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn take(&mut self, field: &'static str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == field)?;
        Some(self.0.remove(at).1)
    }

    fn need<T>(&mut self, field: &'static str, wanted: &'static str, read: impl Fn(Value) -> Option<T>) -> Result<T, DocumentError> {
        let value = self.take(field).ok_or(DocumentError::Missing(field))?;
        read(value).ok_or(DocumentError::Field { field, wanted })
    }

    /// Left out, or `null`.
    fn optional(&mut self, field: &'static str) -> Result<Option<Vec<u8>>, DocumentError> {
        match self.take(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(DocumentError::Field { field, wanted: "a byte string or null" }),
        }
    }
}

fn text(value: Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text).filter(|text| !text.is_empty()) } else { None }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::Bytes(bytes) = value { Some(bytes).filter(|bytes| !bytes.is_empty()) } else { None }
}

fn registers(value: Value) -> Option<Pcrs> {
    let Value::Map(entries) = value else { return None };
    let register = |(number, value): (Value, Value)| match (number, value) {
        (Value::Unsigned(number), Value::Bytes(value)) if value.len() == PCR_LEN => {
            u8::try_from(number).ok().filter(|number| *number < MAX_PCRS).map(|number| (number, value))
        }
        _ => None,
    };
    entries.into_iter().map(register).collect::<Option<Pcrs>>().filter(|pcrs| !pcrs.is_empty())
}

impl Document {
    /// Takes a document apart, tagged (18) or untagged.
    ///
    /// # Errors
    /// When it is none. What it says is not judged: [`Document::verify`] does.
    pub fn decode(raw: &[u8]) -> Result<Self, DocumentError> {
        if raw.len() > MAX_LEN {
            return Err(DocumentError::Long(raw.len()));
        }
        let envelope = Sign1::decode(raw)?;
        let Value::Map(entries) = cbor::decode(&envelope.payload).map_err(DocumentError::Payload)? else {
            return Err(DocumentError::NoMap);
        };
        let named = |(name, value)| if let Value::Text(name) = name { Some((name, value)) } else { None };
        let mut fields = Fields(entries.into_iter().map(named).collect::<Option<_>>().ok_or(DocumentError::NoMap)?);

        let pcrs = |fields: &mut Fields, field| {
            let wanted = "a map from register numbers (0 to 31) to 48 bytes";
            fields.take(field).map(|value| registers(value).ok_or(DocumentError::Field { field, wanted })).transpose()
        };
        let (kind, pcrs) = match (pcrs(&mut fields, "nitrotpm_pcrs")?, pcrs(&mut fields, "pcrs")?) {
            (Some(pcrs), None) => (Kind::NitroTpm, pcrs),
            (None, Some(pcrs)) => (Kind::Enclave, pcrs),
            (Some(_), Some(_)) => return Err(DocumentError::TwoKinds),
            (None, None) => return Err(DocumentError::Missing("nitrotpm_pcrs, nor pcrs")),
        };
        let list = |value| if let Value::Array(items) = value { items.into_iter().map(bytes).collect::<Option<Vec<_>>>() } else { None };
        Ok(Self {
            kind,
            pcrs,
            module_id: fields.need("module_id", "a text", text)?,
            digest: fields.need("digest", "a text", text)?,
            timestamp: fields.need("timestamp", "a number", |value| if let Value::Unsigned(n) = value { Some(n) } else { None })?,
            certificate: fields.need("certificate", "a byte string", bytes)?,
            cabundle: fields
                .need("cabundle", "an array of byte strings, one at least", |value| list(value).filter(|all| !all.is_empty()))?,
            public_key: fields.optional("public_key")?,
            user_data: fields.optional("user_data")?,
            nonce: fields.optional("nonce")?,
            others: fields.0,
            envelope,
            raw: raw.to_vec(),
        })
    }

    /// All its bytes, as they came.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whose registers it shows.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn pcrs_field(&self) -> &'static str {
        match self.kind {
            Kind::NitroTpm => "nitrotpm_pcrs",
            Kind::Enclave => "pcrs",
        }
    }

    /// The module that issued it: for NitroTPM the instance's id, then the TPM's.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// The name of the registers' hash; `SHA384` in each document that is verified.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// When it was made, in milliseconds since 1970, by the issuer's clock.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Its registers.
    #[must_use]
    pub fn pcrs(&self) -> &Pcrs {
        &self.pcrs
    }

    /// The leaf certificate, DER; its key signs the document.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The certificates from the root (first) to the leaf's issuer, DER.
    #[must_use]
    pub fn cabundle(&self) -> &[Vec<u8>] {
        &self.cabundle
    }

    /// What the requester put in: a key to encrypt to, as a rule in DER.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// What the requester put in.
    #[must_use]
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// What the requester put in, as a rule from whoever verifies.
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// Fields that are not known here, in order. The signature covers them, too.
    #[must_use]
    pub fn others(&self) -> &[(String, Value)] {
        &self.others
    }
}
