//! What a bundle offers: read, opened, and checked before anything is made of it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Secret, TlsPolicy};
use ekm_otp_client::{Client, Signer};
use ekm_otp_files::bundle::{Bundle, BundleError, BundleFile, BundleSecret, SealedBundle, read};
use ekm_otp_files::pem;
use ekm_otp_tpm::DuplicatedKey;
use rustls::RootCertStore;
use zeroize::Zeroizing;

use crate::cli::error::CliError;
use crate::cli::moment::utc;
use crate::cli::origin::origin_alone;
use crate::cli::output::note;
use crate::cli::password::{self, Asked, can_ask};
use crate::cli::secret_file::{read_open, read_private};
use crate::cli::shown::{printable, shown};
use crate::cli::trust;

/// More than any bundle and the mail around it.
const MOST: usize = 250 * 1024;
/// How often a passphrase that does not open is asked for again.
const TRIES: usize = 3;

/// A bundle's content, checked.
pub(super) struct Offered {
    pub(super) kid: KeyId,
    pub(super) client: String,
    /// At least one.
    pub(super) origins: Vec<Authority>,
    /// PEM.
    pub(super) ca: Option<String>,
    pub(super) credential: CredentialKind,
    pub(super) secret: Carried,
}

/// The secret.
pub(super) enum Carried {
    Clear(Secret),
    Wrapped(Box<DuplicatedKey>),
}

impl Offered {
    /// Reads it, and has it opened where it is sealed.
    pub(super) async fn read(path: &Path, passphrase_file: Option<&Path>, fingerprint: Option<&str>) -> Result<Self, CliError> {
        let bytes = read_open(path, "a bundle", MOST)?;
        let wrong = |e: BundleError| CliError::Usage(format!("{}: {e}", shown(path)));
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong(BundleError::None))?;
        let bundle = match read(text).map_err(wrong)? {
            BundleFile::Sealed(sealed) => open(sealed, passphrase_file).await.map_err(|e| e.of(path))?,
            BundleFile::Wrapped { bundle, fingerprint: found } => {
                must_be(fingerprint, &found, &bundle)?;
                *bundle
            }
            _ => return Err(CliError::Usage(format!("{}: a bundle of a kind that is not known here", shown(path)))),
        };
        Self::checked(bundle).map_err(|why| CliError::Usage(format!("{}: {why}", shown(path))))
    }

    fn checked(bundle: Bundle) -> Result<Self, String> {
        let another = "have the server make another";
        if bundle.expires <= SystemTime::now() {
            return Err(format!(
                "the bundle was good until {}, and that is over (by this machine's clock): {another}",
                utc(bundle.expires)
            ));
        }
        let secret = match bundle.secret {
            BundleSecret::Clear(secret) => {
                Carried::Clear(Secret::new(secret.to_vec()).map_err(|e| format!("the bundle's secret: {e}: {another}"))?)
            }
            BundleSecret::Wrapped { public, duplicate, seed, .. } => {
                let key = DuplicatedKey::from_blobs(&public, &duplicate, &seed);
                Carried::Wrapped(Box::new(key.map_err(|e| format!("the bundle's wrapped key: {e}: {another}"))?))
            }
        };
        Ok(Self {
            kid: KeyId::new(&bundle.kid).map_err(|e| format!("the bundle's key id: {e}: {another}"))?,
            origins: bundle
                .origins
                .iter()
                .map(|origin| origin_alone(origin))
                .collect::<Result<_, _>>()
                .map_err(|e| format!("the bundle's origin: {e}: {another}"))?,
            credential: bundle.credential.parse().map_err(|e| format!("the bundle's credential: {e}: {another}"))?,
            client: printable(&bundle.client).to_string(),
            ca: bundle.ca,
            secret,
        })
    }

    /// The first of the servers that it is for.
    pub(super) fn origin(&self) -> Result<&Authority, CliError> {
        self.origins.first().ok_or_else(|| CliError::Usage("the bundle names no server: have another made".into()))
    }

    /// A client for the first of its servers, which proves itself before anything is sent.
    pub(super) fn client(&self, key: impl Signer + 'static, require_post_quantum: bool, deadline: Duration) -> Result<Client, CliError> {
        let policy = TlsPolicy { tls12: false, require_post_quantum };
        let tls = match &self.ca {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in
                    pem::certificates(ca.as_bytes()).map_err(|e| CliError::Usage(format!("the bundle's certificates: {e}")))?
                {
                    roots.add(certificate).map_err(|e| CliError::Usage(format!("the bundle's certificates: {e}")))?;
                }
                trust::config_of(roots, &policy)?
            }
            None => trust::client_config(None, &policy)?,
        };
        let client =
            Client::new(self.origin()?.audience()).tls_config(tls).tls_policy(policy).credential(self.credential).kid(self.kid.as_str());
        client.signer(key).connect_deadline(deadline).response_deadline(deadline).build().map_err(|e| CliError::Usage(e.to_string()))
    }
}

