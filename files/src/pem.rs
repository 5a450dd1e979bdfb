//! PEM as the world writes it (RFC 7468 §3, the lax reading): text around the blocks, any line length, CRLF, indented, glued together, with a byte
//! order mark. Each BEGIN mark comes to a block or to an error: nothing is passed over in silence.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";

const LAX: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// One block. Wiped when dropped: it may be a private key.
pub struct Block {
    /// Such as `CERTIFICATE`.
    pub label: String,
    /// What is in it, DER as a rule.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Why a file is not what it is wanted for. Shows labels, and nothing of what they stand for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// DER.
    #[error("it is DER, and PEM is wanted: openssl x509 -inform der (a certificate) or openssl pkey -inform der (a key) writes it so")]
    Der,
    /// No BEGIN mark.
    #[error("it holds no PEM block (-----BEGIN …-----)")]
    None,
    /// A BEGIN mark without its END mark.
    #[error("block {number}, {label}, has no END mark of its own: the file is cut off, or two are mixed up")]
    Open {
        /// The block's label.
        label: String,
        /// Counted from 1.
        number: usize,
    },
    /// What stands between the marks is not base64, or the label is not printable ASCII.
    #[error("block {number}, {label}, is damaged: it is not base64, or its label is none")]
    Damaged {
        /// The block's label.
        label: String,
        /// Counted from 1.
        number: usize,
    },
    /// A private key that a password protects.
    #[error("the private key is encrypted: decrypt it where nobody reads along (openssl pkey -in FILE -out NEW, in a folder of your own)")]
    Encrypted,
    /// Certificates with OpenSSL's own trust settings.
    #[error("it holds a TRUSTED CERTIFICATE, which is OpenSSL's own form: openssl x509 -in FILE -out NEW writes a plain one")]
    Trusted,
    /// Not what is wanted.
    #[error("it holds no {wanted}, but {found}")]
    Other {
        /// What is wanted.
        wanted: &'static str,
        /// The labels that are there.
        found: String,
    },
    /// More than one private key.
    #[error("it holds {0} private keys, and one is wanted")]
    Keys(usize),
}

/// All blocks of a file, in order.
///
/// # Errors
/// When there is none, or one that is not whole.
pub fn blocks(file: &[u8]) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut rest = file;
    while let Some(begin) = find(rest, BEGIN) {
        let number = blocks.len() + 1;
        rest = &rest[begin + BEGIN.len()..];
        let label_end = find(rest, DASHES).ok_or_else(|| PemError::Open { label: "?".to_owned(), number })?;
        let label = &rest[..label_end];
        // Printable ASCII (RFC 7468 §3, labelchar): what only looks like a label is none.
        let is_label = label.len() <= 64 && label.iter().all(|byte| (b' '..=b'~').contains(byte));
        let label: String = String::from_utf8_lossy(label).chars().filter(|c| !c.is_control()).take(64).collect();
        if !is_label {
            return Err(PemError::Damaged { label, number });
        }
        rest = &rest[label_end + DASHES.len()..];
        let end = [b"-----END ", label.as_bytes(), DASHES].concat();
        let body_end = find(rest, &end).ok_or_else(|| PemError::Open { label: label.clone(), number })?;
        let body = &rest[..body_end];
        if find(body, BEGIN).is_some() {
            return Err(PemError::Open { label, number });
        }
        // Header fields (RFC 1421) are those of an encrypted key.
        if find(body, b"ENCRYPTED").is_some_and(|_| body.contains(&b':')) {
            return Err(PemError::Encrypted);
        }
        let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
        text.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let bytes = LAX.decode(&*text).map(Zeroizing::new).map_err(|_| PemError::Damaged { label: label.clone(), number })?;
        blocks.push(Block { label, bytes });
        // Its last dashes may be the first ones of a block that is glued to it.
        rest = &rest[body_end + end.len() - DASHES.len()..];
    }
    match blocks.is_empty() {
        true if is_der(file) => Err(PemError::Der),
        true => Err(PemError::None),
        false => Ok(blocks),
    }
}

/// A SEQUENCE: in the long form, with which no text begins, or in the short one, as small EC keys have it.
fn is_der(file: &[u8]) -> bool {
    match file {
        [0x30, 0x81 | 0x82, ..] => true,
        [0x30, len @ ..=0x7f, content @ ..] => content.len() == usize::from(*len),
        _ => false,
    }
}

/// The certificates of a file. Other blocks, such as the private key beside its certificate, are not looked at.
///
/// # Errors
/// When there is none, or a block is not whole.
pub fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let blocks = blocks(file)?;
    if blocks.iter().any(|block| block.label == "TRUSTED CERTIFICATE") {
        return Err(PemError::Trusted);
    }
    let certificates = blocks.iter().filter(|block| ["CERTIFICATE", "X509 CERTIFICATE"].contains(&block.label.as_str()));
    let certificates: Vec<_> = certificates.map(|block| CertificateDer::from(block.bytes.to_vec())).collect();
    if certificates.is_empty() { Err(other("certificate", &blocks)) } else { Ok(certificates) }
}

/// The one private key of a file (PKCS#8, PKCS#1, SEC 1), whatever stands beside it.
///
/// # Errors
/// When there is none, more than one, or it is encrypted.
pub fn private_key(file: &[u8]) -> Result<Block, PemError> {
    let mut blocks = blocks(file)?;
    if blocks.iter().any(|block| block.label == "ENCRYPTED PRIVATE KEY") {
        return Err(PemError::Encrypted);
    }
    let is_key = |block: &Block| ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"].contains(&block.label.as_str());
    match blocks.iter().filter(|block| is_key(block)).count() {
        0 => Err(other("private key", &blocks)),
        1 => blocks.iter().position(is_key).map(|i| blocks.swap_remove(i)).ok_or(PemError::None),
        n => Err(PemError::Keys(n)),
    }
}

/// The same, for a TLS stack.
///
/// # Errors
/// As [`private_key`].
pub fn tls_key(file: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let block = private_key(file)?;
    let der = block.bytes.to_vec();
    Ok(match block.label.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    })
}

/// Writes one block (RFC 7468 §2).
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    // Base64: all ASCII.
    let lines = (0..encoded.len()).step_by(64).filter_map(|at| encoded.get(at..encoded.len().min(at + 64)));
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.collect::<Vec<_>>().join("\n"))
}

fn other(wanted: &'static str, blocks: &[Block]) -> PemError {
    let labels: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
    PemError::Other { wanted, found: labels.join(", ") }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
