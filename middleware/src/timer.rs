//! The one timer of a connection, for all its deadlines, and the face of it that hyper sees.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::lifeline::Lifeline;

/// Fires at the deadline that was set, or at the one for a request's header section, whichever comes first.
///
/// Deadlines move with each request, and most of them never come. So the runtime's timer is set to the first of them and left alone when
/// they move on: when it fires, it is set to whichever is the next then. What a request pays is a look at a flag.
pub(crate) struct ConnectionTimer {
    timer: Pin<Box<tokio::time::Sleep>>,
    /// What `timer` is set to. This and the other times are nanoseconds from the [`Lifeline`]'s start.
    set_to: u64,
    deadline: u64,
}

impl ConnectionTimer {
    pub(crate) fn new(lifeline: &Arc<Lifeline>, deadline: u64) -> Self {
        let mut timer = Box::pin(tokio::time::sleep_until(lifeline.instant(deadline)));
        poll(&mut timer, lifeline);
        Self { timer, set_to: deadline, deadline }
    }

    /// Moves the deadline.
    pub(crate) fn set(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    /// Whether the deadline has passed. While it has not, the lifeline's reader and writer will be woken when it does: so it is asked again
    /// after a deadline was set.
    pub(crate) fn is_over(&mut self, lifeline: &Arc<Lifeline>) -> bool {
        if lifeline.is_due() {
            lifeline.look_at_timer();
            let now = lifeline.nanoseconds(tokio::time::Instant::now());
            if lifeline.head_by() <= now {
                lifeline.head_came_late();
            }
            if self.deadline <= now {
                // It has fired. Whoever asks again, with the next deadline, sets it again.
                self.set_to = u64::MAX;
                return true;
            }
            self.move_to(self.deadline.min(lifeline.head_by()), lifeline);
        } else {
            let first = self.deadline.min(lifeline.head_by());
            if first < self.set_to {
                self.move_to(first, lifeline);
            }
        }
        false
    }

    fn move_to(&mut self, deadline: u64, lifeline: &Arc<Lifeline>) {
        self.set_to = deadline;
        self.timer.as_mut().reset(lifeline.instant(deadline));
        poll(&mut self.timer, lifeline);
    }
}

impl fmt::Debug for ConnectionTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTimer").field("deadline", &Duration::from_nanos(self.deadline)).finish_non_exhaustive()
    }
}

/// Who is woken is always the lifeline: a timer wakes one task only, and that may be the one that does not come back.
fn poll(timer: &mut Pin<Box<tokio::time::Sleep>>, lifeline: &Arc<Lifeline>) {
    let waker = Waker::from(Arc::clone(lifeline));
    if timer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
        waker.wake();
    }
}

/// hyper's timer for an HTTP/1 connection's header sections, the only thing that it times: no timer of its own.
#[derive(Debug)]
pub(crate) struct HeadTimer(pub(crate) Arc<Lifeline>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.await_head_by(self.0.nanoseconds(deadline.into()));
        Box::pin(HeadSleep(Arc::clone(&self.0)))
    }

    /// Not by way of a new one: the old one's end would take back the new one's deadline.
    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.0.await_head_by(self.0.nanoseconds(deadline.into()));
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct HeadSleep(Arc<Lifeline>);

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // Polled after a read that waits: that has looked at the timer, and will be woken by it.
        if self.0.head_is_late() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The section has come.
impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.0.await_head_by(u64::MAX);
    }
}
