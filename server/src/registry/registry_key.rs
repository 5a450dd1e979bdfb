//! The registry key: what a database's secrets are sealed with (AES-256-GCM, NIST SP 800-38D), each bound to its key id.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use ekm_otp::{Secret, ServerName};
use ekm_otp_files::must_be_private;
use ekm_otp_tower::registry_file::Entry;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::ServerError;

/// Begins each line of a registry key's file.
const PREFIX: &str = "ekm-otp-registry-key-1:";
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// More lines than anybody needs.
const MAX_FILE: u64 = 64 * 1024;

/// One registry key, as what is derived from it.
pub(crate) struct RegistryKey {
    /// Tells keys apart; says nothing about them.
    id: String,
    cipher: Aes256Gcm,
    fingerprints: Zeroizing<[u8; 32]>,
}

/// What a secret does not open with: somebody changed it, or what it is bound to.
pub(crate) struct NotOpened;

impl RegistryKey {
    fn new(bytes: &[u8; 32]) -> Self {
        // HKDF-Expand(K, label, L) (RFC 5869): K is uniform already.
        let hkdf = Hkdf::<Sha256>::from_prk(bytes).unwrap_or_else(|_| unreachable!("32 bytes are SHA-256's length"));
        let expand = |label: &[u8], okm: &mut [u8]| {
            hkdf.expand(label, okm).unwrap_or_else(|_| unreachable!("32 bytes are within HKDF's bounds"));
        };
        let (mut id, mut seal, mut fingerprints) = ([0; 8], Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        expand(b"ekm-otp registry v1 id", &mut id);
        expand(b"ekm-otp registry v1 seal", &mut seal[..]);
        expand(b"ekm-otp registry v1 fingerprint", &mut fingerprints[..]);
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id, cipher: Aes256Gcm::new((&*seal).into()), fingerprints }
    }

    /// Makes one: its file's text.
    pub(crate) fn generate() -> Result<(Self, Zeroizing<String>), ServerError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut bytes[..]).map_err(no_randomness)?;
        // A registry key has the length and the look of a secret.
        let text = Secret::new(bytes.to_vec()).map_err(|e| ServerError::Other(e.to_string()))?.encode_base64();
        Ok((Self::new(&bytes), Zeroizing::new(format!("{PREFIX}{}\n", *text))))
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Nonce ‖ AES-256-GCM(secret), with what the entry says as associated data.
    pub(crate) fn seal(&self, entry: &Entry, secret: &Secret) -> Result<Vec<u8>, ServerError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(no_randomness)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + secret.expose().len() + TAG_LEN);
        sealed.extend(nonce);
        sealed.extend(secret.expose());
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce.into(), &bound(entry), (&mut sealed[NONCE_LEN..]).into())
            .map_err(|_| ServerError::Other("a secret could not be sealed".into()))?;
        sealed.extend(tag);
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made of this entry's secret.
    pub(crate) fn open(&self, entry: &Entry, sealed: &[u8]) -> Result<Secret, NotOpened> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
        let (text, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(NotOpened)?;
        let mut text = Zeroizing::new(text.to_vec());
        self.cipher.decrypt_inout_detached(nonce.into(), &bound(entry), text.as_mut_slice().into(), tag.into()).map_err(|_| NotOpened)?;
        // Weak ones were refused before they were sealed, or taken knowingly.
        Secret::weak(std::mem::take(&mut *text)).map_err(|_| NotOpened)
    }

    /// By which two key ids with one secret are found: HMAC(K', secret zero-padded to HMAC's block), since HMAC cannot tell those apart.
    pub(crate) fn fingerprint(&self, secret: &Secret) -> Vec<u8> {
        let mut block = Zeroizing::new([0; Secret::MAX_LEN]);
        block[..secret.expose().len()].copy_from_slice(secret.expose());
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.fingerprints[..]).unwrap_or_else(|_| unreachable!("HMAC takes any key length"));
        hmac.update(&block[..]);
        hmac.finalize().into_bytes().to_vec()
    }
}

