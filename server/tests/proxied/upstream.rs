//! An upstream on a raw socket: it writes down every byte that reaches it, and answers what it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers each request with the same bytes.
pub struct Recorder {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    pub connections: Arc<AtomicUsize>,
}

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

impl Recorder {
    pub async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener, answer)
    }

    pub fn on(listener: TcpListener, answer: &'static [u8]) -> Self {
        let address = listener.local_addr().expect("an address");
        let (received, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (kept, counted) = (Arc::clone(&received), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer, Arc::clone(&kept)));
            }
        });
        Self { address, received, connections }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came, a request each; what followed one without being one is one, too.
    pub fn requests(&self) -> Vec<String> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The only request that came.
    pub fn request(&self) -> String {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }
}

async fn serve(mut stream: TcpStream, answer: &'static [u8], received: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = end_of_request(&buffer) {
            let rest = buffer.split_off(end);
            received.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::replace(&mut buffer, rest));
            if stream.write_all(answer).await.is_err() {
                return;
            }
            if !answer.windows(7).any(|bytes| bytes == b"Length:" || bytes == b"chunked" || bytes == b"304 Not" || bytes == b"204 No ") {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            if !buffer.is_empty() {
                received.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
            }
            return;
        }
    }
}

/// Where a request ends, as a simple server sees it: chunks count before a length.
pub fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let find = |from: usize, what: &[u8]| {
        bytes.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at + what.len())
    };
    let head = find(0, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("\r\ntransfer-encoding: chunked\r\n") {
        return if bytes[head..].starts_with(b"0\r\n") {
            find(head, b"\r\n\r\n")
        } else {
            find(find(head, b"\r\n0\r\n")? - 2, b"\r\n\r\n")
        };
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().expect("a length"));
    (bytes.len() >= head + length).then_some(head + length)
}

/// One connection at a time, for a test that speaks itself.
pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// Reads one message's head.
pub async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    super::soon("a head", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
    })
    .await;
    String::from_utf8(head).expect("text")
}
