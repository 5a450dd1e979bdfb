//! `--tcp`: connections that speak no HTTP, each carried through a tunnel of its own to one target behind the server.

use std::sync::Arc;

use ekm_otp::tunnel::Target;

use super::super::connect::{self, Local};
use super::accept::{Caller, Serve, Stream};
use super::failure::Failure;
use super::running::Running;
use super::shared::Shared;

/// Serves the connections of one `--tcp`.
#[derive(Clone, Debug)]
pub(super) struct Tunnels {
    pub(super) shared: Arc<Shared>,
    /// Whose rules say which server, and for whom.
    pub(super) door: usize,
    pub(super) target: Target,
}

impl Serve for Tunnels {
    /// A tunnel that stands goes on while the process drains, for as long as that may take: nobody knows where in the stream it could end.
    async fn serve(&self, mut stream: Stream, caller: Caller, _: Running) {
        let (log, target) = (&self.shared.log, &self.target);
        let rules = self.shared.table.load().rules.get(self.door).cloned();
        let Some(route) = rules.as_ref().and_then(|rules| rules.routes.first()) else { return stream.reset() };
        if !route.admits(&caller) {
            let failure = Failure::Caller;
            self.shared.metrics.failed(&route.origin.label, &failure);
            log.refusal("tcp caller", || format!("a connection of {caller} to {target} is refused: {}", failure.text()));
            return stream.reset();
        }
        let _open = (self.shared.metrics.connection(), self.shared.metrics.stream());
        let carried = connect::serve(&route.origin.client, target, stream, self.shared.times.stream_idle).await;
        match carried {
            Ok(carried) => match carried.fault {
                Some(fault) => log.refusal("tcp cut", || format!("the tunnel to {target} of {caller} {fault}")),
                None if log.is_verbose => {
                    log.line(format!("tcp {target}: {} bytes there, {} back (for {caller})", carried.to_target, carried.from_target))
                }
                None => {}
            },
            Err(error) => log.refusal("tcp", || format!("no tunnel to {target} for {caller}: {error}")),
        }
    }
}

impl Local for Stream {
    fn reset(&mut self) {
        if let Self::Tcp(stream) = self {
            // Where that is not possible, the end looks like one.
            let _ = stream.set_zero_linger();
        }
    }
}
