//! TPM structures as tpm2-tools keep them in files: a 16-bit size, then the bytes (TCG part 2, TPM2B).

use tss_esapi::structures::{Private, Public};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use super::KeyFileError;

/// The contents of a TPM2B: a 16-bit size, then exactly that many bytes.
pub(crate) fn sized(blob: &[u8]) -> Option<&[u8]> {
    let (size, bytes) = blob.split_first_chunk::<2>()?;
    (usize::from(u16::from_be_bytes(*size)) == bytes.len()).then_some(bytes)
}

/// TPM2B_PUBLIC
pub(crate) fn public_from(blob: &[u8]) -> Result<Public, KeyFileError> {
    let public = sized(blob).and_then(|bytes| {
        let public = Public::unmarshall(bytes).ok()?;
        // The reader passes over what stands behind the area: then the file is not what it seems.
        public.marshall().is_ok_and(|again| again == bytes).then_some(public)
    });
    public.ok_or(KeyFileError::Public)
}

/// TPM2B_PRIVATE
pub(crate) fn private_from(blob: &[u8]) -> Result<Private, KeyFileError> {
    match sized(blob) {
        Some([]) => Err(KeyFileError::NoPrivate),
        bytes => bytes.and_then(|bytes| Private::try_from(bytes.to_vec()).ok()).ok_or(KeyFileError::Private),
    }
}

/// TPM2B_PUBLIC
pub(crate) fn public_blob(public: &Public) -> Result<Vec<u8>, KeyFileError> {
    public.marshall().map(|bytes| with_size(&bytes)).map_err(|_| KeyFileError::Public)
}

pub(crate) fn with_size(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap_or_else(|_| unreachable!("TPM structures are far smaller than 64 KiB"));
    [&size.to_be_bytes(), bytes].concat()
}
