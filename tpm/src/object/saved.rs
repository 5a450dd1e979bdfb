//! A primary's context, as it is kept in a file (TPM2_ContextSave; TCG part 1, 30). What the TPM put into it is encrypted and authenticated by the
//! TPM. What the C library put around it, the public area and the name, is not, and decides whom a session is salted to: so it is read
//! here, byte for byte, before the library sees it.

use tss_esapi::structures::Public;
use tss_esapi::tss2_esys::{TPM2B_CONTEXT_DATA, TPMS_CONTEXT};
use tss_esapi::utils::TpmsContext;

use super::blob::{public_blob, public_from, sized};
use super::name::name_of;

/// A primary's context, and the public area that the C library will take to be its.
#[derive(Clone, Debug)]
pub(crate) struct SavedPrimary {
    context: TpmsContext,
    public: Public,
}

impl SavedPrimary {
    /// What TPM2_ContextSave answered. `None` where the library writes it otherwise than is known here.
    pub(crate) fn new(context: TpmsContext) -> Option<Self> {
        let public = public_in(context.context_blob())?;
        Some(Self { context, public })
    }

    pub(crate) fn context(&self) -> TpmsContext {
        self.context.clone()
    }

    pub(crate) fn public(&self) -> &Public {
        &self.public
    }

    /// sequence, savedHandle, hierarchy (TCG part 2, 14.5), then the blob to the end.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk()?;
        let (saved_handle, rest) = rest.split_first_chunk()?;
        let (hierarchy, blob) = rest.split_first_chunk()?;
        let mut context_blob = TPM2B_CONTEXT_DATA { size: u16::try_from(blob.len()).ok()?, ..Default::default() };
        context_blob.buffer.get_mut(..blob.len())?.copy_from_slice(blob);
        let context = TPMS_CONTEXT {
            sequence: u64::from_be_bytes(*sequence),
            savedHandle: u32::from_be_bytes(*saved_handle),
            hierarchy: u32::from_be_bytes(*hierarchy),
            contextBlob: context_blob,
        };
        Self::new(TpmsContext::try_from(context).ok()?)
    }

    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        let context = TPMS_CONTEXT::try_from(self.context.clone()).ok()?;
        let [sequence, saved_handle, hierarchy] =
            [&context.sequence.to_be_bytes()[..], &context.savedHandle.to_be_bytes(), &context.hierarchy.to_be_bytes()];
        Some([sequence, saved_handle, hierarchy, self.context.context_blob()].concat())
    }
}

/// The library's envelope (tpm2-tss, IESYS_CONTEXT_DATA and IESYS_RESOURCE): four bytes that are zero, the TPM's blob behind its size, two
/// bytes that are zero, a transient handle, the name, the type 1 (an object), the public area. Nothing else, and the name must be the area's.
fn public_in(blob: &[u8]) -> Option<Public> {
    let rest = blob.strip_prefix(&[0; 4])?;
    let (_, rest) = split_sized(rest)?;
    let rest = rest.strip_prefix(&[0; 2])?;
    let (handle, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = split_sized(rest)?;
    let public = public_from(rest.strip_prefix(&[0, 0, 0, 1])?).ok()?;
    (handle[0] == 0x80 && name_of(&public)? == name && public_blob(&public).ok()? == rest[4..]).then_some(public)
}

/// A TPM2B's contents, and what follows it.
fn split_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    let (these, rest) = bytes.split_at_checked(2 + size)?;
    Some((sized(these)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::blob::with_size;
    use crate::object::template::{h2_parent, tools_parent};
    use crate::{PrimaryAlgorithm, object::name::hex};

    fn saved(public: &Public) -> Vec<u8> {
        let header = [&7_u64.to_be_bytes()[..], &[0x80, 0, 0, 0], &[0x40, 0, 0, 1]].concat();
        let envelope = [&[0; 4][..], &with_size(b"what the TPM encrypted"), &[0, 0, 0x80, 0, 0, 0]].concat();
        let name = with_size(&name_of(public).expect("a name"));
        [header, envelope, name, vec![0, 0, 0, 1], public_blob(public).expect("a blob")].concat()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for public in [h2_parent(), tools_parent(PrimaryAlgorithm::Rsa)].map(|made| made.expect("a template")) {
            let bytes = saved(&public);
            let read = SavedPrimary::from_bytes(&bytes).expect("a saved primary");
            assert_eq!(*read.public(), public);
            assert_eq!(read.to_bytes().expect("bytes"), bytes);
        }
    }

    #[test]
    fn one_that_is_cut_lengthened_or_changed_around_what_the_tpm_made_is_refused() {
        let public = h2_parent().expect("a template");
        let bytes = saved(&public);
        for len in 0..bytes.len() {
            assert!(SavedPrimary::from_bytes(&bytes[..len]).is_none(), "{len} bytes");
        }
        assert!(SavedPrimary::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
        // The header and the TPM's part are the TPM's to judge, and so is which transient handle it had.
        let of_tpm = 16 + 4..16 + 4 + 2 + b"what the TPM encrypted".len();
        let handle = of_tpm.end + 3..of_tpm.end + 6;
        for i in (16..bytes.len()).filter(|i| !of_tpm.contains(i) && !handle.contains(i)) {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            assert!(SavedPrimary::from_bytes(&changed).is_none(), "byte {i} of {}", hex(&changed));
        }
    }
}
