//! Attestation documents of a NitroTPM, asked for as AWS's `nitro-tpm-attest` does: the request lies in an NV index of 8 KiB, a vendor's command names that
//! index twice (who may, and where), and puts the answer into its place. Its code and the index's attributes are AWS's (NitroTPM-Tools); none is in a TCG document.

use std::cell::Cell;

use sha2::{Digest as _, Sha256};
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::structures::{Auth, Digest, MaxNvBuffer, NvPublic};

use crate::connection::device::Device;
use crate::connection::live::{EMPTY_PASSWORD, Live};
use crate::object::nsm::{NitroError, NitroRequest, document_in};
use crate::{TpmError, TpmHandle};

/// TPM2_VENDOR_AWS_NSM_REQUEST
const NSM_REQUEST: u32 = 0x2000_0001;
/// A document has almost 5 KiB, and what it is to carry may have 3.
const BUFFER: usize = 8192;
/// The owner's NV indices (TCG Registry of Reserved TPM 2.0 Handles and Localities, 2.2).
const FIRST_INDEX: u32 = 0x0180_0000;
/// How many of them are tried where others are there.
const TRIES: usize = 8;
/// The policy of our buffers, which nothing fulfils: by it, those are known that a killed process left.
const MARK: &[u8] = b"EKM-OTP NitroTPM buffer";

impl TpmHandle {
    /// An attestation document (COSE_Sign1, in CBOR) of this EC2 instance's NitroTPM. Who asks compares what it carries with what was asked for: nothing on the way
    /// is authenticated but the document itself. Defining the index is the owner's right
    /// ([`Settings::owner_password`](crate::Settings::owner_password)); it is gone afterwards.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`Nitro`](TpmError::Nitro) where this is no NitroTPM, or it refuses.
    pub async fn nitro_document(&self, request: NitroRequest) -> Result<Vec<u8>, TpmError> {
        self.run(move |device| device.nitro_document(&request.to_cbor())).await
    }
}

impl Device {
    fn nitro_document(&mut self, request: &[u8]) -> Result<Vec<u8>, TpmError> {
        if request.len() > BUFFER {
            return Err(NitroError::TooLong.into());
        }
        let raw = self.raw();
        // Where the connection broke, the index that was made through it is still there.
        let left_behind = Cell::new(None);
        self.run(|live| {
            if let Some(index) = left_behind.take() {
                live.undefine(index)?;
            }
            let mut password = [0; 32];
            getrandom::fill(&mut password).map_err(|_| TpmError::Command { operation: "asking for randomness", code: 0 })?;
            // A TPM takes zeros at the end of a password away.
            password[31] |= 1;
            let (index, handle) = live.define_buffer(&password)?;
            left_behind.set(Some(index));
            let answer = live.write_buffer(handle, request).and_then(|()| {
                let response = raw(&command(index, &password))?;
                match response.get(6..10).and_then(|code| Some(u32::from_be_bytes(code.try_into().ok()?))) {
                    Some(0) => live.nv_contents(handle, BUFFER, false),
                    // TPM_RC_COMMAND_CODE
                    Some(code) if code & 0xffff == 0x143 => Err(NitroError::NotNitro(code).into()),
                    Some(code) => Err(TpmError::Command { operation: "asking the NitroTPM", code }),
                    None => Err(NitroError::Answer.into()),
                }
            });
            let undefined = live.as_owner("TPM2_NV_UndefineSpace", |c| c.nv_undefine_space(Provision::Owner, handle));
            if undefined.is_ok() {
                left_behind.set(None);
            }
            let answer = answer?;
            undefined?;
            Ok(document_in(&answer)?)
        })
        .inspect_err(|_| {
            if let Some(index) = left_behind.get() {
                tracing::warn!("the NV index 0x{index:08x}, which was made for this, may still be in the TPM (tpm2_nvundefine)");
            }
        })
    }
}

impl Live {
    /// An index that nobody else has. Where the TPM's memory is full, what a killed process of ours left is taken away first.
    fn define_buffer(&mut self, password: &[u8]) -> Result<(u32, NvIndexHandle), TpmError> {
        match self.define_somewhere(password) {
            // TPM_RC_NV_SPACE
            Err(TpmError::Command { code: 0x14b, .. }) if self.undefine_leftovers()? > 0 => self.define_somewhere(password),
            // TPM_RC_SIZE: others' indices are smaller.
            Err(TpmError::Command { code, .. }) if code & 0xbf == 0x95 && code >> 16 == 0 => Err(NitroError::NotNitro(code).into()),
            result => result,
        }
    }

