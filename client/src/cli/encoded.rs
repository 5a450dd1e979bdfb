//! Bytes in a file or in an argument, in whichever form they come: as they are, in base64, or in hexadecimal digits.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::error::CliError;
use super::secret_file::unhex;
use super::shown::shown;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);

/// Reads a file of at most `limit` bytes; `-` is standard input.
pub(super) async fn read(path: &Path, limit: usize) -> Result<Vec<u8>, CliError> {
    let path = path.to_owned();
    // Standard input may never end: a signal must still be heard.
    let reading = tokio::task::spawn_blocking(move || read_blocking(&path, limit));
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading failed: {e}"))))
}

fn read_blocking(path: &Path, limit: usize) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    // One more: what is longer is refused, not cut off.
    let most = limit as u64 + 1;
    let (read, name) = if path == Path::new("-") {
        (std::io::stdin().take(most).read_to_end(&mut bytes), "standard input".to_owned())
    } else {
        let file = File::open(path).map_err(|e| CliError::io("open", path, &e))?;
        (file.take(most).read_to_end(&mut bytes), shown(path))
    };
    read.map_err(|e| CliError::io("read", path, &e))?;
    if bytes.len() > limit { Err(CliError::Usage(format!("{name} has more than {limit} bytes"))) } else { Ok(bytes) }
}

/// What bytes are in hexadecimal digits or base64 (either alphabet) stand for; others stand for themselves. What begins as CBOR, ASN.1 or a TPM's structure is no
/// text, so that nothing of these is taken for one.
pub(super) fn decoded(bytes: Vec<u8>) -> Vec<u8> {
    let word: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let text = match std::str::from_utf8(&word) {
        Ok(text) if !text.is_empty() && text.is_ascii() => text,
        _ => return bytes,
    };
    let of_hex = || unhex(text.strip_prefix("0x").unwrap_or(text));
    of_hex().or_else(|| STANDARD.decode(text).ok()).or_else(|| URL_SAFE.decode(text).ok()).unwrap_or(bytes)
}

/// Bytes as an argument: hexadecimal digits, or the name of a file that holds them as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HexOrFile {
    Hex(Vec<u8>),
    File(PathBuf),
}

/// Digits are digits, even where a file has such a name: `./abcd` names it.
pub(super) fn hex_or_file(text: &str) -> Result<HexOrFile, String> {
    match unhex(text) {
        _ if text.is_empty() => Err("neither hexadecimal digits nor a file".to_owned()),
        Some(bytes) => Ok(HexOrFile::Hex(bytes)),
        None => Ok(HexOrFile::File(text.into())),
    }
}

impl HexOrFile {
    /// A file that holds nothing is refused: nothing is what everybody could have chosen.
    pub(super) async fn read(&self, limit: usize) -> Result<Vec<u8>, CliError> {
        let path = match self {
            Self::Hex(bytes) if bytes.len() > limit => {
                return Err(CliError::Usage(format!("more than {limit} bytes in hexadecimal digits")));
            }
            Self::Hex(bytes) => return Ok(bytes.clone()),
            Self::File(path) => path,
        };
        if path != Path::new("-") && std::fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            return Err(CliError::Usage(format!("{}: neither hexadecimal digits (two for each byte) nor a file", shown(path))));
        }
        let bytes = read(path, limit).await?;
        if bytes.is_empty() { Err(CliError::Usage(format!("{} holds nothing", shown(path)))) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_in_each_form() {
        let bytes = vec![0x84, 0x44, 0xa1, 0x01, 0xff, 0xfe];
        for text in
            [&b"8444a101fffe"[..], b"8444A101FFFE\n", b"0x8444a101fffe", b"84 44 a1\n01 ff fe\n", b"hEShAf/+", b"hESh\nAf/+\n", b"hEShAf_-"]
        {
            assert_eq!(decoded(text.to_vec()), bytes, "{}", String::from_utf8_lossy(text));
        }
        for other in [&bytes[..], b"", b"-----BEGIN", b"\xc3\xa4", b"not base64!"] {
            assert_eq!(decoded(other.to_vec()), other);
        }
    }

    #[test]
    fn an_argument_is_hexadecimal_digits_or_a_file() {
        assert_eq!(hex_or_file("00fF"), Ok(HexOrFile::Hex(vec![0, 0xff])));
        for file in ["00f", "./00ff", "nonce.bin", "-"] {
            assert_eq!(hex_or_file(file), Ok(HexOrFile::File(file.into())));
        }
        assert!(hex_or_file("").is_err());
    }
}
