//! The state that a connection's stream, its authenticator and the registry share: how a connection is ended from outside, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use crate::closed::Closed;

/// How far a connection's end has come. It only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    Open = 0,
    /// No new requests; what is under way may end, and whoever asked for it minds the time.
    Draining = 1,
    /// No new requests; what is under way may end, within a grace time.
    Closing = 2,
    /// Reads and writes fail.
    Cut = 3,
    /// The stream is gone.
    Closed = 4,
}

/// How much a connection has shown. It only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Not a byte.
    Silent = 0,
    Handshaking = 1,
    Unverified = 2,
    Verified = 3,
}

/// How many connections this process has seen.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(crate) struct Lifeline {
    /// No other connection of this process has it.
    id: u64,
    /// When it was accepted. Its deadlines are told by their distance from it, in nanoseconds.
    start: Instant,
    state: AtomicU8,
    /// A [`Closed`]: what began the end. [`Closed::Peer`] while nothing else did.
    why: AtomicU8,
    stage: AtomicU8,
    /// Whether a request has come.
    is_asked: AtomicBool,
    /// Whether it drains from its first request on.
    drains_when_asked: AtomicBool,
    /// Where its key keeps it, plus one; 0 while no key does.
    place_at_key: AtomicUsize,
    /// Whether the connection's timer has fired since it was last looked at.
    is_due: AtomicBool,
    /// Whether a request passed on it that needs no credential.
    was_let_in: AtomicBool,
    head_by: AtomicU64,
    head_is_late: AtomicBool,
    /// How long a header section may take from its first bytes on.
    head_within: AtomicU64,
    /// Whether bytes of the section that is awaited have come, and its time was not shortened yet.
    head_began: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    server: AtomicWaker,
}

/// The waker of the connection's timer: wakes whoever reads and whoever writes.
impl Wake for Lifeline {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }
}

impl Lifeline {
    pub(crate) fn new() -> Self {
        Self {
            id: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            start: Instant::now(),
            state: AtomicU8::new(State::Open as u8),
            why: AtomicU8::new(Closed::Peer as u8),
            stage: AtomicU8::new(Stage::Silent as u8),
            is_asked: AtomicBool::new(false),
            drains_when_asked: AtomicBool::new(false),
            place_at_key: AtomicUsize::new(0),
            is_due: AtomicBool::new(false),
            was_let_in: AtomicBool::new(false),
            head_by: AtomicU64::new(u64::MAX),
            head_is_late: AtomicBool::new(false),
            head_within: AtomicU64::new(u64::MAX),
            head_began: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            server: AtomicWaker::new(),
        }
    }

