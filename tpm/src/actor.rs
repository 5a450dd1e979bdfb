//! One thread owns the TPM; handles to it are cheap. A bounded queue in, a one-shot channel out, a deadline on every answer.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::device::Device;
use crate::{KeyDescription, KeyFile, KeyKind, Parent, Password, PcrSelection, Policy, Tcti, TpmError};

/// Names a key that is to be loaded, over the lifetime of an actor.
pub(crate) type Slot = u64;

/// Whether the input and the result of a key's use travel encrypted between this process and the TPM (TCG part 1, 21: parameter
/// encryption). Creating a key always does, and so does whatever a password is shown for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusEncryption {
    /// Encrypted, in a salted session.
    #[default]
    On,
    /// In clear: whoever reads the bus sees one connection's MAC input and MAC. Some ten times cheaper for the client.
    Off,
}

/// What is the same for all that is done with a TPM.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The owner hierarchy's password, where one is set: for the H-2 primary, and to make keys persistent.
    pub owner_password: Option<Password>,
    /// The password of persistent parents.
    pub parent_password: Option<Password>,
    /// The name of the endorsement key that sessions must be salted with ([`TpmHandle::ek_name`]); the parent's key is taken where this is
    /// not set. Without it, whoever sits on the bus can pretend to be the TPM.
    pub session_key_name: Option<Vec<u8>>,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it is.
    pub kind: KeyKind,
    /// Under which key of the TPM.
    pub parent: Parent,
    /// Its password, if it shall have one. Without one it is exempt from dictionary-attack protection: there is nothing to guess.
    pub password: Option<Password>,
    /// The registers that must be as they are now (or as they are given) whenever it is used.
    pub pcrs: Option<PcrSelection>,
    /// Whether it may be moved to another TPM ([`TpmKey::duplicate`]). Then whoever can use it, and shows its password if it has one, can
    /// take it out: encrypted to a key of their own, too. It cannot be bound to registers as well.
    pub movable: bool,
}

impl NewKey {
    /// Under the H-2 primary, for whoever may use the TPM, and fixed to it.
    #[must_use]
    pub fn new(kind: KeyKind) -> Self {
        Self { kind, parent: Parent::H2Primary, password: None, pcrs: None, movable: false }
    }
}

/// Where a key is, and what it takes to use it.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In a file.
    File {
        /// The key.
        file: Box<KeyFile>,
        /// Its password.
        password: Option<Password>,
        /// How its input and result travel.
        bus: BusEncryption,
    },
    /// In the TPM, at a persistent handle.
    Handle {
        /// The handle (0x81000000 to 0x81ffffff).
        handle: u32,
        /// The key's policy: there is no file that would state it.
        policy: Policy,
        /// Its password.
        password: Option<Password>,
        /// How its input and result travel.
        bus: BusEncryption,
    },
}

impl KeySource {
    /// At a persistent handle. Where the key has a policy, that must be stated: there is no file that does.
    #[must_use]
    pub fn handle(handle: u32, policy: Policy) -> Self {
        Self::Handle { handle, policy, password: None, bus: BusEncryption::On }
    }

    /// Sets the key's password.
    #[must_use]
    pub fn with_password(mut self, new: Option<Password>) -> Self {
        match &mut self {
            Self::File { password, .. } | Self::Handle { password, .. } => *password = new,
        }
        self
    }

    /// Sets how its input and result travel.
    #[must_use]
    pub fn with_bus(mut self, encryption: BusEncryption) -> Self {
        match &mut self {
            Self::File { bus, .. } | Self::Handle { bus, .. } => *bus = encryption,
        }
        self
    }

    pub(crate) fn password(&self) -> Option<&Password> {
        match self {
            Self::File { password, .. } | Self::Handle { password, .. } => password.as_ref(),
        }
    }

    pub(crate) fn bus(&self) -> BusEncryption {
        match self {
            Self::File { bus, .. } | Self::Handle { bus, .. } => *bus,
        }
    }
}

