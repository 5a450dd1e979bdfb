//! What a certificate says of itself (RFC 5280): its dates, and the names that it is good for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName as TlsName};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::BasicConstraints;

/// Of a chain's first certificate, the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// How long a certificate may still be good for without anyone being told.
pub(crate) const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The dates of a certificate, where it can be read so far.
pub(crate) fn dates(certificate: &CertificateDer<'_>) -> Option<Dates> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let at = |time: x509_cert::time::Time| UNIX_EPOCH.checked_add(time.to_unix_duration());
    Some(Dates { not_before: at(validity.not_before)?, not_after: at(validity.not_after)? })
}

/// Whether a client that asks for `host` takes this certificate for it, as rustls and browsers look at it (RFC 9525): subjectAltName only, a `*`
/// stands for one label.
pub(crate) fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(name) = TlsName::try_from(host) else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

/// The place in the chain, from 1 on, of the first certificate that was not issued by the one behind it.
pub(crate) fn first_gap(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let read = |der: &CertificateDer<'_>| x509_cert::Certificate::from_der(der).ok();
    let pairs = chain.iter().zip(chain.iter().skip(1)).map(|(a, b)| read(a).zip(read(b)));
    let is_whole = |pair: Option<(x509_cert::Certificate, x509_cert::Certificate)>| {
        // What cannot be read is not judged.
        pair.is_none_or(|(issued, issuer)| issued.tbs_certificate().issuer() == issuer.tbs_certificate().subject())
    };
    pairs.map(is_whole).position(|is_whole| !is_whole).map(|at| at + 1)
}

/// Whether it says that it is a CA's: as a server's own, clients refuse it.
pub(crate) fn is_a_cas(certificate: &CertificateDer<'_>) -> bool {
    let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else { return false };
    certificate.tbs_certificate().get_extension::<BasicConstraints>().is_ok_and(|found| found.is_some_and(|(_, it)| it.ca))
}

/// A time as people and programs read it: 2027-01-31T12:00:00Z.
pub(crate) fn shown(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| "a time that cannot be written".to_owned())
}