    fn define_somewhere(&mut self, password: &[u8]) -> Result<(u32, NvIndexHandle), TpmError> {
        let mut result = Err(TpmError::Contradiction("its NV indices"));
        for _ in 0..TRIES {
            let mut random = [0; 4];
            getrandom::fill(&mut random).map_err(|_| TpmError::Command { operation: "asking for randomness", code: 0 })?;
            let index = FIRST_INDEX | u32::from_be_bytes(random) & 0x003f_ffff;
            result = self.as_owner("TPM2_NV_DefineSpace", |c| {
                let attributes = NvIndexAttributesBuilder::new().with_auth_read(true).with_auth_write(true).build()?;
                let public = NvPublic::builder()
                    .with_nv_index(NvIndexTpmHandle::new(index)?)
                    .with_index_name_algorithm(HashingAlgorithm::Sha256)
                    .with_index_attributes(attributes)
                    .with_index_auth_policy(Digest::try_from(Sha256::digest(MARK).to_vec())?)
                    .with_data_area_size(BUFFER)
                    .build()?;
                c.nv_define_space(Provision::Owner, Some(Auth::try_from(password.to_vec())?), public).map(|handle| (index, handle))
            });
            // TPM_RC_NV_DEFINED: another's.
            if !matches!(result, Err(TpmError::Command { code: 0x14c, .. })) {
                break;
            }
        }
        result
    }

    fn write_buffer(&mut self, handle: NvIndexHandle, request: &[u8]) -> Result<(), TpmError> {
        let mut offset = 0_u16;
        for piece in request.chunks(self.nv_buffer()) {
            let written = self.context.execute_with_session(EMPTY_PASSWORD, |c| {
                c.nv_write(NvAuth::NvIndex(handle), handle, MaxNvBuffer::try_from(piece.to_vec())?, offset)
            });
            written.map_err(|e| TpmError::of("TPM2_NV_Write", e))?;
            offset += u16::try_from(piece.len()).unwrap_or_default();
        }
        Ok(())
    }

    fn undefine(&mut self, index: u32) -> Result<(), TpmError> {
        match self.nv_index(index)? {
            Some((handle, _)) => self.as_owner("TPM2_NV_UndefineSpace", |c| c.nv_undefine_space(Provision::Owner, handle)),
            None => Ok(()),
        }
    }

    fn undefine_leftovers(&mut self) -> Result<usize, TpmError> {
        let mut undefined = 0;
        let indices = self.handles(FIRST_INDEX)?.into_iter().map(u32::from);
        for index in indices.filter(|index| index & !0x003f_ffff == FIRST_INDEX).collect::<Vec<_>>() {
            let Some((handle, public)) = self.nv_index(index)? else { continue };
            if public.authorization_policy().value() == Sha256::digest(MARK).as_slice() {
                self.as_owner("TPM2_NV_UndefineSpace", |c| c.nv_undefine_space(Provision::Owner, handle))?;
                undefined += 1;
            } else {
                self.close_nv(handle)?;
            }
        }
        Ok(undefined)
    }
}

/// The vendor's command, with the index's password in clear (TCG part 1, 19.4): that guards the request against other programs of this machine for
/// the moment that it is there, and a document is no secret.
fn command(index: u32, password: &[u8; 32]) -> Vec<u8> {
    // TPM_RS_PW, no nonce, no attributes, the password.
    let session = [&[0x40, 0x00, 0x00, 0x09, 0, 0, 0, 0, 32][..], password].concat();
    let size = 18 + 4 + session.len();
    let mut command = vec![0x80, 0x02];
    for number in [size as u32, NSM_REQUEST, index, index, session.len() as u32] {
        command.extend_from_slice(&number.to_be_bytes());
    }
    command.extend_from_slice(&session);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_of_the_size_that_it_states_and_names_the_index_twice() {
        let command = command(0x0180_0001, &[7; 32]);
        assert_eq!(command.len(), 63);
        assert_eq!(command[..22], [0x80, 2, 0, 0, 0, 63, 0x20, 0, 0, 1, 1, 0x80, 0, 1, 1, 0x80, 0, 1, 0, 0, 0, 41]);
        assert_eq!(command[22..31], [0x40, 0, 0, 9, 0, 0, 0, 0, 32]);
    }
}
