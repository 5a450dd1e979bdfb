//! An application behind the server that records what it gets: HTTP/1.1 in plain text on loopback, in a thread of its own, until the process ends.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub fields: HeaderMap,
    /// Its first MiB.
    pub body: Vec<u8>,
    pub length: u64,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("ASCII"))
    }
}

pub struct Echo {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Echo {
    /// - `/status/N`: that status, with a body that names it
    /// - `/to/N/TARGET…`: the status N with `Location: TARGET…` (percent-encoded)
    /// - `/flaky/WORD/N`: N times 503 with `Retry-After: 0`, then 200
    /// - `/bytes/N`: N zeros, as they are wanted
    /// - `/cut`: a body that breaks off; `/stall`: one that never ends
    /// - `/silent`: no answer
    /// - `/gzip`, `/odd`: compressed with gzip, and with what nobody knows
    /// - all others: `ok` and a line end
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, recorded));
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().expect("the record"))
    }
}

async fn serve(listener: std::net::TcpListener, seen: Arc<Mutex<Vec<Seen>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let flaky = Arc::new(Mutex::new(HashMap::new()));
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let (seen, flaky) = (Arc::clone(&seen), Arc::clone(&flaky));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen), Arc::clone(&flaky)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    flaky: Arc<Mutex<HashMap<String, u32>>>,
) -> Result<Response<Body>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            length += data.len() as u64;
            kept.extend_from_slice(&data[..data.len().min((1 << 20) - kept.len().min(1 << 20))]);
        }
    }
    let path = parts.uri.path().to_owned();
    seen.lock().expect("the record").push(Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        fields: parts.headers,
        body: kept,
        length,
    });
    let words: Vec<&str> = path.splitn(4, '/').skip(1).collect();
    let status = |text: &str| StatusCode::from_bytes(text.as_bytes()).expect("a status");
    let plain = Response::builder().header(CONTENT_TYPE, "text/plain");
    let stream = |head: &'static [u8], then: fn() -> Option<std::io::Error>| {
        let pieces = futures_util::stream::unfold(0, move |n| async move {
            match n {
                0 => Some((Ok(Frame::data(Bytes::from_static(head))), 1)),
                _ => match then() {
                    Some(error) => {
                        // The first piece is out by then.
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        Some((Err(error), 2))
                    }
                    None => std::future::pending().await,
                },
            }
        });
        StreamBody::new(pieces).boxed_unsync()
    };
    let answer = match words.as_slice() {
        ["status", code] => plain.status(status(code)).body(full(format!("the status {code}\n"))),
        ["to", code, target] => {
            let target = target.replace("%2F", "/").replace("%3A", ":").replace("%3F", "?");
            plain.status(status(code)).header(LOCATION, target).body(full("moved\n"))
        }
        ["flaky", word, times] => {
            let mut flaky = flaky.lock().expect("the record");
            let left = flaky.entry((*word).to_owned()).or_insert_with(|| times.parse().expect("a number"));
            if *left > 0 {
                *left -= 1;
                plain.status(503).header(RETRY_AFTER, "0").body(full("not now\n"))
            } else {
                plain.body(full("at last\n"))
            }
        }
        ["bytes", count] => {
            let count: u64 = count.parse().expect("a number");
            let pieces = futures_util::stream::unfold(count, |left| async move {
                let length = left.min(65536);
                (length > 0).then(|| (Ok(Frame::data(Bytes::from(vec![0; length as usize]))), left - length))
            });
            plain.header("content-length", count).body(StreamBody::new(pieces).boxed_unsync())
        }
        ["cut"] => plain.header("content-length", 100).body(stream(b"the first", || Some(std::io::Error::other("cut")))),
        ["stall"] => plain.body(stream(b"the first", || None)),
        ["silent"] => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            plain.body(full(""))
        }
        ["gzip"] => plain.header(CONTENT_ENCODING, "gzip").body(full(Bytes::from_static(GZIP))),
        ["odd"] => plain.header(CONTENT_ENCODING, "compress").body(full("?")),
        _ => plain.header("x-echo", "yes").body(full("ok\n")),
    };
    Ok(answer.expect("an answer"))
}

/// `gzip -n` of `compressed\n`.
const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x4b, 0xce, 0xcf, 0x2d, 0x28, 0x4a, 0x2d, 0x2e, 0x4e, 0x4d, 0xe1, 0x02,
    0x00, 0xbb, 0x6d, 0x4f, 0xc8, 0x0b, 0x00, 0x00, 0x00,
];
