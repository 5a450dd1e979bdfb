//! `key add --bundle-out`, `key rotate --bundle-out`: the secret leaves in an enrolment bundle, with all else that its client needs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ekm_otp::{Authority, Secret};
use ekm_otp_attestation::tpm::{EncryptionKey, PublicArea, duplicate_hmac_key};
use ekm_otp_files::bundle::{Bundle, BundleError, BundleSecret, Passphrase, seal, write_wrapped};
use ekm_otp_files::pem;
use ekm_otp_tower::registry_file::Entry;
use zeroize::Zeroizing;

use super::when;
use crate::error::ServerError;
use crate::registry::instant;

/// More than any passphrase, or storage key's public part, has.
const MOST: u64 = 4096;

/// A new secret leaves in a bundle.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Bundle")]
pub(super) struct BundleWay {
    /// Write the new secret to this new file with all else that its client needs, for `ekm-otp-client enroll`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_out", "entry"], requires = "origins")]
    bundle_out: Option<PathBuf>,
    /// Where the client may show its key: https://HOST or https://HOST:PORT; repeat for more
    #[arg(long = "origin", value_name = "URL", requires = "bundle_out")]
    origins: Vec<String>,
    /// What the client is to trust there instead of its system's certificates (PEM)
    #[arg(long, value_name = "FILE", requires = "bundle_out")]
    ca: Option<PathBuf>,
    /// Seal the bundle with the passphrase in this file; - is standard input
    #[arg(long, value_name = "FILE", requires = "bundle_out")]
    passphrase_file: Option<PathBuf>,
    /// Seal the bundle with a passphrase that is made and shown this once
    #[arg(long, requires = "bundle_out", conflicts_with = "passphrase_file")]
    passphrase_generate: bool,
    /// Wrap the secret to the storage key of the client's TPM, whose public part `ekm-otp-client key parent` writes there. Without a passphrase besides, the client is
    /// told the bundle's fingerprint
    #[arg(long, value_name = "FILE", requires = "bundle_out")]
    wrap_to: Option<PathBuf>,
    /// Until when the bundle is good: if it was not taken in by then, its key is none any more
    #[arg(long, value_name = "TIME", default_value = "7d")]
    bundle_expires: String,
}

/// A bundle that was made, to be written.
pub(super) struct Made {
    pub(super) path: PathBuf,
    pub(super) text: Zeroizing<String>,
    /// Where one was made, too.
    pub(super) passphrase: Option<Zeroizing<String>>,
    pub(super) fingerprint: String,
    pub(super) enrol_by: SystemTime,
    /// The name of the storage key that it is wrapped to.
    parent: Option<String>,
    is_sealed: bool,
}

impl BundleWay {
    /// The bundle for this new entry, which waits for its first use from then on; `None` where none is asked for.
    pub(super) fn make(&self, entry: &mut Entry) -> Result<Option<Made>, ServerError> {
        let Some(path) = &self.bundle_out else { return Ok(None) };
        if path.symlink_metadata().is_ok() {
            return Err(ServerError::Config(format!("{} is there already: name another file", path.display())));
        }
        let passphrase = self.passphrase()?;
        if passphrase.is_none() && self.wrap_to.is_none() {
            return Err(ServerError::Config(
                "--bundle-out: say how its secret is protected: --passphrase-generate, --passphrase-file FILE, or --wrap-to FILE".into(),
            ));
        }
        let enrol_by = when::point("bundle-expires", &self.bundle_expires)?;
        if enrol_by <= SystemTime::now() {
            return Err(ServerError::Config(format!("--bundle-expires {}: that is over", self.bundle_expires)));
        }
        let secret = entry.secret.as_ref().ok_or_else(|| ServerError::Other("the new key has no secret".into()))?;
        let (secret, parent) = match &self.wrap_to {
            Some(path) => {
                let (wrapped, name) = wrap(path, secret)?;
                (wrapped, Some(name))
            }
            None => (BundleSecret::Clear(Zeroizing::new(secret.expose().to_vec())), None),
        };
        let bundle = Bundle {
            kid: entry.kid.as_str().to_owned(),
            client: entry.client.clone(),
            origins: self.origins.iter().map(|origin| checked(origin)).collect::<Result<_, _>>()?,
            ca: self.ca.as_deref().map(certificates).transpose()?,
            credential: entry.minimum.as_str().to_owned(),
            expires: enrol_by,
            secret,
        };
        let about = about(&bundle, passphrase.is_some());
        let written = match &passphrase {
            Some(passphrase) => seal(&bundle, passphrase, &about),
            None => write_wrapped(&bundle, &about),
        };
        let written = written.map_err(|e| ServerError::Config(format!("--bundle-out: {e}")))?;
        entry.enrol_by = Some(enrol_by);
        let is_sealed = passphrase.is_some();
        Ok(Some(Made {
            path: path.clone(),
            text: Zeroizing::new(written.text),
            passphrase: passphrase.filter(|_| self.passphrase_generate).map(|passphrase| Zeroizing::new(passphrase.expose().to_owned())),
            fingerprint: written.fingerprint,
            enrol_by,
            parent,
            is_sealed,
        }))
    }

