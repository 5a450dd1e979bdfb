//! NV indices (TCG part 3, 31): what firmware or a manufacturer left there, read in pieces of the size that the TPM takes.

use tss_esapi::constants::PropertyTag;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle as Handle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::structures::{MaxNvBuffer, NvPublic};

use crate::TpmError;
use crate::connection::live::{EMPTY_PASSWORD, Live};

/// What every TPM takes (TCG PC Client Platform TPM Profile, 3.4), where it does not tell.
const SMALLEST_BUFFER: usize = 512;

impl Live {
    /// What is told of an index, and its handle, which the caller closes; `None` where there is no such index.
    pub(super) fn nv_index(&mut self, index: u32) -> Result<Option<(NvIndexHandle, NvPublic)>, TpmError> {
        let number = NvIndexTpmHandle::new(index).map_err(|e| TpmError::of("TPM2_NV_ReadPublic", e))?;
        let found = self.context.execute_without_session(|c| c.tr_from_tpm_public(Handle::NvIndex(number)));
        let object = match found.map_err(|e| TpmError::of("TPM2_NV_ReadPublic", e)) {
            Ok(object) => object,
            // TPM_RC_HANDLE
            Err(TpmError::Command { code, .. }) if code & 0xbf == 0x8b && code >> 16 == 0 => return Ok(None),
            Err(error) => return Err(error),
        };
        let handle = NvIndexHandle::from(object);
        let told = self.context.execute_without_session(|c| c.nv_read_public(handle)).map_err(|e| TpmError::of("TPM2_NV_ReadPublic", e));
        match told {
            Ok((public, _)) => Ok(Some((handle, public))),
            Err(error) => self.close_nv(handle).and(Err(error)),
        }
    }

    pub(super) fn close_nv(&mut self, handle: NvIndexHandle) -> Result<(), TpmError> {
        self.context.tr_close(&mut ObjectHandle::from(handle)).map_err(|e| TpmError::of("closing an NV index", e))
    }

    /// How many bytes travel with one command.
    pub(super) fn nv_buffer(&mut self) -> usize {
        let told = self.property(PropertyTag::NvBufferMax).and_then(|size| usize::try_from(size).ok());
        told.filter(|size| *size > 0).unwrap_or(SMALLEST_BUFFER).min(MaxNvBuffer::MAX_SIZE)
    }

    /// All of an index, by its own authorisation value, which is known to the handle, or by the owner's.
    pub(super) fn nv_contents(&mut self, handle: NvIndexHandle, size: usize, by_owner: bool) -> Result<Vec<u8>, TpmError> {
        let piece = self.nv_buffer();
        let mut contents = Vec::with_capacity(size);
        while contents.len() < size {
            let wanted = piece.min(size - contents.len());
            let (len, offset) = (u16::try_from(wanted).unwrap_or(u16::MAX), u16::try_from(contents.len()).unwrap_or(u16::MAX));
            let read = if by_owner {
                self.as_owner("TPM2_NV_Read", |c| c.nv_read(NvAuth::Owner, handle, len, offset))?
            } else {
                let read = |c: &mut tss_esapi::Context| c.nv_read(NvAuth::NvIndex(handle), handle, len, offset);
                self.context.execute_with_session(EMPTY_PASSWORD, read).map_err(|e| TpmError::of("TPM2_NV_Read", e))?
            };
            if read.len() != wanted {
                return Err(TpmError::Contradiction("an NV index"));
            }
            contents.extend_from_slice(read.value());
        }
        Ok(contents)
    }
}