    /// The instant at that distance from the start.
    pub(crate) fn instant(&self, nanoseconds: u64) -> Instant {
        self.start + Duration::from_nanos(nanoseconds)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// How long ago it was accepted.
    pub(crate) fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// What began the end.
    pub(crate) fn why(&self) -> Closed {
        Closed::of(self.why.load(Ordering::Relaxed))
    }

    /// Brings the end on that far, for that reason: if it had not begun for another.
    pub(crate) fn end(&self, to: State, why: Closed) {
        let _ = self.why.compare_exchange(Closed::Peer as u8, why as u8, Ordering::Relaxed, Ordering::Relaxed);
        self.advance(to);
    }

    /// Lets what is under way end, or the first request where none has come yet: whoever has just connected expects an answer.
    pub(crate) fn drain(&self) {
        self.drains_when_asked.store(true, Ordering::SeqCst);
        if self.is_asked() {
            self.end(State::Draining, Closed::Drained);
        }
    }

    /// A request has come. It and [`Self::drain`] both look after they have told: one of them sees the other.
    pub(crate) fn asked(&self) {
        if !self.is_asked.load(Ordering::Relaxed) {
            self.is_asked.store(true, Ordering::SeqCst);
            if self.drains_when_asked.load(Ordering::SeqCst) {
                self.end(State::Draining, Closed::Drained);
            }
        }
    }

    /// Whether a request has come.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::SeqCst)
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Open,
            1 => State::Draining,
            2 => State::Closing,
            3 => State::Cut,
            _ => State::Closed,
        }
    }

    pub(crate) fn advance(&self, to: State) {
        if self.state.fetch_max(to as u8, Ordering::AcqRel) < to as u8 {
            self.reader.wake();
            self.writer.wake();
            self.server.wake();
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Silent,
            1 => Stage::Handshaking,
            2 => Stage::Unverified,
            _ => Stage::Verified,
        }
    }

    pub(crate) fn advance_stage(&self, to: Stage) {
        self.stage.fetch_max(to as u8, Ordering::AcqRel);
    }

    /// Where its key keeps it. Read and set under that key's lock.
    pub(crate) fn place_at_key(&self) -> Option<usize> {
        self.place_at_key.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn set_place_at_key(&self, place: Option<usize>) {
        self.place_at_key.store(place.map_or(0, |place| place + 1), Ordering::Relaxed);
    }

    /// A request passes that needs no credential.
    pub(crate) fn let_in(&self) {
        self.was_let_in.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_let_in(&self) -> bool {
        self.was_let_in.load(Ordering::Relaxed)
    }

    /// Whether the timer has fired: cheaper than a look at the clock.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire)
    }

    /// The timer is looked at now.
    pub(crate) fn look_at_timer(&self) {
        self.is_due.store(false, Ordering::Release);
    }

    /// The distance of `instant` from the start.
    pub(crate) fn nanoseconds(&self, instant: Instant) -> u64 {
        // 584 years are enough.
        u64::try_from(instant.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Until when a request's header section must have come; `u64::MAX` while none is awaited.
    pub(crate) fn head_by(&self) -> u64 {
        self.head_by.load(Ordering::Acquire)
    }

    pub(crate) fn await_head_by(&self, nanoseconds: u64) {
        self.head_is_late.store(false, Ordering::Release);
        self.head_began.store(false, Ordering::Relaxed);
        self.head_by.store(nanoseconds, Ordering::Release);
    }

    /// Sets how long a header section may take from its first bytes on.
    pub(crate) fn set_head_within(&self, nanoseconds: u64) {
        self.head_within.store(nanoseconds, Ordering::Relaxed);
    }

    /// Bytes have come. Whether they are all of a section, is not known yet: its time is shortened when more must be waited for.
    pub(crate) fn bytes_came(&self) {
        if self.head_by.load(Ordering::Relaxed) != u64::MAX {
            self.head_began.store(true, Ordering::Relaxed);
        }
    }

    /// More bytes are waited for. A section of which some have come has no more time than a section may take.
    pub(crate) fn shorten_head(&self) {
        if self.head_began.load(Ordering::Relaxed) && self.head_began.swap(false, Ordering::Relaxed) {
            let by = self.nanoseconds(Instant::now()).saturating_add(self.head_within.load(Ordering::Relaxed));
            self.head_by.fetch_min(by, Ordering::AcqRel);
        }
    }

    pub(crate) fn head_is_late(&self) -> bool {
        self.head_is_late.load(Ordering::Acquire)
    }

    /// The clock has passed `head_by`.
    pub(crate) fn head_came_late(&self) {
        let _ = self.why.compare_exchange(Closed::Peer as u8, Closed::Idle as u8, Ordering::Relaxed, Ordering::Relaxed);
        self.head_is_late.store(true, Ordering::Release);
        self.head_by.store(u64::MAX, Ordering::Release);
    }

    pub(crate) fn register_reader(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }

    pub(crate) fn register_writer(&self, cx: &Context<'_>) {
        self.writer.register(cx.waker());
    }

    /// Ready once the connection is to be closed. One task may wait at a time.
    pub(crate) fn poll_closing(&self, cx: &Context<'_>) -> Poll<()> {
        self.server.register(cx.waker());
        if self.state() == State::Open { Poll::Pending } else { Poll::Ready(()) }
    }
}