/// What a sealed secret is bound to: whose it is and whether and when it may be used. Who can write the database, but has no registry key, cannot
/// put one key's secret under another key id, give it another client's name, or undo a revocation, but by putting the whole row back as it was.
fn bound(entry: &Entry) -> Vec<u8> {
    let names = names_as_text(&entry.server_names);
    let [not_before, not_after] = [entry.not_before, entry.not_after].map(|at| at.map_or_else(String::new, |at| seconds(at).to_string()));
    let kinds = [entry.minimum.as_str(), entry.profile.as_str(), entry.state.as_str()];
    let fields = [entry.kid.as_str(), &entry.client, kinds[0], kinds[1], kinds[2], &names, &not_before, &not_after];
    let mut bound = b"ekm-otp registry v1".to_vec();
    for field in fields {
        bound.extend(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        bound.extend(field.as_bytes());
    }
    // Only where there is something to say: what was sealed before there were bundles opens as it did.
    if entry.enrol_by.is_some() || entry.enrolled.is_some() {
        for at in [entry.enrol_by, entry.enrolled] {
            bound.extend(at.map_or(-1, seconds).to_be_bytes());
        }
    }
    bound
}

/// Since 1970.
pub(crate) fn seconds(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Server names as the database holds them: separated by spaces, `-` for connections without one.
pub(crate) fn names_as_text(names: &[ServerName]) -> String {
    let shown = names.iter().map(|name| if name.is_none() { "-" } else { name.as_str() });
    shown.collect::<Vec<_>>().join(" ")
}

fn no_randomness(e: getrandom::Error) -> ServerError {
    ServerError::Other(format!("the operating system gives no randomness: {e}"))
}

/// The registry keys of a file, one a line: more than one while they are exchanged.
pub(crate) struct RegistryKeys(Vec<RegistryKey>);

impl RegistryKeys {
    /// Reads a file that nobody else can read.
    pub(crate) fn read(path: &Path) -> Result<Self, ServerError> {
        let shown = path.display();
        let file = File::open(path).map_err(|e| ServerError::io(&format!("cannot open {shown}"), &e))?;
        must_be_private(&file).map_err(|e| ServerError::io(&format!("cannot look at {shown}"), &e))?.map_err(|why| {
            let advice = why.advice(&shown.to_string());
            ServerError::NotPermitted(format!("others can read or change {shown}, which holds the registry key: {why}. {advice}"))
        })?;
        let mut text = Zeroizing::new(String::with_capacity(4096));
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
        Self::of_text(&text, path)
    }

    /// Of what stands in this file.
    pub(crate) fn of_text(text: &str, path: &Path) -> Result<Self, ServerError> {
        let shown = path.display();
        if text.len() as u64 > MAX_FILE {
            return Err(ServerError::Config(format!("{shown} holds more than {MAX_FILE} bytes: it is no file of registry keys")));
        }
        Self::parse(text).ok_or_else(|| {
            ServerError::Config(format!("{shown} holds no registry key: `ekm-otp-server key new-registry-key --out FILE` makes one"))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let key = |line: &str| {
            let bytes = Zeroizing::new(Secret::decode_base64(line.strip_prefix(PREFIX)?).ok()?);
            Some(RegistryKey::new(bytes.as_slice().try_into().ok()?))
        };
        let keys = lines.map(key).collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(Self(keys))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&RegistryKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// The last one: what a new database is sealed with, and what another one is to be sealed with.
    pub(crate) fn newest(&self) -> Option<&RegistryKey> {
        self.0.last()
    }

    /// Their ids, for people.
    pub(crate) fn ids(&self) -> String {
        self.0.iter().map(RegistryKey::id).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for RegistryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryKeys({})", self.ids())
    }
}

#[cfg(test)]
mod tests {
    use ekm_otp::KeyId;

    use super::*;

    fn entry(kid: &str, client: &str) -> Entry {
        Entry::new(KeyId::new(kid).expect("a key id"), client, secret(1))
    }

    fn secret(byte: u8) -> Secret {
        Secret::new(vec![byte; 32]).expect("a secret")
    }

    #[test]
    fn a_sealed_secret_opens_for_its_own_entry_and_key_only() {
        let [(key, text), (other, _)] = [RegistryKey::generate(), RegistryKey::generate()].map(|made| made.expect("a key"));
        let alice = entry("a", "Alice");
        let sealed = key.seal(&alice, &secret(1)).expect("sealed");
        assert!(key.open(&alice, &sealed).is_ok_and(|opened| opened.same_hmac_key(&secret(1))));
        assert!(RegistryKeys::parse(&text).expect("a file").get(key.id()).expect("the key").open(&alice, &sealed).is_ok());
        assert!(key.open(&entry("b", "Alice"), &sealed).is_err(), "another key id");
        assert!(key.open(&entry("a", "Bob"), &sealed).is_err(), "another client");
        let mut named = entry("a", "Alice");
        named.server_names.push(ServerName::from_host("a.test").expect("a name"));
        assert!(key.open(&named, &sealed).is_err(), "other server names");
        let mut revoked = entry("a", "Alice");
        revoked.state = ekm_otp_tower::registry_file::KeyState::Revoked;
        assert!(
            key.open(&revoked, &sealed).is_err() && key.open(&alice, &key.seal(&revoked, &secret(1)).expect("sealed")).is_err(),
            "un-revoked"
        );
        let mut timed = entry("a", "Alice");
        timed.not_after = Some(SystemTime::now());
        assert!(key.open(&alice, &key.seal(&timed, &secret(1)).expect("sealed")).is_err(), "prolonged");
        let mut awaited = entry("a", "Alice");
        awaited.enrol_by = Some(SystemTime::now());
        let sealed_awaited = key.seal(&awaited, &secret(1)).expect("sealed");
        assert!(key.open(&awaited, &sealed_awaited).is_ok() && key.open(&alice, &sealed_awaited).is_err(), "waits no longer");
        awaited.enrolled = awaited.enrol_by;
        assert!(key.open(&awaited, &sealed_awaited).is_err(), "was used");
        assert!(other.open(&alice, &sealed).is_err(), "another registry key");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&alice, &changed).is_err(), "byte {at} changed");
            assert!(key.open(&alice, &sealed[..at]).is_err(), "cut to {at} bytes");
        }
        assert_ne!(sealed, key.seal(&alice, &secret(1)).expect("sealed"), "a nonce of its own each time");
    }

    #[test]
    fn a_fingerprint_finds_what_hmac_cannot_tell_apart_and_is_of_one_key() {
        let [(key, _), (other, _)] = [RegistryKey::generate(), RegistryKey::generate()].map(|made| made.expect("a key"));
        let padded = Secret::new([vec![1; 32], vec![0; 7]].concat()).expect("a secret");
        assert_eq!(key.fingerprint(&secret(1)), key.fingerprint(&padded));
        assert_ne!(key.fingerprint(&secret(1)), key.fingerprint(&secret(2)));
        assert_ne!(key.fingerprint(&secret(1)), other.fingerprint(&secret(1)));
    }

    #[test]
    fn a_file_of_registry_keys_is_taken_whole_or_not_at_all() {
        let (first, second) = (RegistryKey::generate().expect("a key"), RegistryKey::generate().expect("a key"));
        let both = format!("# old, then new\n{}\n{}", *first.1, *second.1);
        assert_eq!(RegistryKeys::parse(&both).expect("a file").ids(), format!("{}, {}", first.0.id(), second.0.id()));
        for faulty in ["", "# nothing\n", "ekm-otp-registry-key-1:AAAA", &format!("{both}x"), &both[..both.len() - 9]] {
            assert!(RegistryKeys::parse(faulty).is_none(), "{faulty}");
        }
    }
}