/// A key without a password.
impl From<KeyFile> for KeySource {
    fn from(file: KeyFile) -> Self {
        Self::File { file: Box::new(file), password: None, bus: BusEncryption::On }
    }
}

type Job = Box<dyn FnOnce(&mut Device) + Send>;

/// How many requests may wait for the TPM.
const QUEUE: usize = 64;
/// How long the last handle's drop waits for the TPM to be left clean.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A handle to the thread that owns one TPM connection. Cloning is cheap.
///
/// Dropping the last handle (keys hold one too) flushes what is loaded and waits for that, at most 2 seconds.
#[derive(Clone)]
pub struct TpmHandle {
    thread: Arc<Thread>,
    deadline: Duration,
}

impl TpmHandle {
    /// How long an answer may take unless [`with_deadline`](Self::with_deadline) says otherwise: 30 seconds. Hardware takes up to
    /// some seconds for a primary key.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

    /// Starts the thread. The TPM itself is first contacted on first use.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn open(tcti: Tcti) -> Result<Self, TpmError> {
        Self::open_with(tcti, Settings::default())
    }

    /// As [`open`](Self::open), where the TPM has passwords of its own or its endorsement key is pinned.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn open_with(tcti: Tcti, settings: Settings) -> Result<Self, TpmError> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let (done, ended) = sync_channel::<()>(1);
        std::thread::Builder::new()
            .name("tpm".into())
            .spawn(move || {
                let mut device = Device::new(tcti, settings);
                for job in queue {
                    job(&mut device);
                }
                // Flushes every handle before the end is announced.
                drop(device);
                drop(done);
            })
            .map_err(|_| TpmError::ThreadEnded)?;
        let thread = Thread { jobs: Some(jobs), ended: Mutex::new(ended), next_slot: AtomicU64::new(0) };
        Ok(Self { thread: Arc::new(thread), deadline: Self::DEFAULT_DEADLINE })
    }

    /// The same TPM, with another deadline for each answer.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Random bytes from the TPM (at most 32), encrypted on the bus in a session that is salted against `salt_key`.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn random(&self, salt_key: Parent, len: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(move |device| device.random(salt_key, len.min(32))).await
    }

    /// Makes a key inside the TPM (TPM2_Create). Its private part is in no other place, ever, unless it is made movable.
    ///
    /// # Errors
    /// As [`TpmError`] tells; HMAC keys need a secret that two sides share: [`create_hmac_key`](Self::create_hmac_key).
    pub async fn create_key(&self, new: NewKey) -> Result<KeyFile, TpmError> {
        if new.kind == KeyKind::HmacSha256 {
            return Err(TpmError::NotForThis { kind: new.kind.to_string(), operation: "be made without a secret that two sides share" });
        }
        self.run(move |device| device.create(&new, None)).await
    }

    /// Puts a secret into the TPM as an HMAC-SHA256 key (TPM2_Create with sensitive data). One of more than 64 bytes is hashed first, as
    /// HMAC itself does (RFC 2104 §2). The secret is encrypted on the bus, and the key can never be read or, unless it is made movable,
    /// moved out of this TPM.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn create_hmac_key(&self, new: NewKey, secret: Zeroizing<Vec<u8>>) -> Result<KeyFile, TpmError> {
        if new.kind != KeyKind::HmacSha256 {
            return Err(TpmError::NotForThis { kind: new.kind.to_string(), operation: "take a shared secret" });
        }
        let secret = if secret.len() > 64 { Zeroizing::new(Sha256::digest(&secret).to_vec()) } else { secret };
        self.run(move |device| device.create(&new, Some(&secret))).await
    }

    /// The policy that asks for these registers, as they are now where no value is given, and for the key's password where `needs_password`.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn policy(&self, pcrs: PcrSelection, needs_password: bool) -> Result<Policy, TpmError> {
        self.run(move |device| device.policy_now(&pcrs, needs_password)).await
    }

    /// The policy that a key asks for, if it consists of these registers as they are now (or as they are given), one by one or, as
    /// tpm2-tools make it, all together, with the key's password or without: for keys whose file does not state their policy. `auth_policy` is the key's
    /// ([`KeyDescription::auth_policy`]).
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`OtherPolicy`](TpmError::OtherPolicy) where it asks for something else.
    pub async fn policy_for(&self, pcrs: PcrSelection, auth_policy: &[u8]) -> Result<Policy, TpmError> {
        let auth_policy = auth_policy.to_vec();
        self.run(move |device| device.policy_for(&pcrs, &auth_policy)).await
    }

    /// The name of the TPM's endorsement key (template L-2, ECC P-256), in hexadecimal digits: to be pinned with
    /// [`Settings::session_key_name`].
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn ek_name(&self) -> Result<String, TpmError> {
        self.run(Device::ek_name).await
    }

    /// A key to use. It is loaded on first use, or by [`TpmKey::prepare`], and stays loaded until the `TpmKey` is dropped.
    #[must_use]
    pub fn load(&self, source: impl Into<KeySource>) -> TpmKey {
        let slot = self.thread.next_slot.fetch_add(1, Ordering::Relaxed);
        TpmKey { tpm: self.clone(), slot, source: Arc::new(source.into()) }
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Device) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (reply, answer) = oneshot::channel();
        self.thread.submit(Box::new(move |device| {
            // Whoever asked may have given up while the TPM was frozen.
            if !reply.is_closed() {
                let _ = reply.send(operation(device));
            }
        }))?;
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(TpmError::ThreadEnded),
            Err(_) => Err(TpmError::Deadline(self.deadline)),
        }
    }
}

