//! What the server was read from, read again: all of it or nothing.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;

use super::certificate::{self, Current, Identity};
use super::error::LoadError;
use crate::SecretStore;
#[cfg(feature = "registry-file")]
use crate::{MemoryStore, registry_file};

/// Where the registry is.
pub(super) enum RegistrySource {
    #[cfg(feature = "registry-file")]
    File(PathBuf),
    Store(Arc<dyn SecretStore>),
}

enum Registry {
    #[cfg(feature = "registry-file")]
    File(PathBuf, Arc<MemoryStore>),
    Store(Arc<dyn SecretStore>),
}

/// The server's files, and what is made of them.
pub(super) struct Files {
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    certificate: Option<(PathBuf, PathBuf)>,
    current: Arc<Current>,
    registry: Registry,
    /// One reads at a time.
    reading: Mutex<()>,
}

impl Files {
    pub(super) fn load(
        names: Vec<String>,
        identity: Identity,
        registry: RegistrySource,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, LoadError> {
        let (certified, certificate) = match identity {
            Identity::Files { chain, key } => (certificate::from_files(&chain, &key, &provider)?, Some((chain, key))),
            Identity::Der(chain, key) => (certificate::from_der(chain, key, &provider)?, None),
        };
        certificate::must_be_for(&names, &certified)?;
        let registry = match registry {
            #[cfg(feature = "registry-file")]
            RegistrySource::File(path) => {
                let store = registry_file::load(&path)?;
                if store.is_empty() {
                    tracing::warn!("{} holds no key: every request will be refused", path.display());
                }
                Registry::File(path, Arc::new(store))
            }
            RegistrySource::Store(store) => Registry::Store(store),
        };
        Ok(Self { names, provider, certificate, current: Arc::new(Current::new(certified)), registry, reading: Mutex::new(()) })
    }

    pub(super) fn store(&self) -> Arc<dyn SecretStore> {
        match &self.registry {
            #[cfg(feature = "registry-file")]
            Registry::File(_, store) => Arc::clone(store) as Arc<dyn SecretStore>,
            Registry::Store(store) => Arc::clone(store),
        }
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let certificate = self.certificate.iter().flat_map(|(chain, key)| [chain.as_path(), key.as_path()]);
        let registry = match &self.registry {
            #[cfg(feature = "registry-file")]
            Registry::File(path, _) => Some(path.as_path()),
            Registry::Store(_) => None,
        };
        certificate.chain(registry)
    }

    /// Which files these are, in which state.
    pub(super) fn look(&self) -> Seen {
        Seen(self.paths().map(|path| std::fs::metadata(path).ok().map(|file| Stamp::of(&file))).collect())
    }

    /// Reads all files, then takes what they hold.
    pub(super) fn reload(&self) -> Result<Loaded, LoadError> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.look();
        let certified = match &self.certificate {
            Some((chain, key)) => Some(certificate::from_files(chain, key, &self.provider)?),
            None => None,
        };
        if let Some(certified) = &certified {
            certificate::must_be_for(&self.names, certified)?;
        }
        #[cfg(feature = "registry-file")]
        let newer = match &self.registry {
            Registry::File(path, store) => Some((store, registry_file::load(path)?)),
            Registry::Store(_) => None,
        };
        // What was written meanwhile may have been read in part: half a registry would cut the clients of the other half.
        if self.look() != before {
            return Err(LoadError::Changing);
        }
        let mut loaded = Loaded { certificate: certified.is_some_and(|certified| self.current.replace(certified)), ..Loaded::default() };
        #[cfg(feature = "registry-file")]
        if let Some((store, newer)) = newer {
            let changes = store.take_over(newer);
            loaded = Loaded { keys_added: changes.added, keys_removed: changes.removed, keys_changed: changes.changed, ..loaded };
        }
        let _ = &mut loaded;
        Ok(loaded)
    }

    /// Keys end by themselves, too.
    pub(super) fn cut_expired(&self) {
        #[cfg(feature = "registry-file")]
        if let Registry::File(_, store) = &self.registry {
            store.cut_expired();
        }
    }
}

/// How the files looked at one time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Seen(Vec<Option<Stamp>>);

/// What changes with a file, whether it is written in place or replaced.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// What was different in files that were read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Whether the certificate was another one. It serves new connections; open ones go on.
    pub certificate: bool,
    /// How many keys were new.
    pub keys_added: usize,
    /// How many were gone. Their connections were cut.
    pub keys_removed: usize,
    /// How many were other ones than before. Connections of what they were before were cut.
    pub keys_changed: usize,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = if self.certificate { "another certificate" } else { "the same certificate" };
        write!(f, "{certificate}, {} keys added, {} removed, {} changed", self.keys_added, self.keys_removed, self.keys_changed)
    }
}

/// Reads the server's files again, whether they are watched or not. Cloning is cheap.
#[derive(Clone)]
pub struct Reloader(pub(super) Arc<Files>);

impl Reloader {
    /// Reads certificate, key and registry file again and takes all of them, or none: then what was there before is kept. No connection is lost but
    /// those of keys that are gone.
    ///
    /// # Errors
    /// When a file cannot be read, is wrong, or does not fit the others.
    pub async fn reload(&self) -> Result<Loaded, LoadError> {
        let files = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || files.reload()).await.unwrap_or(Err(LoadError::Interrupted))
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloader(..)")
    }
}
