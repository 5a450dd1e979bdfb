//! The endorsement key: its name, to be pinned; its public part; the certificates that manufacturers leave in NV indices (TCG EK Credential Profile, 2.2.1).

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::object::blob::public_blob;
use crate::object::name::hex;
use crate::object::public_key::{public_der, public_pem};
use crate::{Parent, PrimaryAlgorithm, TpmError, TpmHandle};

/// Where certificates are, and of which key (TCG EK Credential Profile 2.5, 2.2.1.4 and 2.2.1.5).
const CERTIFICATES: [(u32, &str); 9] = [
    (0x01c0_0002, "RSA 2048 (L-1)"),
    (0x01c0_000a, "ECC P-256 (L-2)"),
    (0x01c0_0012, "RSA 2048 (H-1)"),
    (0x01c0_0014, "ECC P-256 (H-2)"),
    (0x01c0_0016, "ECC P-384 (H-3)"),
    (0x01c0_0018, "ECC P-521 (H-4)"),
    (0x01c0_001a, "ECC SM2 P-256 (H-5)"),
    (0x01c0_001c, "RSA 3072 (H-6)"),
    (0x01c0_001e, "RSA 4096 (H-7)"),
];

/// A certificate of an endorsement key, as it is in the TPM. Nobody has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkCertificate {
    /// The NV index.
    pub index: u32,
    /// The key's algorithm and template, as the index tells.
    pub template: &'static str,
    /// The certificate in DER; `None` where what is there is none.
    pub certificate: Option<Vec<u8>>,
    /// How many bytes the index holds.
    pub size: usize,
}

/// The public part of an endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    /// SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) as PEM.
    pub pem: String,
    /// The same in DER.
    pub der: Vec<u8>,
    /// TPM2B_PUBLIC, as tpm2-tools keeps it in a `.pub` file.
    pub blob: Vec<u8>,
}

impl TpmHandle {
    /// The name of the TPM's endorsement key (template L-2, ECC P-256; the RSA one's where that is pinned), in hexadecimal digits: to be pinned
    /// with [`Settings::session_key_name`](crate::Settings::session_key_name).
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn ek_name(&self) -> Result<String, TpmError> {
        self.run(Device::ek_name).await
    }

    /// The endorsement key's public part (templates L-1 and L-2). That the TPM has its private part is shown by
    /// [`TpmKey::activate_credential`](crate::TpmKey::activate_credential), that it is a TPM by its certificate.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn ek_public(&self, algorithm: PrimaryAlgorithm) -> Result<EkPublic, TpmError> {
        self.run(move |device| device.run(|live| live.ek_public(algorithm))).await
    }

    /// The certificates of endorsement keys that are in the TPM. Few virtual TPMs have any.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn ek_certificates(&self) -> Result<Vec<EkCertificate>, TpmError> {
        self.run(|device| device.run(Live::ek_certificates)).await
    }
}

impl Device {
    fn ek_name(&mut self) -> Result<String, TpmError> {
        self.run(|live| live.ek_name().map(|name| hex(&name)))
    }
}

impl Live {
    fn ek_public(&mut self, algorithm: PrimaryAlgorithm) -> Result<EkPublic, TpmError> {
        let public = self.with_parent(Parent::EndorsementKey(algorithm), |_, key| Ok(key.public().clone()))?;
        let unknown = TpmError::Contradiction("the endorsement key");
        match (public_pem(&public), public_der(&public)) {
            (Some(pem), Some(der)) => Ok(EkPublic { pem, der, blob: public_blob(&public)? }),
            _ => Err(unknown),
        }
    }

    fn ek_certificates(&mut self) -> Result<Vec<EkCertificate>, TpmError> {
        let mut found = Vec::new();
        for (index, template) in CERTIFICATES {
            let Some((handle, public)) = self.nv_index(index)? else { continue };
            let (size, attributes) = (public.data_size(), public.attributes());
            // Its own authorisation value is empty, as the profile has it; where it is not, and wrong ones are counted, it is not tried.
            let by_owner = !attributes.auth_read() || !attributes.no_da() && attributes.owner_read();
            let contents = if attributes.written() { self.nv_contents(handle, size, by_owner) } else { Ok(Vec::new()) };
            let closed = self.close_nv(handle);
            let contents = contents?;
            closed?;
            found.push(EkCertificate { index, template, certificate: certificate_in(&contents), size });
        }
        Ok(found)
    }
}

/// A DER sequence (X.690, 8.9) at the beginning; some indices are longer than the certificate in them.
fn certificate_in(contents: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = contents.split_first_chunk::<4>()?;
    let [0x30, 0x82, high, low] = header else { return None };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    rest.get(..len).map(|body| [header, body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_where_it_says_and_not_where_the_index_does() {
        let whole = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(certificate_in(&whole), Some(whole.clone()));
        assert_eq!(certificate_in(&[&whole[..], &[0xff; 99]].concat()), Some(whole.clone()));
        for faulty in [&whole[..259], &[0xff; 300], &[], &[0x30, 0x82, 0xff]] {
            assert_eq!(certificate_in(faulty), None);
        }
    }
}
