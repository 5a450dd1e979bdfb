//! The log's bytes: TCG_PCClientPCREvent, with SHA-1 alone, and TCG_PCR_EVENT2, with a digest for each bank (TCG PC Client Platform Firmware Profile, 10.2).
//! Numbers are little-endian.

use std::collections::BTreeMap;

use super::log::{Event, EventLog, NO_ACTION};
use crate::tpm::Hash;

/// TCG_EfiSpecIdEvent (10.4.5.1): with it, a log is of the form with several digests.
const SPEC_ID: &[u8] = b"Spec ID Event03\0";
/// TCG_EfiStartupLocalityEvent (10.4.5.3)
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";
/// No TPM has more banks.
const MAX_ALGORITHMS: u32 = 16;
/// No digest is longer.
const MAX_DIGEST: u16 = 64;

/// Why bytes are no event log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// No event at all.
    #[error("the event log is empty: firmware keeps none, or none for this kernel")]
    Empty,
    /// Longer than any.
    #[error("this is no event log: it is longer than {} bytes", EventLog::MAX_LEN)]
    TooLong,
    /// It ends within an event, or one says that it is longer than the log.
    #[error("the event log is cut off or damaged: its event {0} is not whole")]
    CutOff(usize),
    /// A register that is none.
    #[error("the event log is damaged, or none: its event {0} is of register {1}")]
    Register(usize, u32),
    /// Digests that the header does not name.
    #[error("the event log is damaged: its event {0} has digests that its beginning does not announce")]
    Digests(usize),
    /// The header.
    #[error("the event log's beginning is not of a form that is known here")]
    Header,
}

impl EventLog {
    /// Reads a log, to its end.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        if bytes.is_empty() {
            return Err(EventLogError::Empty);
        }
        if bytes.len() > Self::MAX_LEN {
            return Err(EventLogError::TooLong);
        }
        let mut reader = Reader(bytes);
        let first = reader.legacy().ok_or(EventLogError::CutOff(0))??;
        let sizes = match first.data.strip_prefix(SPEC_ID) {
            Some(header) if first.kind == NO_ACTION => Some(algorithms(header).ok_or(EventLogError::Header)?),
            _ => None,
        };
        let mut log = Self { events: vec![first], locality: 0 };
        while !reader.0.is_empty() {
            let number = log.events.len();
            let event = match &sizes {
                None => reader.legacy(),
                Some(sizes) => reader.agile(sizes),
            };
            let event = event.ok_or(EventLogError::CutOff(number))?.map_err(|error| error.at(number))?;
            if let (0, NO_ACTION, Some([locality])) = (event.register, event.kind, event.data.strip_prefix(STARTUP_LOCALITY)) {
                log.locality = *locality;
            }
            log.events.push(event);
        }
        Ok(log)
    }
}

impl EventLogError {
    fn at(self, number: usize) -> Self {
        match self {
            Self::Register(_, register) => Self::Register(number, register),
            Self::Digests(_) => Self::Digests(number),
            other => other,
        }
    }
}

/// TPM_ALG_ID → digest size
type Sizes = BTreeMap<u16, u16>;

/// What follows the signature: platformClass, three version bytes, uintnSize, the algorithms, and the vendor's information.
fn algorithms(header: &[u8]) -> Option<Sizes> {
    let mut reader = Reader(header);
    reader.take(8)?;
    let count = reader.u32().filter(|count| (1..=MAX_ALGORITHMS).contains(count))?;
    let mut sizes = Sizes::new();
    for _ in 0..count {
        let (id, size) = (reader.u16()?, reader.u16().filter(|size| (1..=MAX_DIGEST).contains(size))?);
        let is_known_otherwise = Hash::from_id(id).is_some_and(|hash| hash.len() != usize::from(size));
        if is_known_otherwise || sizes.insert(id, size).is_some() {
            return None;
        }
    }
    let [vendor_size] = reader.take(1)? else { return None };
    reader.take(usize::from(*vendor_size))?;
    reader.0.is_empty().then_some(sizes)
}

/// What is left to read. `None` where that is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (these, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(these)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A size in 32 bits, and so many bytes.
    fn data(&mut self) -> Option<Vec<u8>> {
        let size = usize::try_from(self.u32()?).ok()?;
        self.take(size).map(<[u8]>::to_vec)
    }

    fn legacy(&mut self) -> Option<Result<Event, EventLogError>> {
        let (register, kind) = (self.u32()?, self.u32()?);
        let digests = BTreeMap::from([(Hash::Sha1, self.take(20)?.to_vec())]);
        let data = self.data()?;
        Some(register_of(register).map(|register| Event { register, kind, digests, data }))
    }

    fn agile(&mut self, sizes: &Sizes) -> Option<Result<Event, EventLogError>> {
        let (register, kind, count) = (self.u32()?, self.u32()?, self.u32()?);
        let mut digests = BTreeMap::new();
        let mut seen = Vec::new();
        if usize::try_from(count).ok()? > sizes.len() {
            return Some(Err(EventLogError::Digests(0)));
        }
        for _ in 0..count {
            let id = self.u16()?;
            let Some(size) = sizes.get(&id).filter(|_| !seen.contains(&id)) else { return Some(Err(EventLogError::Digests(0))) };
            seen.push(id);
            let digest = self.take(usize::from(*size))?;
            if let Some(hash) = Hash::from_id(id) {
                digests.insert(hash, digest.to_vec());
            }
        }
        let data = self.data()?;
        Some(register_of(register).map(|register| Event { register, kind, digests, data }))
    }
}

/// 24, and the one that firmware names where there is none: EV_NO_ACTION events may have 0xffffffff.
fn register_of(register: u32) -> Result<u8, EventLogError> {
    match u8::try_from(register) {
        Ok(register @ 0..24) => Ok(register),
        _ if register == u32::MAX => Ok(u8::MAX),
        _ => Err(EventLogError::Register(0, register)),
    }
}
