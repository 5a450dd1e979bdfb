//! How far the process is on its way: serving, draining, ending. Whatever runs holds a [`Running`], and is waited for.

use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Serving,
    /// No new connections, no new requests; what is under way goes on.
    Draining,
    /// What is left is dropped.
    Ending,
}

/// Held by the one who decides.
#[derive(Debug)]
pub(crate) struct Lifecycle(watch::Sender<Phase>);

/// Held by whatever runs, clones included, until it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Running(watch::Receiver<Phase>);

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    pub(crate) fn running(&self) -> Running {
        Running(self.0.subscribe())
    }

    /// Lets what is under way end, for `limit` at most; whether all did.
    pub(super) async fn drain(&self, limit: Duration) -> bool {
        self.0.send_replace(Phase::Draining);
        if tokio::time::timeout(limit, self.0.closed()).await.is_ok() {
            return true;
        }
        self.0.send_replace(Phase::Ending);
        // Each is dropped at its next step.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.0.closed()).await;
        false
    }
}

impl Running {
    /// Waits until nothing new is to be begun.
    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    async fn reached(&self, phase: Phase) {
        // Nobody decides any more: the process ends.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }

    /// Runs a task that is waited for when the process drains, and dropped when that took too long.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let running = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = running.reached(Phase::Ending) => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_under_way_is_waited_for_and_dropped_when_it_takes_too_long() {
        let life = Lifecycle::new();
        let running = life.running();
        let (told, heard) = tokio::sync::oneshot::channel();
        let task = running.clone();
        running.spawn(async move {
            task.draining().await;
            let _ = told.send(());
        });
        drop(running);
        assert!(life.drain(Duration::from_secs(30)).await);
        heard.await.expect("it ended by itself");

        let life = Lifecycle::new();
        life.running().spawn(std::future::pending());
        assert!(!life.drain(Duration::from_millis(10)).await);
        tokio::time::timeout(Duration::from_secs(10), life.0.closed()).await.expect("it was dropped");
    }
}
