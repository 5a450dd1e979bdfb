//! Why a server's certificate is refused, in words (RFC 5280).

use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

const OTHER_KEY: &str = "it has the name of one that is trusted here, and another key: name its CA, or the certificate itself, with --ca FILE; if that \
                         is done, the file is an older certificate, or something else than the server answers";

/// What is wrong with it, and what to do.
pub(crate) fn in_words(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("it expired on {}, and this machine's clock says {}: renew it, or set the clock", date(*not_after), date(*time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("it is valid from {} on, and this machine's clock says {}: set the clock", date(*not_before), date(*time))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().map(|name| name_of(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("it is for {names}, not for {}: use its name in the URL, or tell it with --server-name", expected.to_str())
        }
        CertificateError::UnknownIssuer => {
            "nobody who is trusted here signed it: name its CA, or the certificate itself, with --ca FILE; else something else than the server answers"
                .to_owned()
        }
        CertificateError::BadSignature => OTHER_KEY.to_owned(),
        // A key of another kind.
        other if format!("{other:?}").starts_with("UnsupportedSignatureAlgorithm") => OTHER_KEY.to_owned(),
        CertificateError::Revoked => "it is revoked".to_owned(),
        // webpki's own faults come without a type.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is a CA's (basicConstraints CA:TRUE), which a server's own must not be: make one with CA:FALSE, \
             `openssl req -x509 … -addext basicConstraints=critical,CA:FALSE`"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// Who issued it, as it says itself (RFC 4514): to name who ends TLS in between. `None` where that cannot be read.
pub(crate) fn issuer(certificate: &CertificateDer<'_>) -> Option<String> {
    let name = Certificate::from_der(certificate).ok()?.tbs_certificate().issuer().to_string();
    // It goes to terminals and logs.
    let shown: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    (!shown.is_empty()).then_some(shown)
}

/// As rustls shows them: `DnsName("a.test")`.
fn name_of(shown: &str) -> String {
    shown.split('"').nth(1).unwrap_or(shown).to_owned()
}

/// In GMT (RFC 9110 §5.6.7).
fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
