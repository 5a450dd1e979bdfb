//! What is expected of a document, and what has been proven of it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use x509_cert::der::Decode as _;

use super::Pcrs;
use super::document::{Document, Kind};
use super::states::States;
use crate::chain::{Chain, ChainError, Usage};
use crate::root::Root;
use crate::same::{same, same_as};

/// How far the issuer's clock may be ahead of the verifier's, where the age matters.
const SKEW: Duration = Duration::from_secs(300);
/// The one name of the one hash (AWS).
const DIGEST: &str = "SHA384";

/// What a document has to show. Only what is set is looked at, besides root, chain, validity, signature and digest, which always are.
#[derive(Clone, Debug)]
pub struct Expected {
    at: SystemTime,
    root: Root,
    kind: Option<Kind>,
    module_id: Option<String>,
    max_age: Option<Duration>,
    nonce: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    pcrs: Pcrs,
    states: Option<States>,
}

impl Expected {
    /// A document that leads to AWS's pinned root, judged at this time: the clock is the caller's.
    #[must_use]
    pub fn at(at: SystemTime) -> Self {
        Self {
            at,
            root: Root::aws_nitro(),
            kind: None,
            module_id: None,
            max_age: None,
            nonce: None,
            user_data: None,
            public_key: None,
            pcrs: Pcrs::new(),
            states: None,
        }
    }

    /// Another root than AWS's: for tests.
    #[must_use]
    pub fn root(self, root: Root) -> Self {
        Self { root, ..self }
    }

    /// Registers of this kind.
    #[must_use]
    pub fn kind(self, kind: Kind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// This module.
    #[must_use]
    pub fn module_id(self, module_id: &str) -> Self {
        Self { module_id: Some(module_id.to_owned()), ..self }
    }

    /// Made at most this long ago.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..self }
    }

    /// This nonce: it was made for whoever chose it, and not before.
    #[must_use]
    pub fn nonce(self, nonce: &[u8]) -> Self {
        Self { nonce: Some(nonce.to_vec()), ..self }
    }

    /// This user data.
    #[must_use]
    pub fn user_data(self, user_data: &[u8]) -> Self {
        Self { user_data: Some(user_data.to_vec()), ..self }
    }

    /// This public key, byte by byte.
    #[must_use]
    pub fn public_key(self, public_key: &[u8]) -> Self {
        Self { public_key: Some(public_key.to_vec()), ..self }
    }

    /// This value in this register. All that are given have to be there.
    #[must_use]
    pub fn pcr(mut self, number: u8, value: &[u8]) -> Self {
        self.pcrs.insert(number, value.to_vec());
        self
    }

    /// One of these states.
    #[must_use]
    pub fn states(self, states: States) -> Self {
        Self { states: Some(states), ..self }
    }
}

/// A document that has been proven: by AWS, unchanged, valid at the time that was given, and as expected. There is no other way to one than
/// [`Document::verify`].
#[derive(Clone, Debug)]
pub struct VerifiedDocument {
    document: Document,
    state: Option<String>,
    age: Option<Duration>,
}

impl VerifiedDocument {
    /// The document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The first of the expected states that it is in; `None` where none was asked for.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// How old it was; `None` where the issuer's clock is ahead.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}

/// Why a document proves nothing of what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotProven {
    /// The first certificate of its bundle is not the pinned root.
    #[error("it does not come from the root that is believed ({0}): it is no document of AWS, or the root is not the right one")]
    Root(String),
    /// The certificates.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The leaf's key.
    #[error("its leaf certificate has no key on P-384, with which documents are signed")]
    Key,
    /// The signature.
    #[error("its signature is wrong: it was changed after it was signed, or signed by another key")]
    Signature,
    /// It is a document of AWS, and something in it is not what is expected: all of it.
    #[error("it is genuine, but not what is expected: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unexpected(Vec<Mismatch>),
}

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The hash of the registers.
    #[error("its registers are of the hash {0:?}, not {DIGEST:?}")]
    Digest(String),
    /// TPM or enclave.
    #[error("it shows the registers of a {0}")]
    Kind(Kind),
    /// The module.
    #[error("it is of the module {0:?}")]
    ModuleId(String),
    /// Too old.
    #[error("it is {0} s old")]
    Age(u64),
    /// The issuer's clock or the verifier's is wrong.
    #[error("it was made {0} s after the time at which it is verified")]
    Future(u64),
    /// The nonce.
    #[error("its nonce is another one, or missing: it was made for somebody else, or before")]
    Nonce,
    /// The user data.
    #[error("its user data is other, or missing")]
    UserData,
    /// The public key.
    #[error("its public key is another one, or missing")]
    PublicKey,
    /// A register.
    #[error("register {0} has another value")]
    Pcr(u8),
    /// A register that is not there.
    #[error("register {0} is not in the document")]
    NoPcr(u8),
    /// None of the states.
    #[error("its registers are in none of the states {}", .0.join(", "))]
    State(Vec<String>),
}

