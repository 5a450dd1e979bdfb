//! One thread for each processor, with a runtime and listening sockets of its own: a connection stays on the thread that accepted it, and no
//! request passes from one to another.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::doors::{Socket, Sockets};

/// How many there are: one for each processor.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A thread that accepts connections and serves them.
pub(crate) struct Worker {
    thread: JoinHandle<()>,
    runtime: Handle,
    accepting: AbortHandle,
    end: oneshot::Sender<()>,
}

impl Worker {
    /// `accept` gets the sockets, and runs until it is told to stop.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        sockets: Vec<Socket>,
        accept: impl FnOnce(Sockets) -> F,
    ) -> io::Result<Self> {
        let runtime = runtime()?;
        let sockets = {
            let _runtime = runtime.enter();
            Sockets::new(sockets)?
        };
        let accepting = runtime.spawn(accept(sockets)).abort_handle();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("worker".into()).spawn(move || {
            // An error means that the sender is gone: the same.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { thread, runtime: handle, accepting, end })
    }

    /// Its runtime, for who asks whether it lives.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Closes the sockets. What was accepted goes on.
    pub(crate) fn stop_accepting(&self) {
        self.accepting.abort();
    }

    /// Cuts what still goes on.
    pub(crate) fn end(self) {
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

/// For one thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
