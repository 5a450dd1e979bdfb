//! The state that a connection's stream, its authenticator and the registry share: how a connection is ended from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake};

use futures_util::task::AtomicWaker;

/// How far a connection's end has come. It only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    Open = 0,
    /// No new requests; what is under way may end, within a grace time.
    Closing = 1,
    /// Reads and writes fail.
    Cut = 2,
    /// The stream is gone.
    Closed = 3,
}

#[derive(Debug, Default)]
pub(crate) struct Lifeline {
    state: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
    server: AtomicWaker,
}

/// Wakes whoever reads and whoever writes: the waker of the stream's timer.
impl Wake for Lifeline {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl Lifeline {
    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Open,
            1 => State::Closing,
            2 => State::Cut,
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