impl Document {
    /// Verifies it: root, chain, the validity of each certificate, signature, then all that is expected.
    ///
    /// # Errors
    /// When something is not proven, with all that is not as expected.
    pub fn verify(self, expected: &Expected) -> Result<VerifiedDocument, NotProven> {
        let (root, between) = self.cabundle().split_first().ok_or_else(|| NotProven::Root(expected.root.describe()))?;
        // The bundle's first is compared with the pin and not used.
        if !same(root, expected.root.as_der()) {
            return Err(NotProven::Root(expected.root.describe()));
        }
        let chain = Chain { leaf: self.certificate(), intermediates: between.iter().rev().map(Vec::as_slice).collect() };
        chain.must_be_the_one_to(&expected.root, expected.at, Usage::Nitro)?;
        let leaf = x509_cert::Certificate::from_der(self.certificate()).map_err(|_| NotProven::Key)?;
        let point = leaf.tbs_certificate().subject_public_key_info().subject_public_key.as_bytes().ok_or(NotProven::Key)?;
        if point.len() != 97 {
            return Err(NotProven::Key);
        }
        if !self.envelope.is_signed_by(point) {
            return Err(NotProven::Signature);
        }
        let mut mismatches = Vec::new();
        let state = expected.compare(&self, &mut mismatches);
        if !mismatches.is_empty() {
            return Err(NotProven::Unexpected(mismatches));
        }
        let age = expected.at.duration_since(self.made()).ok();
        Ok(VerifiedDocument { document: self, state, age })
    }

    fn made(&self) -> SystemTime {
        let since = Duration::from_millis(self.timestamp());
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Expected {
    /// Each in turn and in full: nothing is left out after the first that differs.
    fn compare(&self, document: &Document, mismatches: &mut Vec<Mismatch>) -> Option<String> {
        let mut must = |is_right: bool, mismatch: Mismatch| {
            if !is_right {
                mismatches.push(mismatch);
            }
        };
        must(document.digest() == DIGEST, Mismatch::Digest(document.digest().to_owned()));
        must(self.kind.is_none_or(|kind| kind == document.kind()), Mismatch::Kind(document.kind()));
        let module_id = document.module_id();
        must(self.module_id.as_ref().is_none_or(|wanted| wanted == module_id), Mismatch::ModuleId(module_id.to_owned()));
        if let Some(max_age) = self.max_age {
            match self.at.duration_since(document.made()) {
                Ok(age) => must(age <= max_age, Mismatch::Age(age.as_secs())),
                Err(ahead) => must(ahead.duration() <= SKEW, Mismatch::Future(ahead.duration().as_secs())),
            }
        }
        let is_wanted = |wanted: &Option<Vec<u8>>, attested| wanted.as_ref().is_none_or(|wanted| same_as(attested, wanted));
        must(is_wanted(&self.nonce, document.nonce()), Mismatch::Nonce);
        must(is_wanted(&self.user_data, document.user_data()), Mismatch::UserData);
        must(is_wanted(&self.public_key, document.public_key()), Mismatch::PublicKey);
        for (number, wanted) in &self.pcrs {
            match document.pcrs().get(number) {
                Some(value) => must(same(value, wanted), Mismatch::Pcr(*number)),
                None => must(false, Mismatch::NoPcr(*number)),
            }
        }
        let states = self.states.as_ref()?;
        let matching = states.matching(document.pcrs());
        must(!matching.is_empty(), Mismatch::State(states.names().map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()));
        matching.into_iter().next().map(str::to_owned)
    }
}
