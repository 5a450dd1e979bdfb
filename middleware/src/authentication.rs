//! What a server authenticates against: set once, shared by all connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ekm_otp::field::{Challenge, ChallengeError, CredentialKind};
use ekm_otp::{KeyId, Profile, Secret, ServerNames};
use http::{HeaderValue, Method, Uri};

use crate::SecretStore;
use crate::diagnosis::Diagnosis;
use crate::log_budget::LogBudget;
use crate::profile::{LookUp, OtherProfile};
use crate::refusal::Refusal;
use crate::registered_key::RegisteredKey;

/// Whether requests of this method and target need no credential.
type IsOpen = dyn Fn(&Method, &Uri) -> bool + Send + Sync;

/// What a server authenticates against: the registry, the names it answers to, and bounds. Shared by all connections.
pub struct Authentication {
    store: Arc<dyn SecretStore>,
    pub(crate) names: ServerNames,
    pub(crate) kinds: Vec<CredentialKind>,
    pub(crate) leeway: Duration,
    pub(crate) other_profile: Option<Arc<dyn OtherProfile>>,
    challenges: [HeaderValue; Diagnosis::ALL.len()],
    /// Stands in for key ids that nobody registered. Never active.
    unknown_kid: Arc<RegisteredKey>,
    pub(crate) max_failures: u32,
    pub(crate) max_connections_per_key: usize,
    max_age: Duration,
    verified_within: Duration,
    is_open: Option<Box<IsOpen>>,
    pub(crate) log_budget: LogBudget,
}

impl Authentication {
    /// How many 401 answers one connection gets before it is closed, unless set otherwise.
    pub const MAX_FAILURES: u32 = 8;
    /// How many connections one key may have open at a time, unless set otherwise: a quarter of [`Limits`](crate::Limits)' default.
    pub const MAX_CONNECTIONS_PER_KEY: usize = 2_500;
    /// How long a connection lives at most, unless set otherwise: 1 hour.
    pub const MAX_AGE: Duration = Duration::from_secs(3600);

    /// How far the clocks of the two ends may differ where tokens are checked (feature `jose`), unless set otherwise: 60 seconds.
    pub const LEEWAY: Duration = Duration::from_secs(60);

    /// How long a connection may go without a verified request, unless set otherwise: 30 seconds. Whoever cannot authenticate holds no
    /// connection longer, whatever phase it stalls in.
    pub const VERIFIED_WITHIN: Duration = Duration::from_secs(30);

    /// 10 years: longer than any connection, and an instant that far off can still be told.
    const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// Authenticates against `store` on connections for `names`. The realm is shown in challenges.
    ///
    /// # Errors
    /// When the realm holds anything but printable ASCII.
    pub fn new(store: Arc<dyn SecretStore>, names: ServerNames, realm: &str) -> Result<Self, ChallengeError> {
        let challenge = |error: Option<&str>| Challenge { realm: realm.to_owned(), error: error.map(str::to_owned) }.write();
        challenge(None)?;
        let challenges = Diagnosis::ALL.map(|diagnosis| {
            let value = challenge(diagnosis.error()).ok().and_then(|value| HeaderValue::try_from(value).ok());
            value.unwrap_or_else(|| unreachable!("a challenge that could be written consists of visible ASCII"))
        });
        let secret = Secret::new(vec![0; 32]).unwrap_or_else(|_| unreachable!("32 bytes are a secret"));
        let kid = KeyId::new("unknown").unwrap_or_else(|_| unreachable!("the grammar allows letters"));
        let unknown_kid = Arc::new(RegisteredKey::new(kid, "nobody", secret));
        unknown_kid.revoke();
        Ok(Self {
            store,
            names,
            kinds: vec![CredentialKind::Otp],
            leeway: Self::LEEWAY,
            other_profile: None,
            challenges,
            unknown_kid,
            max_failures: Self::MAX_FAILURES,
            max_connections_per_key: Self::MAX_CONNECTIONS_PER_KEY,
            max_age: Self::MAX_AGE,
            verified_within: Self::VERIFIED_WITHIN,
            is_open: None,
            log_budget: LogBudget::new(10),
        })
    }

    /// Sets how many 401 answers one connection gets before it is closed (at least 1).
    #[must_use]
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures.max(1);
        self
    }

    /// Sets how many connections one key may have open at a time (at least 1). On further ones it is answered 429: no key keeps out the others.
    #[must_use]
    pub fn max_connections_per_key(mut self, connections: usize) -> Self {
        self.max_connections_per_key = connections.max(1);
        self
    }

    /// Sets how long a connection lives at most.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age.min(Self::FOREVER);
        self
    }

    /// Sets how long a connection may go without a verified request.
    #[must_use]
    pub fn verified_within(mut self, deadline: Duration) -> Self {
        self.verified_within = deadline.min(Self::FOREVER);
        self
    }

    /// Lets requests without a credential pass where `is_open` says so; none, unless set. It is asked for the method and the target as they were sent.
    ///
    /// Such a request reaches the application with an [`Unverified`](crate::Unverified) in its extensions and without a
    /// [`VerifiedClient`](crate::VerifiedClient). Whoever shows a credential is checked as everywhere: a right one is verified, a wrong one, and
    /// any other `Authorization` field, is refused. The server's names, the authority and CONNECT are checked in any case, and
    /// [`WELL_KNOWN_PATH`](ekm_otp::WELL_KNOWN_PATH) and what is below it are never open. A connection on which nobody was verified is the first to make
    /// room where it is full; where such a request passed, it ends once no byte has passed for [`verified_within`](Self::verified_within).
    #[must_use]
    pub fn open_to(mut self, is_open: impl Fn(&Method, &Uri) -> bool + Send + Sync + 'static) -> Self {
        self.is_open = Some(Box::new(is_open));
        self
    }

    pub(crate) fn is_open_to(&self, method: &Method, target: &Uri) -> bool {
        self.is_open.as_ref().is_some_and(|is_open| is_open(method, target))
    }

    /// The key that `kid` names in this profile. An unknown key id costs the same work as a known one: it gets a key that is never active.
    pub(crate) fn look_up(&self, kid: &KeyId, profile: Profile) -> Result<Arc<RegisteredKey>, Refusal> {
        let key = self.store.get(kid).map_err(|e| Refusal::Registry(e.0))?;
        Ok(key.filter(|key| key.profile() == profile).unwrap_or_else(|| Arc::clone(&self.unknown_kid)))
    }

    pub(crate) fn is_unknown(&self, key: &Arc<RegisteredKey>) -> bool {
        Arc::ptr_eq(key, &self.unknown_kid)
    }

    pub(crate) fn challenge(&self, diagnosis: Diagnosis) -> &HeaderValue {
        &self.challenges[diagnosis as usize]
    }

    /// How long a connection lives without a verified request, and with one.
    pub(crate) fn ages(&self) -> [Duration; 2] {
        [self.verified_within.min(self.max_age), self.max_age]
    }
}

impl LookUp for Authentication {
    fn look_up(&self, kid: &KeyId, profile: Profile) -> Result<Arc<RegisteredKey>, Refusal> {
        Self::look_up(self, kid, profile)
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication").field("names", &self.names).finish_non_exhaustive()
    }
}
