//! Certificate chains (RFC 5280 §6) to a root that is believed, by rustls-webpki: signatures, names, basic constraints, path lengths, name constraints and
//! key usage. Validity is looked at here first, so that the certificate that has ended can be named, and the root's too, which a trust anchor has not by
//! itself. Nothing is asked of the network, so nothing is known of revocation.

use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, VerifiedPath,
    anchor_from_trusted_cert,
};
use x509_cert::der::{Decode as _, ErrorKind};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage as KeyUsageBits};
use x509_cert::time::Time;

use crate::root::Root;

/// The most certificates between leaf and root that are looked at.
const MAX_INTERMEDIATES: usize = 8;

/// tcg-kp-EKCertificate and tcg-kp-AIKCertificate (TCG EK Credential Profile, 3.2.16), as content of an OBJECT IDENTIFIER.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
const AK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x03];

/// What the certificates may be used for, where they say so (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// To sign documents: Nitro's say nothing.
    Nitro,
    /// An attestation key of a TPM, which signs.
    Attestation,
    /// An endorsement key of a TPM, which decrypts.
    Endorsement,
}

/// Why a chain does not lead to the root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// One of them cannot be read.
    #[error("{which} cannot be read: {why}")]
    Damaged {
        /// Which certificate.
        which: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its time has not come.
    #[error("{which} is valid only from {from}")]
    NotYetValid {
        /// Which certificate.
        which: String,
        /// UTC.
        from: String,
    },
    /// Its time is over.
    #[error("{which} was valid until {until}: give the time at which it was presented (--at), or have it made anew")]
    Expired {
        /// Which certificate.
        which: String,
        /// UTC.
        until: String,
    },
    /// Too many.
    #[error("the chain has {0} certificates between leaf and root, and at most {MAX_INTERMEDIATES} are looked at")]
    Long(usize),
    /// A signature, a name, a constraint.
    #[error("the certificates do not lead to the root: {0}")]
    NotIssued(String),
    /// There is more in it than leads to the root, or in another order.
    #[error("the chain is not the one from root to leaf, in order and nothing besides")]
    Order,
}

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, present: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Nitro => KeyUsage::client_auth().validate(present),
            Self::Attestation | Self::Endorsement => {
                let required = KeyUsage::required_if_present(EK_CERTIFICATE);
                let mut others = Vec::new();
                for id in present {
                    let id = id?;
                    if [EK_CERTIFICATE, AK_CERTIFICATE].into_iter().any(|wanted| id == KeyPurposeId::new(wanted)) {
                        return Ok(());
                    }
                    others.push(id.to_decoded_oid());
                }
                match others.is_empty() {
                    true => Ok(()),
                    false => Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present: others })),
                }
            }
        }
    }
}

/// The library's words, for people.
fn not_issued(error: webpki::Error) -> ChainError {
    use webpki::Error as E;
    ChainError::NotIssued(match error {
        E::UnknownIssuer => "none of them, nor the root, has the name and key that another one names as its issuer".to_owned(),
        E::InvalidSignatureForPublicKey => "a certificate is not signed by the key of the one that is named as its issuer".to_owned(),
        E::CertExpired { .. } | E::CertNotValidYet { .. } => "one of them is not valid at this time".to_owned(),
        E::CaUsedAsEndEntity => "the leaf is a CA's".to_owned(),
        E::EndEntityUsedAsCa => "a certificate that is no CA's, or of a CA that may not do so, has issued another".to_owned(),
        E::PathLenConstraintViolated => "there are more CAs in it than one of them allows (path length)".to_owned(),
        E::NameConstraintViolation => "one of them has a name that a CA may not give (name constraints)".to_owned(),
        E::RequiredEkuNotFoundContext(_) => "one of them may not be used for this (extended key usage)".to_owned(),
        other => format!("{other:?}"),
    })
}

/// A chain, as it is presented: the leaf, and what leads from it to a root, the leaf's issuer first.
pub(crate) struct Chain<'a> {
    pub(crate) leaf: &'a [u8],
    pub(crate) intermediates: Vec<&'a [u8]>,
}