    fn passphrase(&self) -> Result<Option<Passphrase>, ServerError> {
        let of_bundle = |e: BundleError| ServerError::Config(e.to_string());
        match &self.passphrase_file {
            Some(path) => {
                let text = read_text(path, "the passphrase")?;
                let line = text.trim_end_matches(['\n', '\r']);
                Passphrase::chosen(line).map(Some).map_err(of_bundle)
            }
            None if self.passphrase_generate => Passphrase::generate().map(Some).map_err(of_bundle),
            None => Ok(None),
        }
    }
}

impl Made {
    /// What is to be done with it.
    pub(super) fn told(&self) -> String {
        let shown = self.path.display();
        let mut told = format!("{shown} is its bundle, good until {}: send it to the client", instant(self.enrol_by));
        match (&self.passphrase, self.is_sealed) {
            (Some(_), _) => told += ", and the passphrase, which is shown this once, by another way",
            (None, true) => told += ", and the passphrase by another way",
            (None, false) => told += &format!(", and by another way that nobody can change its fingerprint {}", self.fingerprint),
        }
        if let Some(parent) = &self.parent {
            told += &format!(
                ". It is wrapped to the storage key with the name {parent}: compare that with what `ekm-otp-client key parent` told, for whoever's it is has the \
                 secret"
            );
        }
        told
    }
}

/// Wraps the secret to the storage key of this file, and tells that key's name.
fn wrap(path: &Path, secret: &Secret) -> Result<(BundleSecret, String), ServerError> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
    let wrong = |e: &dyn std::fmt::Display| ServerError::Config(format!("--wrap-to {shown}: {e}"));
    let area = PublicArea::read(&bytes).map_err(|e| wrong(&e))?;
    let key = EncryptionKey::from_area(&area).map_err(|e| wrong(&e))?;
    let duplicate = duplicate_hmac_key(&key, secret.expose()).map_err(|e| wrong(&e))?;
    let name = area.name();
    let shown_name = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let wrapped = BundleSecret::Wrapped {
        parent: name,
        public: duplicate.public().to_vec(),
        duplicate: duplicate.duplicate().to_vec(),
        seed: duplicate.seed().to_vec(),
    };
    Ok((wrapped, shown_name))
}

/// As the client writes it.
fn checked(origin: &str) -> Result<String, ServerError> {
    let authority = origin.strip_prefix("https://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let authority = authority.ok_or_else(|| ServerError::Config(format!("--origin {origin}: write it as https://HOST[:PORT]")))?;
    let authority = Authority::parse(authority).map_err(|e| ServerError::Config(format!("--origin {origin}: {e}")))?;
    Ok(authority.audience())
}

fn certificates(path: &Path) -> Result<String, ServerError> {
    let shown = path.display();
    let file = std::fs::read(path).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
    let certificates = pem::certificates(&file).map_err(|e| ServerError::Config(format!("--ca {shown}: {e}")))?;
    // Written anew: nothing else of the file leaves, were it a private key beside its certificate.
    Ok(certificates.iter().map(|certificate| pem::encode("CERTIFICATE", certificate)).collect())
}

/// For a person who finds the file. A sealed bundle tells nobody but its client what it is for.
fn about(bundle: &Bundle, is_sealed: bool) -> Vec<String> {
    let mut about = vec![format!("An EKM-OTP enrolment bundle, good until {}, for one use.", instant(bundle.expires))];
    if is_sealed {
        about.push(
            "On the machine that it is for: ekm-otp-client enroll FILE. It asks for the passphrase, which comes by another way.".to_owned(),
        );
    } else {
        about.push(format!("For {} as {}, at {}.", bundle.client, bundle.kid, bundle.origins.join(" ")));
        about.push(
            "On the machine that it is for: ekm-otp-client enroll FILE --fingerprint FINGERPRINT, which comes by another way.".to_owned(),
        );
    }
    about.push("These lines are for people. Nothing believes them.".to_owned());
    about
}

fn read_text(path: &Path, what: &str) -> Result<Zeroizing<String>, ServerError> {
    use std::io::Read as _;
    let shown = path.display();
    let failed = |e: &std::io::Error| ServerError::io(&format!("cannot read {shown}"), e);
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize + 1));
    let read = if path == Path::new("-") {
        std::io::stdin().take(MOST + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
        ekm_otp_files::must_be_private(&file).map_err(|e| failed(&e))?.map_err(|why| {
            let advice = why.advice(&shown.to_string());
            ServerError::NotPermitted(format!("others can read or change {shown}, which holds {what}: {why}. {advice}"))
        })?;
        file.take(MOST + 1).read_to_string(&mut text)
    };
    read.map_err(|e| failed(&e))?;
    if text.len() as u64 > MOST {
        Err(ServerError::Config(format!("{shown} holds more than {MOST} bytes, which is too much for {what}")))
    } else {
        Ok(text)
    }
}
