//! One thread for each processor, with a runtime and a listening socket of its own: a connection stays on the thread that accepted it, and no
//! request passes from one to another.

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// As many connections wait to be accepted, per socket; the kernel may allow fewer.
const BACKLOG: u32 = 1024;

/// A listening socket per processor, all on one address (SO_REUSEPORT): the kernel shares new connections out among them.
pub(crate) fn listen(address: SocketAddr) -> io::Result<(Vec<std::net::TcpListener>, SocketAddr)> {
    let bound = |address: SocketAddr, is_shared: bool| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(is_shared)?;
        socket.bind(address)?;
        Ok::<_, io::Error>(socket)
    };
    // Not shared, and it never listens: so who listens there already is found, with SO_REUSEPORT or without; a port is chosen where that was left
    // open, and is held until all have it.
    let first = bound(address, false)?;
    let address = first.local_addr()?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let sockets = (0..processors).map(|_| bound(address, true)?.listen(BACKLOG)?.into_std()).collect::<io::Result<_>>()?;
    Ok((sockets, address))
}

/// A thread that accepts connections and serves them.
pub(crate) struct Worker {
    thread: JoinHandle<()>,
    runtime: Handle,
    accepting: AbortHandle,
    end: oneshot::Sender<()>,
}

impl Worker {
    /// `accept` gets the socket, and runs until it is told to stop.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        socket: std::net::TcpListener,
        accept: impl FnOnce(TcpListener) -> F,
    ) -> io::Result<Self> {
        let runtime = runtime()?;
        let socket = {
            let _runtime = runtime.enter();
            TcpListener::from_std(socket)?
        };
        let accepting = runtime.spawn(accept(socket)).abort_handle();
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

    /// Closes the socket. What was accepted goes on.
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
