//! A request whose answer begins a stream: it is over when that is, not when the answer's head is out.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::exchange::End;
use super::in_flight::InFlight;

/// Holds the request until the stream has ended. Whoever runs the stream puts a clone into its answer's extensions; where it is dropped with the stream
/// unended, the request was cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lasting(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// The answer has not gone out yet.
    #[default]
    Before,
    Under(Box<InFlight>),
    /// With bytes in, bytes out, and whether it was whole.
    After(u64, u64, bool),
}

impl Lasting {
    /// The answer goes out.
    pub(super) fn watch(&self, request: Box<InFlight>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::After(bytes_in, bytes_out, is_whole) => record(request, bytes_in, bytes_out, is_whole),
            _ => *state = State::Under(request),
        }
    }

    /// The stream has ended.
    pub(crate) fn ended(&self, bytes_in: u64, bytes_out: u64, is_whole: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Under(request) = std::mem::replace(&mut *state, State::After(bytes_in, bytes_out, is_whole)) {
            record(request, bytes_in, bytes_out, is_whole);
        }
    }
}

fn record(mut request: Box<InFlight>, bytes_in: u64, bytes_out: u64, is_whole: bool) {
    let exchange = &mut request.exchange;
    exchange.bytes_in = Some(Arc::new(AtomicU64::new(bytes_in)));
    exchange.bytes_out = bytes_out;
    exchange.end = if is_whole { End::Whole } else { End::Cut };
}
