//! What a TPM signs when it quotes its registers (TPMS_ATTEST, TCG part 2, 10.12.12).

use super::marshalled::{Damaged, Marshalled};
use super::pcr::{PcrSelection, Selected};

/// TPM_GENERATED_VALUE: what a restricted key signs of others never begins so.
const MAGIC: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE
const QUOTE: u16 = 0x8018;
/// The most banks in a selection: as many as there are hashes.
const MAX_BANKS: u32 = 16;

/// TPMS_CLOCK_INFO (part 2, 10.11.1)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM has been powered since it was made or cleared.
    pub clock: u64,
    /// How often it was reset: each boot, as a rule, is one.
    pub reset_count: u32,
    /// How often it was restarted or resumed since the last reset.
    pub restart_count: u32,
    /// Whether no greater clock was shown before.
    pub is_safe: bool,
}

/// A quote's contents, not proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    bytes: Vec<u8>,
    signer: Vec<u8>,
    extra_data: Vec<u8>,
    clock_info: ClockInfo,
    firmware_version: u64,
    selected: Selected,
    digest: Vec<u8>,
}

/// Why bytes are no quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// Cut off, or followed by something.
    #[error("the attestation is cut off or damaged")]
    Damaged,
    /// Not made in a TPM.
    #[error("it does not begin with TPM_GENERATED: no TPM has made it")]
    Magic,
    /// Something else that TPMs attest.
    #[error("it is an attestation of type 0x{0:04x}, and not of registers (TPM_ST_ATTEST_QUOTE, 0x8018)")]
    Type(u16),
    /// A bank that is not known here.
    #[error("it has registers of the hash 0x{0:04x}, which is not known here")]
    Bank(u16),
    /// A flag that is neither yes nor no.
    #[error("its clock's flag `safe` is {0}, neither 0 nor 1")]
    Flag(u8),
}

impl From<Damaged> for AttestError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl Attest {
    /// Takes a TPMS_ATTEST apart, as tpm2_quote -m writes it, or a TPM2B_ATTEST, which has its length in front.
    ///
    /// # Errors
    /// When it is no quote.
    pub fn read(bytes: &[u8]) -> Result<Self, AttestError> {
        let bytes = match bytes {
            [high, low, rest @ ..] if usize::from(u16::from_be_bytes([*high, *low])) == rest.len() => rest,
            bytes => bytes,
        };
        let mut attest = Marshalled::new(bytes);
        if attest.u32()? != MAGIC {
            return Err(AttestError::Magic);
        }
        let kind = attest.u16()?;
        if kind != QUOTE {
            return Err(AttestError::Type(kind));
        }
        let signer = attest.sized()?.to_vec();
        let extra_data = attest.sized()?.to_vec();
        let (clock, reset_count, restart_count) = (attest.u64()?, attest.u32()?, attest.u32()?);
        let is_safe = match attest.u8()? {
            0 => false,
            1 => true,
            other => return Err(AttestError::Flag(other)),
        };
        let firmware_version = attest.u64()?;
        let selected = selection(&mut attest)?;
        let digest = attest.sized()?.to_vec();
        attest.end()?;
        let clock_info = ClockInfo { clock, reset_count, restart_count, is_safe };
        Ok(Self { bytes: bytes.to_vec(), signer, extra_data, clock_info, firmware_version, selected, digest })
    }

    /// What is signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The qualified name of the key that signs (part 1, 16): it tells the key's parents, too.
    #[must_use]
    pub fn signer(&self) -> &[u8] {
        &self.signer
    }

    /// What the verifier has given for it: the nonce.
    #[must_use]
    pub fn extra_data(&self) -> &[u8] {
        &self.extra_data
    }

    /// The TPM's clock and counters. For a key outside the endorsement hierarchy the TPM changes counters and firmware version beyond recognition (part 1, 36.7).
    #[must_use]
    pub fn clock_info(&self) -> ClockInfo {
        self.clock_info
    }

    /// As the TPM's manufacturer counts.
    #[must_use]
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }

    /// Which registers are quoted.
    #[must_use]
    pub fn selected(&self) -> &Selected {
        &self.selected
    }

    /// The digest over their values.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

/// TPML_PCR_SELECTION
fn selection(attest: &mut Marshalled<'_>) -> Result<Selected, AttestError> {
    let count = attest.u32()?;
    if count > MAX_BANKS {
        return Err(AttestError::Damaged);
    }
    let mut banks = Vec::new();
    for _ in 0..count {
        let (id, size) = (attest.u16()?, attest.u8()?);
        let bits = attest.take(size.into())?;
        banks.push(PcrSelection::from_bits(id, bits).ok_or(AttestError::Bank(id))?);
    }
    Ok(Selected(banks))
}