impl fmt::Debug for TpmHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmHandle").finish_non_exhaustive()
    }
}

/// A key in the TPM. Its private part never leaves it. What it can do is told by its [`KeyKind`]; asked for anything else, it answers
/// [`TpmError::NotForThis`].
pub struct TpmKey {
    pub(crate) tpm: TpmHandle,
    pub(crate) slot: Slot,
    pub(crate) source: Arc<KeySource>,
}

impl TpmKey {
    /// Loads the key now rather than on first use, so that the first use is one command too. Tells what it is.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn prepare(&self) -> Result<KeyDescription, TpmError> {
        self.run(|device, slot, source| device.load(slot, source)).await
    }

    /// HMAC-SHA256 of `input` (at most 1024 bytes) in one TPM2_HMAC; with a policy, that is replayed before.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn hmac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        let input = Zeroizing::new(input.to_vec());
        self.run(move |device, slot, source| device.hmac(slot, source, &input)).await
    }

    /// Gives the key another password, or takes it away (TPM2_ObjectChangeAuth). The old file goes on working with the old password:
    /// delete it.
    ///
    /// # Errors
    /// As [`TpmError`] tells; persistent keys, and a password that is part of the policy and would be taken away, are refused.
    pub async fn change_password(&self, new: Option<Password>) -> Result<KeyFile, TpmError> {
        self.run(move |device, slot, source| device.change_password(slot, source, new.as_ref())).await
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Device, Slot, &KeySource) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (slot, source) = (self.slot, Arc::clone(&self.source));
        self.tpm.run(move |device| operation(device, slot, &source)).await
    }
}

impl Drop for TpmKey {
    fn drop(&mut self) {
        let slot = self.slot;
        // Where the queue is full or the thread has ended, the end of the thread flushes it.
        let _ = self.tpm.thread.submit(Box::new(move |device| device.unload(slot)));
    }
}

impl fmt::Debug for TpmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmKey").finish_non_exhaustive()
    }
}

struct Thread {
    jobs: Option<SyncSender<Job>>,
    ended: Mutex<Receiver<()>>,
    next_slot: AtomicU64,
}

impl Thread {
    fn submit(&self, job: Job) -> Result<(), TpmError> {
        let jobs = self.jobs.as_ref().ok_or(TpmError::ThreadEnded)?;
        jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => TpmError::Busy(QUEUE),
            TrySendError::Disconnected(_) => TpmError::ThreadEnded,
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.ended.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(CLOSE_WITHIN) {
            tracing::warn!("the TPM does not answer; what this process loaded may be left in it");
        }
    }
}
