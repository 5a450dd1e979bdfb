//! From what was resolved to keys that can be used, and to a TLS configuration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ekm_otp::{KeyId, Profile};
use ekm_otp_client::{Client, ClientBuilder, Mutual, Signer};
use ekm_otp_tpm::{KeyKind, KeySource, TpmError, TpmHandle};
use rustls::ClientConfig;

use super::resolve::{KeyChoice, Material, Resolved};
use crate::cli::credential::MutualArg;
use crate::cli::error::CliError;
use crate::cli::output::note;
use crate::cli::secret_file;
use crate::cli::shown::shown;
use crate::cli::trust;

/// Keys that can be used, in order of preference: at least one.
#[derive(Debug)]
pub(crate) struct Opened {
    /// With the key id that each goes by.
    pub(crate) keys: Vec<(KeyId, Arc<dyn Signer>)>,
    /// How long the TPM took to load the first one; `None` for a key in a file.
    pub(crate) loaded_in: Option<Duration>,
}

impl Resolved {
    /// Which certificates are trusted, and what TLS has to be like.
    ///
    /// # Errors
    /// Where the CA's file cannot be read, or nothing is trusted.
    pub(crate) fn tls_config(&self) -> Result<ClientConfig, CliError> {
        trust::client_config(self.ca.as_deref(), &self.tls)
    }

    /// A client for this server, with its keys loaded. Set what else the command asks for, and build it.
    ///
    /// # Errors
    /// As of [`open_keys`](Self::open_keys) and [`tls_config`](Self::tls_config), and where the server is to prove what it cannot.
    pub(crate) async fn builder(&self, deadline: Duration) -> Result<ClientBuilder, CliError> {
        // While the TPM loads the keys, certificates are read.
        let (opened, tls) = tokio::join!(self.open_keys(deadline), async { self.tls_config() });
        self.assembled(&opened?, tls?, deadline)
    }

    /// The same with keys that were loaded already, or made.
    ///
    /// # Errors
    /// Where the certificates cannot be read, or the server is to prove what it cannot.
    pub(crate) fn builder_with(&self, opened: &Opened, deadline: Duration) -> Result<ClientBuilder, CliError> {
        self.assembled(opened, self.tls_config()?, deadline)
    }

    /// The same with certificates that were read already, too.
    ///
    /// # Errors
    /// Where the server is to prove what it cannot.
    pub(crate) fn assembled(&self, opened: &Opened, tls: ClientConfig, deadline: Duration) -> Result<ClientBuilder, CliError> {
        let mut builder = Client::new(self.origin.audience())
            .tls_config(tls)
            .tls_policy(self.tls)
            .credential(self.credential.unwrap_or_default())
            .dial(self.dialled.clone())
            .connect_deadline(deadline);
        builder = match (self.wire, self.mutual) {
            (Profile::Go, Some(MutualArg::Require)) => {
                return Err(CliError::Usage(
                    "--mutual require: the server proves nothing in the profile go: leave one of the two out".into(),
                ));
            }
            (Profile::Go, _) => {
                note!(
                    "ekm-otp-client: warning: --profile go: the server proves nothing, a rogue one with a valid certificate is not found out"
                );
                builder.profile_go()
            }
            (Profile::V1, None | Some(MutualArg::Require)) => builder.mutual(Mutual::Require),
            (Profile::V1, Some(MutualArg::Prefer)) => builder.mutual(Mutual::Prefer),
        };
        let mut keys = opened.keys.iter();
        if let Some((kid, key)) = keys.next() {
            builder = builder.kid(kid.as_str()).signer(Arc::clone(key));
        }
        Ok(keys.fold(builder, |builder, (kid, key)| builder.or_key(kid.as_str(), Arc::clone(key))))
    }