impl Chain<'_> {
    /// Whether it leads to one of these roots, at this time, with whichever of its intermediates.
    pub(crate) fn must_lead_to(&self, roots: &[Root], at: SystemTime, usage: Usage) -> Result<Root, ChainError> {
        self.verify(roots, at, usage, false)
    }

    /// The same, with each of its intermediates in turn.
    pub(crate) fn must_be_the_one_to(&self, root: &Root, at: SystemTime, usage: Usage) -> Result<(), ChainError> {
        self.verify(std::slice::from_ref(root), at, usage, true).map(|_| ())
    }

    fn verify(&self, roots: &[Root], at: SystemTime, usage: Usage, is_exact: bool) -> Result<Root, ChainError> {
        if self.intermediates.len() > MAX_INTERMEDIATES {
            return Err(ChainError::Long(self.intermediates.len()));
        }
        must_be_valid(self.leaf, || "the leaf certificate".to_owned(), at)?;
        if usage != Usage::Endorsement {
            may_sign(self.leaf)?;
        }
        if is_exact {
            for (i, der) in self.intermediates.iter().enumerate() {
                must_be_valid(der, || format!("certificate {} above the leaf", i + 1), at)?;
            }
        }
        let leaf_der = CertificateDer::from(self.leaf);
        let intermediates: Vec<_> = self.intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(not_issued)?;
        let time = at.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| ChainError::NotIssued("the time is before 1970".to_owned()))?;
        let mut last = None;
        for root in roots {
            let root_der = CertificateDer::from(root.as_der());
            let anchor = anchor_from_trusted_cert(&root_der).map_err(not_issued)?;
            let path = leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&anchor),
                &intermediates,
                UnixTime::since_unix_epoch(time),
                usage,
                None,
                Some(&|path| may_issue(path, root.as_der()).map_err(|_| webpki::Error::EndEntityUsedAsCa)),
            );
            match path {
                Ok(path) => {
                    must_be_valid(root.as_der(), || "the root".to_owned(), at)?;
                    let taken = path.intermediate_certificates().map(|certificate| certificate.der().to_vec());
                    return match is_exact && !taken.eq(self.intermediates.iter().map(|der| der.to_vec())) {
                        true => Err(ChainError::Order),
                        false => Ok(root.clone()),
                    };
                }
                Err(e) => last = Some(not_issued(e)),
            }
        }
        Err(last.unwrap_or_else(|| ChainError::NotIssued("no root is given".to_owned())))
    }
}

/// Both ends belong to it (RFC 5280 §4.1.2.5).
fn must_be_valid(der: &[u8], which: impl Fn() -> String, at: SystemTime) -> Result<(), ChainError> {
    let certificate = x509_cert::Certificate::from_der(der).map_err(|e| ChainError::Damaged { which: which(), why: e.to_string() })?;
    let validity = certificate.tbs_certificate().validity();
    let of = |time: &Time| SystemTime::UNIX_EPOCH + time.to_unix_duration();
    let is_before = |time: &Time| at < of(time);
    let is_after = |time: &Time| at.duration_since(of(time)).is_ok_and(|over| over.as_secs() > 0);
    match () {
        () if is_before(&validity.not_before) => Err(ChainError::NotYetValid { which: which(), from: validity.not_before.to_string() }),
        () if is_after(&validity.not_after) => Err(ChainError::Expired { which: which(), until: validity.not_after.to_string() }),
        () => Ok(()),
    }
}

/// What rustls-webpki does not look at: whether the CAs' keys may sign certificates (RFC 5280 §4.2.1.3), where they say what they may; and how many may come below the
/// root (§4.2.1.9).
fn may_issue(path: &VerifiedPath<'_>, root: &[u8]) -> Result<(), x509_cert::der::Error> {
    let may_sign = |certificate: &x509_cert::Certificate| -> Result<(), x509_cert::der::Error> {
        let usage = certificate.tbs_certificate().get_extension::<KeyUsageBits>()?;
        if usage.is_none_or(|(_, usage)| usage.key_cert_sign()) { Ok(()) } else { Err(ErrorKind::Failed.into()) }
    };
    let mut between = 0;
    for certificate in path.intermediate_certificates() {
        may_sign(&x509_cert::Certificate::from_der(&certificate.der())?)?;
        between += 1;
    }
    let root = x509_cert::Certificate::from_der(root)?;
    may_sign(&root)?;
    let constraints = root.tbs_certificate().get_extension::<BasicConstraints>()?;
    match constraints.and_then(|(_, constraints)| constraints.path_len_constraint) {
        Some(most) if between > usize::from(most) => Err(ErrorKind::Failed.into()),
        _ => Ok(()),
    }
}

/// Whether the leaf's key may sign what is no certificate, where it says what it may.
fn may_sign(leaf: &[u8]) -> Result<(), ChainError> {
    let usage = x509_cert::Certificate::from_der(leaf).and_then(|leaf| leaf.tbs_certificate().get_extension::<KeyUsageBits>());
    match usage {
        Ok(usage) if usage.is_none_or(|(_, usage)| usage.digital_signature()) => Ok(()),
        Ok(_) => Err(ChainError::NotIssued("the leaf's key may not sign (key usage)".to_owned())),
        Err(e) => Err(ChainError::Damaged { which: "the leaf certificate".to_owned(), why: e.to_string() }),
    }
}
