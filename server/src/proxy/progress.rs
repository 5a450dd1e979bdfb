//! How far a request's body has come: read by the task that waits for the answer, written by the one that sends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

/// Shared by a request's body and whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When something last moved.
    last: Instant,
    /// The upstream could take more, and the client has not sent it.
    waits_for_client: bool,
    has_ended: bool,
    is_cancelled: bool,
    /// The upstream said that it wants the body, or nobody asked it.
    is_wanted: bool,
    sender: Option<Waker>,
}

impl Progress {
    /// `is_wanted`: the body is sent without asking.
    pub(super) fn new(is_wanted: bool) -> Self {
        Self(Mutex::new(State {
            last: Instant::now(),
            waits_for_client: false,
            has_ended: false,
            is_cancelled: false,
            is_wanted,
            sender: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client sent something, and the upstream gets it.
    pub(super) fn moved(&self, has_ended: bool) {
        let mut state = self.state();
        (state.last, state.waits_for_client, state.has_ended) = (Instant::now(), false, has_ended);
    }

    /// The upstream could take more, and there is nothing.
    pub(super) fn starved(&self) {
        let mut state = self.state();
        if !state.waits_for_client {
            (state.last, state.waits_for_client) = (Instant::now(), true);
        }
    }

    /// When something last moved, and whether the client is waited for.
    pub(super) fn last(&self) -> (Instant, bool) {
        let state = self.state();
        (state.last, state.waits_for_client)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Nobody wants the rest: the exchange is over.
    pub(super) fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        wake(&mut state);
    }

    /// The upstream wants the body.
    pub(super) fn want(&self) {
        let mut state = self.state();
        state.is_wanted = true;
        wake(&mut state);
    }

    /// Whether the body may be sent (`None`: not at all any more). Otherwise the waker is called when that changes.
    pub(super) fn may_send(&self, waker: &Waker) -> Option<bool> {
        let mut state = self.state();
        if state.is_cancelled {
            return None;
        }
        if !state.sender.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.sender = Some(waker.clone());
        }
        Some(state.is_wanted)
    }
}

fn wake(state: &mut State) {
    if let Some(sender) = state.sender.take() {
        sender.wake();
    }
}

/// Cancels the rest of a request's body when it is dropped: nobody waits for the exchange any more.
#[derive(Debug)]
pub(super) struct CancelledOnDrop(Option<Arc<Progress>>);

impl CancelledOnDrop {
    pub(super) fn new(progress: Option<Arc<Progress>>) -> Self {
        Self(progress)
    }

    pub(super) fn progress(&self) -> Option<&Progress> {
        self.0.as_deref()
    }

    /// The body goes on.
    pub(super) fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelledOnDrop {
    fn drop(&mut self) {
        if let Some(progress) = &self.0 {
            progress.cancel();
        }
    }
}
