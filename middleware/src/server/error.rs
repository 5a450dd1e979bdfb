//! Why a server does not start, or keeps what it has.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ekm_otp::ServerNameError;
use ekm_otp::field::ChallengeError;
use ekm_otp_files::pem::PemError;

/// Why a server does not start. `main` shows what it returns by `Debug`: this one says there, too, what is wrong and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Neither files nor certificates were named.
    #[error("the server has no certificate: name its files with EkmServer::certificate")]
    NoCertificate,
    /// Neither a file nor a store was named.
    #[error("the server has no registry, so nobody could come: name one with EkmServer::registry_file or EkmServer::store")]
    NoRegistry,
    /// Not a name that clients can come by.
    #[error(transparent)]
    ServerName(#[from] ServerNameError),
    /// The realm holds what no challenge can.
    #[error("the realm cannot be shown in challenges: {0}")]
    Realm(#[from] ChallengeError),
    /// A file, or what is in it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What rustls finds wrong.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// The address.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the server's files are not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is not there, or may not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What is in it is no certificate, or no private key.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// The certificate and the key cannot be used, or do not belong together.
    #[error("the certificate and its private key cannot be used, or do not belong together: {0}")]
    Certificate(#[source] rustls::Error),
    /// The certificate is for other names.
    #[error("the certificate is not for {name}, as which clients are to find this server: get one with this name (subjectAltName)")]
    OtherName {
        /// The name that it lacks.
        name: String,
    },
    /// The registry's file.
    #[cfg(feature = "registry-file")]
    #[error(transparent)]
    Registry(#[from] crate::registry_file::Error),
    /// A file was written while it was read. When files are watched, it is read again by itself.
    #[error("a file changed while it was read: try again once it is written")]
    Changing,
    /// The runtime ended.
    #[error("reading the files was interrupted")]
    Interrupted,
}

impl LoadError {
    /// Whether the files could not be read, whatever is in them.
    pub(super) fn is_of_reading(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Changing | Self::Interrupted => true,
            #[cfg(feature = "registry-file")]
            Self::Registry(error) => matches!(error, crate::registry_file::Error::Io { .. }),
            _ => false,
        }
    }
}
