//! What the server was read from, read again. Registry and certificate are each taken as a whole, and neither waits for the other: a renewal that
//! went wrong keeps no revoked key alive.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;

use super::certificate::{self, Current, Identity};
use super::error::LoadError;
use super::watched::Watched;
use crate::{Changes, SecretStore};
#[cfg(feature = "registry-file")]
use crate::{MemoryStore, registry_file};

/// Where the registry is.
pub(super) enum RegistrySource {
    #[cfg(feature = "registry-file")]
    File(PathBuf),
    Store(Arc<dyn SecretStore>),
}

/// The server's files, and what is made of them.
pub(super) struct Files {
    pub(super) registry: Arc<Registry>,
    pub(super) certificate: Arc<Certificate>,
}

/// What is read, and read again, by itself.
pub(super) trait Part: Send + Sync + 'static {
    /// Its files, if it is of any.
    fn watched(&self) -> Option<&Watched>;
    /// Reads it again. What is otherwise now.
    fn read_again(&self) -> Result<String, LoadError>;
}

pub(super) enum Registry {
    #[cfg(feature = "registry-file")]
    File {
        path: PathBuf,
        watched: Watched,
        store: Arc<MemoryStore>,
    },
    Store(Arc<dyn SecretStore>),
}

pub(super) struct Certificate {
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    files: Option<(PathBuf, PathBuf, Watched)>,
    current: Arc<Current>,
}

impl Files {
    pub(super) fn load(
        names: Vec<String>,
        identity: Identity,
        registry: RegistrySource,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, LoadError> {
        let certificate = Certificate::load(names, identity, provider)?;
        Ok(Self { certificate: Arc::new(certificate), registry: Arc::new(Registry::load(registry)?) })
    }

    pub(super) fn store(&self) -> Arc<dyn SecretStore> {
        match &*self.registry {
            #[cfg(feature = "registry-file")]
            Registry::File { store, .. } => Arc::clone(store) as Arc<dyn SecretStore>,
            Registry::Store(store) => Arc::clone(store),
        }
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.certificate.current) as Arc<dyn ResolvesServerCert>
    }
}

impl Registry {
    fn load(source: RegistrySource) -> Result<Self, LoadError> {
        Ok(match source {
            #[cfg(feature = "registry-file")]
            RegistrySource::File(path) => {
                let (watched, store) = Watched::first(vec![path.clone()], || Ok(registry_file::load(&path)?))?;
                if store.is_empty() {
                    tracing::warn!("{} holds no key: every request will be refused", path.display());
                }
                Self::File { path, watched, store: Arc::new(store) }
            }
            RegistrySource::Store(store) => Self::Store(store),
        })
    }

    fn reload(&self) -> Result<Changes, LoadError> {
        match self {
            #[cfg(feature = "registry-file")]
            Self::File { path, watched, store } => {
                watched.again(|| Ok(registry_file::load(path)?), |newer: MemoryStore| store.take_over(newer))
            }
            Self::Store(_) => Ok(Changes::default()),
        }
    }

    /// Keys end by themselves, too.
    pub(super) fn cut_expired(&self) {
        match self {
            #[cfg(feature = "registry-file")]
            Self::File { store, .. } => store.cut_expired(),
            Self::Store(_) => {}
        }
    }
}

impl Part for Registry {
    fn watched(&self) -> Option<&Watched> {
        match self {
            #[cfg(feature = "registry-file")]
            Self::File { watched, .. } => Some(watched),
            Self::Store(_) => None,
        }
    }

    fn read_again(&self) -> Result<String, LoadError> {
        let Changes { added, removed, changed } = self.reload()?;
        Ok(format!("registry: {added} keys added, {removed} removed, {changed} changed"))
    }
}

impl Certificate {
    fn load(names: Vec<String>, identity: Identity, provider: Arc<CryptoProvider>) -> Result<Self, LoadError> {
        let (certified, files) = match identity {
            Identity::Files { chain, key } => {
                let read = || certificate::from_files(&chain, &key, &provider);
                let (watched, certified) = Watched::first(vec![chain.clone(), key.clone()], read)?;
                (certified, Some((chain, key, watched)))
            }
            Identity::Der(chain, key) => (certificate::from_der(chain, key, &provider)?, None),
        };
        certificate::must_be_for(&names, &certified)?;
        Ok(Self { names, provider, files, current: Arc::new(Current::new(certified)) })
    }

    fn reload(&self) -> Result<bool, LoadError> {
        let Some((chain, key, watched)) = &self.files else { return Ok(false) };
        let read = || {
            let certified = certificate::from_files(chain, key, &self.provider)?;
            certificate::must_be_for(&self.names, &certified)?;
            Ok(certified)
        };
        watched.again(read, |certified| self.current.replace(certified))
    }
}

impl Part for Certificate {
    fn watched(&self) -> Option<&Watched> {
        self.files.as_ref().map(|(.., watched)| watched)
    }

    fn read_again(&self) -> Result<String, LoadError> {
        Ok(if self.reload()? { "certificate: another one, for new connections" } else { "certificate: the same as before" }.to_owned())
    }
}

/// What became of files that were read again: of each part by itself, since neither waits for the other.
#[derive(Debug)]
#[must_use = "each part may have failed, and then what was there before is kept"]
#[non_exhaustive]
pub struct Reloaded {
    /// What is otherwise in the registry's file. Connections of keys that are gone, revoked or other ones now were cut. Nothing where the registry
    /// is a store.
    pub registry: Result<Changes, LoadError>,
    /// Whether the certificate is another one. It serves new connections; open ones go on.
    pub certificate: Result<bool, LoadError>,
}

/// Reads the server's files again, whether they are watched or not. Cloning is cheap.
#[derive(Clone)]
pub struct Reloader(pub(super) Arc<Files>);

impl Reloader {
    /// Reads the registry's file, and certificate and key, again. Each of the two is taken as a whole or not at all: then what was there before is
    /// kept. No connection is lost but those of keys that are gone.
    pub async fn reload(&self) -> Reloaded {
        let (registry, certificate) = (Arc::clone(&self.0.registry), Arc::clone(&self.0.certificate));
        // Side by side: a device that hangs under the one does not hold back the other.
        let (registry, certificate) = tokio::join!(
            tokio::task::spawn_blocking(move || registry.reload()),
            tokio::task::spawn_blocking(move || certificate.reload()),
        );
        let interrupted = |_| Err(LoadError::Interrupted);
        Reloaded {
            registry: registry.unwrap_or_else(interrupted),
            certificate: certificate.unwrap_or_else(|_| Err(LoadError::Interrupted)),
        }
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloader(..)")
    }
}
