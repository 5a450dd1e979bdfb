//! Why a message cannot be read, opened or made.

use ekm_otp_files::pem::PemError;

/// Why a message cannot be read, opened or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// Not ASN.1.
    #[error("it is no CMS message: {0}")]
    Syntax(&'static str),
    /// Another kind of message.
    #[error("it is a CMS message, but no EnvelopedData")]
    NotEnveloped,
    /// Something in it that is not taken.
    #[error("its {0}")]
    NotTaken(&'static str),
    /// Key, padding or content: which of them is not told, to nobody.
    #[error("it cannot be opened: it is for another key, or damaged")]
    NotOpened,
    /// A key file.
    #[error("{0}")]
    Pem(#[from] PemError),
    /// Not an RSA key.
    #[error("the key is no private RSA key of 2048 to 8192 bits (PKCS#8, PKCS#1; not encrypted)")]
    Key,
    /// A private key, where the public one is wanted.
    #[error(
        "it is a private key, and whoever encrypts needs its public key: `key public` prints that of a key in a TPM, `openssl pkey -pubout` \
         that of another"
    )]
    Private,
    /// Neither a certificate nor a public key that is encrypted to.
    #[error("it is neither a certificate nor a public key (SubjectPublicKeyInfo) of an RSA key of 2048 to 8192 bits")]
    Recipient,
    /// Too long.
    #[error("it has more than {0} bytes")]
    Long(usize),
}