    /// Loads the keys, before anything is dialled: one that cannot be used is told of at once. Of several, those that can be used are; the
    /// others are warned of.
    ///
    /// # Errors
    /// Where nothing names a key, or none can be used.
    pub(crate) async fn open_keys(&self, deadline: Duration) -> Result<Opened, CliError> {
        let mut opened = Opened { keys: Vec::new(), loaded_in: None };
        let mut tpm = None;
        let mut failed = None;
        for choice in &self.keys {
            match self.open(choice, &mut tpm, deadline).await {
                Ok((kid, key, loaded_in)) => {
                    if opened.keys.is_empty() {
                        opened.loaded_in = loaded_in;
                    }
                    opened.keys.push((kid, key));
                }
                Err(error) => {
                    let kid = choice.kid.as_ref().map_or("", KeyId::as_str);
                    if self.keys.len() > 1 {
                        note!("ekm-otp-client: warning: the key of {kid} is not used: {error}");
                    }
                    failed = failed.or(Some(error));
                }
            }
        }
        match failed {
            Some(error) if opened.keys.is_empty() => Err(error),
            _ => Ok(opened),
        }
    }

    /// What a profile's key is lost with, and how another comes.
    fn not_loaded(&self, error: TpmError) -> CliError {
        match (&error, &self.profile) {
            (TpmError::OtherTpm(_) | TpmError::OtherPrimary(_), Some(profile)) => CliError::Usage(format!(
                "{error}: the key of the profile {profile} is of no use here. Have the server's administrator make a bundle, and make it anew with \
                 `ekm-otp-client enroll --replace BUNDLE`"
            )),
            _ => error.into(),
        }
    }

    async fn open(
        &self,
        choice: &KeyChoice,
        shared: &mut Option<TpmHandle>,
        deadline: Duration,
    ) -> Result<(KeyId, Arc<dyn Signer>, Option<Duration>), CliError> {
        let missing = |what: &str| {
            let origin = self.origin.audience();
            let file = shown(&self.file);
            CliError::Usage(match &self.profile {
                Some(profile) => format!("{what} missing, and the profile {profile} ({file}) does not say so, either: add it there"),
                None if self.file.as_os_str().is_empty() => format!("{what} missing"),
                None => format!(
                    "{what} missing, and no profile in {file} has {origin} among its `origins`: name the key with --kid and --key, or make a \
                     profile (`ekm-otp-client enroll BUNDLE`)"
                ),
            })
        };
        let kid = choice.kid.clone();
        let material = choice.material.as_ref();
        let kid = kid.ok_or_else(|| missing(if material.is_some() { "--kid is" } else { "--kid and --key are" }))?;
        match material.ok_or_else(|| missing("--key (or --secret-file) is"))? {
            Material::File { path, format, is_weak_taken } => {
                let secret = secret_file::read(path, *format, *is_weak_taken, self.wire).await?;
                note!(
                    "ekm-otp-client: warning: the secret is in a file and in this process's memory, not in a TPM: whoever reads it has it"
                );
                Ok((kid, Arc::new(secret), None))
            }
            Material::Tpm(key) => {
                let tpm = match shared {
                    Some(tpm) => tpm.clone(),
                    None => shared.insert(choice.use_key.tpm.open_for_use()?.with_deadline(deadline)).clone(),
                };
                let source = choice.use_key.source(key, &tpm).await?.with_bus(self.bus);
                if let KeySource::File { file, .. } = &source
                    && let Some(description) = file.description().filter(|description| *description != kid.as_str())
                {
                    note!("ekm-otp-client: warning: the key was made for the key id {description}, not {kid}");
                }
                let key = tpm.load(source);
                let started = Instant::now();
                let description = key.prepare().await.map_err(|e| self.not_loaded(e))?;
                if description.kind != Some(KeyKind::HmacSha256) {
                    return Err(CliError::Usage(format!("{}: this cannot make HMACs, and this protocol needs one", description.algorithm)));
                }
                Ok((kid, Arc::new(key), Some(started.elapsed())))
            }
        }
    }
}
