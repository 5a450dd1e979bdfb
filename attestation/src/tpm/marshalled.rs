//! Structures as a TPM marshals them (TCG part 2, 4): big-endian, one after the other.

/// What is left to be read.
pub(super) struct Marshalled<'a>(&'a [u8]);

/// It ends too early, or too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl<'a> Marshalled<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Damaged> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_be_bytes)
    }

    /// A TPM2B: its length in 16 bits, then so many bytes.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Damaged> {
        let len = self.u16()?;
        self.take(len.into())
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}

/// A TPM2B. What is longer than 65535 bytes does not come here: keys, digests and signatures.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], &bytes[..len.into()]].concat()
}
