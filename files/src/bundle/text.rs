//! A bundle as text: lines for people, then one armoured piece (RFC 7468's look).

use std::io::{Read as _, Write as _};
use std::iter;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::scrypt::{Identity, Recipient};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::content::MOST;
use super::passphrase::{Passphrase, as_meant};
use super::{Bundle, BundleError, BundleSecret};
use crate::pem;

const AGE: &str = "AGE ENCRYPTED FILE";
const PLAIN: &str = "EKM-OTP BUNDLE";
/// More than any bundle has.
const LONGEST: usize = 256 * 1024;
/// The most work that is done to open one, as a power of two: 1 GiB of memory, some seconds.
const MOST_WORK: u8 = 20;

/// A bundle's text, and what it is known by.
#[derive(Clone, Debug)]
pub struct Written {
    /// The file.
    pub text: String,
    /// 32 hexadecimal digits.
    pub fingerprint: String,
}

/// A bundle that was read.
#[derive(Debug)]
#[non_exhaustive]
pub enum BundleFile {
    /// Under a passphrase.
    Sealed(SealedBundle),
    /// In the open; its secret is wrapped to a TPM. Whoever knows that TPM's storage key may have made it: it is to be known by its fingerprint.
    Wrapped {
        /// What it says.
        bundle: Box<Bundle>,
        /// 32 hexadecimal digits.
        fingerprint: String,
    },
}

/// A bundle under a passphrase, not opened yet: nothing is known of it.
#[derive(Debug)]
pub struct SealedBundle {
    armoured: String,
}

/// Seals all of a bundle with a passphrase (age v1, scrypt). `about` goes before it, line by line, for people.
///
/// # Errors
/// When the bundle is too long, or there is no randomness.
pub fn seal(bundle: &Bundle, passphrase: &Passphrase, about: &[String]) -> Result<Written, BundleError> {
    let json = bundle.to_json()?;
    let failed = |e: &dyn std::fmt::Display| BundleError::Seal(e.to_string());
    let mut recipient = Recipient::new(SecretString::from(passphrase.expose()));
    recipient.set_work_factor(passphrase.work());
    let encryptor = Encryptor::with_recipients(iter::once(&recipient as _)).map_err(|e| failed(&e))?;
    let armour = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(|e| failed(&e))?;
    let mut writer = encryptor.wrap_output(armour).map_err(|e| failed(&e))?;
    writer.write_all(&json).map_err(|e| failed(&e))?;
    let armoured = writer.finish().and_then(ArmoredWriter::finish).map_err(|e| failed(&e))?;
    let armoured = String::from_utf8(armoured).map_err(|e| failed(&e))?;
    Ok(Written { text: text(about, armoured.trim_end()), fingerprint: fingerprint(&json) })
}

/// Writes a bundle whose secret is wrapped to a TPM, in the open.
///
/// # Errors
/// When its secret is not wrapped, or the bundle is too long.
pub fn write_wrapped(bundle: &Bundle, about: &[String]) -> Result<Written, BundleError> {
    if !matches!(bundle.secret, BundleSecret::Wrapped { .. }) {
        return Err(BundleError::Unsealed);
    }
    let json = bundle.to_json()?;
    let armoured = pem::encode(PLAIN, &json);
    Ok(Written { text: text(about, armoured.trim_end()), fingerprint: fingerprint(&json) })
}

/// Control characters in what somebody called a client must not make a line of their own.
fn text(about: &[String], armoured: &str) -> String {
    let line = |line: &String| format!("# {}\n", line.replace(|c: char| c.is_control(), "\u{fffd}"));
    about.iter().map(line).collect::<String>() + armoured + "\n"
}

fn fingerprint(json: &[u8]) -> String {
    Sha256::digest(json)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Finds the bundle in a text, such as a saved mail.
///
/// # Errors
/// When there is none, or it is not whole.
pub fn read(text: &str) -> Result<BundleFile, BundleError> {
    if text.len() > LONGEST {
        return Err(BundleError::TooLong(LONGEST));
    }
    match (piece(text, AGE)?, piece(text, PLAIN)?) {
        (Some(armoured), None) => Ok(BundleFile::Sealed(SealedBundle { armoured })),
        (None, Some(armoured)) => {
            let body: String = armoured.lines().filter(|line| !line.starts_with("-----")).collect();
            let json = Zeroizing::new(STANDARD.decode(body).map_err(|_| BundleError::Damaged)?);
            let bundle = Bundle::from_json(&json)?;
            match bundle.secret {
                BundleSecret::Clear(_) => Err(BundleError::Unsealed),
                BundleSecret::Wrapped { .. } => Ok(BundleFile::Wrapped { bundle: Box::new(bundle), fingerprint: fingerprint(&json) }),
            }
        }
        (None, None) => Err(BundleError::None),
        // Which of the two is meant?
        (Some(_), Some(_)) => Err(BundleError::Damaged),
    }
}

/// The piece of this label, its lines as they were before a mail program ended them otherwise.
fn piece(text: &str, label: &str) -> Result<Option<String>, BundleError> {
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} {label}-----"));
    let Some(at) = text.find(&begin) else { return Ok(None) };
    let length = text[at..].find(&end).ok_or(BundleError::Damaged)? + end.len();
    if text[at + length..].contains(&begin) {
        return Err(BundleError::Damaged);
    }
    let lines: Vec<&str> = text[at..at + length].lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok(Some(lines.join("\n") + "\n"))
}

impl SealedBundle {
    /// Opens it. That it opens says that whoever made it knew the passphrase.
    ///
    /// # Errors
    /// When the passphrase is wrong, the work to open it is too much, or something in it was changed.
    pub fn open(&self, passphrase: &str) -> Result<Bundle, BundleError> {
        let mut identity = Identity::new(SecretString::from(as_meant(passphrase).as_str()));
        identity.set_max_work_factor(MOST_WORK);
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(self.armoured.as_bytes())).map_err(|_| BundleError::Damaged)?;
        let reader = decryptor.decrypt(iter::once(&identity as _)).map_err(|e| match e {
            DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => BundleError::WrongPassphrase,
            DecryptError::ExcessiveWork { required, .. } => BundleError::Work { required, most: MOST_WORK },
            _ => BundleError::Damaged,
        })?;
        let mut json = Zeroizing::new(Vec::with_capacity(MOST + 1));
        reader.take(MOST as u64 + 1).read_to_end(&mut json).map_err(|_| BundleError::Damaged)?;
        if json.len() > MOST { Err(BundleError::TooLong(MOST)) } else { Bundle::from_json(&json) }
    }
}
