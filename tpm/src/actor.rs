//! One thread owns the TPM; handles to it are cheap. A bounded queue in, a one-shot channel out, a deadline on every answer.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::device::{BusEncryption, Device, Slot};
use crate::{KeyFile, Parent, Tcti, TpmError};

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
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let (done, ended) = sync_channel::<()>(1);
        std::thread::Builder::new()
            .name("tpm".into())
            .spawn(move || {
                let mut device = Device::new(tcti);
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

    /// Puts a secret of 1 to 64 bytes under `parent` as an HMAC-SHA256 key (TPM2_Create with sensitive data). The secret is encrypted
    /// on the bus, and the key can never be read or moved out of this TPM.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn create_hmac_key(&self, parent: Parent, secret: Zeroizing<Vec<u8>>) -> Result<KeyFile, TpmError> {
        self.run(move |device| device.create_hmac_key(parent, &secret)).await
    }

    /// A key to use. It is loaded on first use, or by [`TpmKey::prepare`], and stays loaded until the `TpmKey` is dropped.
    #[must_use]
    pub fn load(&self, file: KeyFile, bus: BusEncryption) -> TpmKey {
        let slot = self.thread.next_slot.fetch_add(1, Ordering::Relaxed);
        TpmKey { tpm: self.clone(), slot, file: Arc::new(file), bus }
    }

    async fn run<T: Send + 'static>(
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

/// An HMAC-SHA256 key in the TPM. The secret never leaves it.
pub struct TpmKey {
    tpm: TpmHandle,
    slot: Slot,
    file: Arc<KeyFile>,
    bus: BusEncryption,
}

impl TpmKey {
    /// Loads the key now rather than on first use, so that the first HMAC is one command too.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn prepare(&self) -> Result<(), TpmError> {
        let (slot, file) = (self.slot, Arc::clone(&self.file));
        self.tpm.run(move |device| device.load(slot, &file)).await
    }

    /// HMAC-SHA256 of `input` (at most 1024 bytes) in one TPM2_HMAC.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn hmac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        let (slot, file, bus) = (self.slot, Arc::clone(&self.file), self.bus);
        let input = Zeroizing::new(input.to_vec());
        self.tpm.run(move |device| device.hmac(slot, &file, &input, bus)).await
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
