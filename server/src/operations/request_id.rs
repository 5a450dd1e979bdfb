//! What a request is called in the logs, here and behind the proxy.

use std::fmt;
use std::sync::OnceLock;

use http::HeaderValue;

/// The name of one request: its connection's, and its place on it. No two requests of a fleet have the same.
///
/// Always made here: what a client sends under that name is its own word, and may be anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    connection: u64,
    request: u64,
}

impl RequestId {
    /// Of the connection of this number, the request of this number on it, from 1 on.
    pub(crate) fn new(connection: u64, request: u64) -> Self {
        Self { connection, request }
    }

    /// The connection's number in this process.
    pub(crate) fn connection(self) -> u64 {
        self.connection
    }

    /// As a field's value: it is visible ASCII.
    pub(crate) fn header_value(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

/// `5f0c2a9e71b3d846-2a-1`: the process, the connection, the request; in hexadecimal.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{:x}", process(), self.connection, self.request)
    }
}

/// 64 random bits, so that the numbers that start anew with each process are no other process's.
fn process() -> &'static str {
    static PROCESS: OnceLock<String> = OnceLock::new();
    PROCESS.get_or_init(|| {
        let mut random = [0; 8];
        // Without random numbers, the time tells processes apart as well; nothing secret depends on it.
        if getrandom::fill(&mut random).is_err() {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            random = u64::try_from(since.as_nanos()).unwrap_or_default().to_be_bytes();
        }
        format!("{:016x}", u64::from_be_bytes(random))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_process_connection_and_place() {
        let id = RequestId::new(42, 1);
        let shown = id.to_string();
        let parts: Vec<&str> = shown.split('-').collect();
        assert_eq!((parts[0].len(), parts[1], parts[2], parts.len()), (16, "2a", "1", 3), "{shown}");
        assert_eq!(id.header_value(), shown);
    }
}
