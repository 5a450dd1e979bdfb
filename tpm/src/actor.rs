//! One thread owns the TPM; handles to it are cheap. A bounded queue in, a one-shot channel out, a deadline on every answer.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::{KeySource, Settings, Tcti, TpmError};

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

    /// A key to use. It is loaded on first use, or by [`TpmKey::prepare`], and stays loaded until the `TpmKey` is dropped.
    #[must_use]
    pub fn load(&self, source: impl Into<KeySource>) -> TpmKey {
        TpmKey { tpm: self.clone(), slot: self.new_slot(), source: Arc::new(source.into()) }
    }

    pub(crate) fn new_slot(&self) -> Slot {
        self.thread.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    /// Flushes what is in a slot. Where the queue is full or the thread has ended, the end of the thread does.
    pub(crate) fn unload(&self, slot: Slot) {
        let _ = self.thread.submit(Box::new(move |device| device.unload(slot)));
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

/// A key in the TPM. Its private part never leaves it. What it can do is told by its [`KeyKind`](crate::KeyKind); asked for anything else, it answers
/// [`TpmError::NotForThis`].
pub struct TpmKey {
    pub(crate) tpm: TpmHandle,
    pub(crate) slot: Slot,
    pub(crate) source: Arc<KeySource>,
}

impl TpmKey {
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
        self.tpm.unload(self.slot);
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