/// Why a bundle was not opened: its fault, or that of whoever was asked.
enum NotOpened {
    Bundle(BundleError),
    Other(CliError),
}

impl NotOpened {
    fn of(self, path: &Path) -> CliError {
        match self {
            Self::Bundle(e @ BundleError::WrongPassphrase) => CliError::NotPermitted(format!("{}: {e}. Nothing was written", shown(path))),
            Self::Bundle(e) => CliError::Usage(format!("{}: {e}", shown(path))),
            Self::Other(e) => e,
        }
    }
}

async fn open(sealed: SealedBundle, passphrase_file: Option<&Path>) -> Result<Bundle, NotOpened> {
    if let Some(path) = passphrase_file {
        let passphrase = read_private(path, "a passphrase", 4096).map_err(NotOpened::Other)?;
        return opened(&std::sync::Arc::new(sealed), passphrase).await;
    }
    if !can_ask() {
        return Err(NotOpened::Other(CliError::NotPermitted(
            "the bundle's passphrase is wanted, and there is no terminal to ask at: give it with --passphrase-file, or name a helper in $SSH_ASKPASS".into(),
        )));
    }
    let sealed = std::sync::Arc::new(sealed);
    let asked = Asked { flag: "--passphrase-file", variable: "SSH_ASKPASS", prompt: "Passphrase of the bundle" };
    let mut tries = 1;
    loop {
        let passphrase = password::ask_once(asked, asked.prompt).await.map_err(NotOpened::Other)?;
        match opened(&sealed, passphrase).await {
            Err(NotOpened::Bundle(BundleError::WrongPassphrase)) if tries < TRIES => {
                note!("this does not open it: letter for letter, please ({tries} of {TRIES} tries)");
                tries += 1;
            }
            opened => return opened,
        }
    }
}

/// It takes a second and much memory: signals are heard meanwhile.
async fn opened(sealed: &std::sync::Arc<SealedBundle>, passphrase: Zeroizing<Vec<u8>>) -> Result<Bundle, NotOpened> {
    let sealed = std::sync::Arc::clone(sealed);
    let opening = tokio::task::spawn_blocking(move || {
        let text = std::str::from_utf8(&passphrase).map_err(|_| BundleError::WrongPassphrase)?;
        sealed.open(text.trim_end_matches(['\n', '\r']))
    });
    let opened = opening.await.map_err(|e| NotOpened::Other(CliError::Other(format!("opening the bundle failed: {e}"))))?;
    opened.map_err(NotOpened::Bundle)
}

/// A bundle that stands in the open is the server's by its fingerprint alone: whoever knows the storage key's public part could have made it.
fn must_be(given: Option<&str>, found: &str, bundle: &Bundle) -> Result<(), CliError> {
    let spelt: String = given.unwrap_or_default().chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect();
    match given {
        Some(_) if spelt == found => Ok(()),
        Some(_) => Err(CliError::NotPermitted(format!(
            "the bundle's fingerprint is {found}, and another was given: it was changed on its way, or is another bundle. Nothing was written"
        ))),
        None => Err(CliError::NotPermitted(format!(
            "the bundle (for {}, at {}) has no passphrase, so anybody could have made it: give the fingerprint that `ekm-otp-server key add` told whoever made it with \
             --fingerprint. Nothing was written",
            printable(&bundle.kid),
            printable(&bundle.origins.join(" "))
        ))),
    }
}
