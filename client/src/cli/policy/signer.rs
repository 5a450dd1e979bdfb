//! Keys of OpenSSL's that sign policies, and what policies call them by.

use std::fmt;
use std::path::Path;

use ekm_otp_tpm::{PolicySigner, SignatureScheme, VerifyingKey};
use openssl::pkey::{Id, PKey, Private};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;
use openssl::sign::RsaPssSaltlen;

use crate::cli::error::CliError;
use crate::cli::secret_file::read_private;
use crate::cli::shown::shown;

/// A private key in a file.
pub(in crate::cli) struct PrivateKeyFile {
    key: PKey<Private>,
    public: String,
}

impl fmt::Debug for PrivateKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeyFile").finish_non_exhaustive()
    }
}

impl PrivateKeyFile {
    /// Reads PEM that is not encrypted, from a file that nobody else can read.
    pub(in crate::cli) fn read(path: &Path) -> Result<Self, CliError> {
        let bytes = read_private(path, "a private key", 64 * 1024)?;
        let wrong = |_| CliError::Usage(format!("{}: it is no private key in PEM, or is encrypted", shown(path)));
        // Without the callback OpenSSL would ask at the terminal.
        let key = PKey::private_key_from_pem_callback(&bytes, |_| Ok(0)).map_err(wrong)?;
        let public = key.public_key_to_pem().map_err(wrong)?;
        let public = String::from_utf8(public).map_err(|_| CliError::Other("OpenSSL wrote a public key that is no text".into()))?;
        Ok(Self { key, public })
    }

    /// The scheme that is usual for it.
    pub(in crate::cli) fn scheme(&self) -> SignatureScheme {
        if self.key.id() == Id::EC { SignatureScheme::Ecdsa } else { SignatureScheme::RsaSsa }
    }
}

impl PolicySigner for PrivateKeyFile {
    fn public_pem(&self) -> &str {
        &self.public
    }

    fn sign(&self, scheme: SignatureScheme, digest: &[u8; 32]) -> Result<Vec<u8>, String> {
        let signed = || -> Result<Vec<u8>, openssl::error::ErrorStack> {
            let mut context = PkeyCtx::new(&self.key)?;
            context.sign_init()?;
            if scheme != SignatureScheme::Ecdsa {
                context.set_rsa_padding(if scheme == SignatureScheme::RsaPss { Padding::PKCS1_PSS } else { Padding::PKCS1 })?;
            }
            context.set_signature_md(openssl::md::Md::sha256())?;
            if scheme == SignatureScheme::RsaPss {
                context.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            }
            let mut signature = Vec::new();
            context.sign_to_vec(digest, &mut signature)?;
            Ok(signature)
        };
        signed().map_err(|e| e.to_string())
    }
}

/// The public key in a file, as policies name it.
pub(in crate::cli) fn verifying_key(path: &Path) -> Result<VerifyingKey, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?;
    VerifyingKey::from_pem(&text).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))
}
