//! HTTP/2 frames (RFC 9113 §4) and header fields (RFC 7541 §6.2.2), written by hand: no client library would send what some tests do.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string's length: an integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// A field section in which nothing refers to a table.
pub fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.extend(length(text.len()));
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The HEADERS frame of a request. `flags` beside END_HEADERS.
pub fn request(stream: u32, flags: u8, method: &str, authority: &str, path: &str, credential: &str) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)];
    let authorization = (!credential.is_empty()).then_some(("authorization", credential));
    frame(HEADERS, END_HEADERS | flags, stream, &fields(pseudo.into_iter().chain(authorization)))
}

/// A connection whose frames are written by hand. What comes is read and kept in mind as far as it tells of an end.
pub struct Frames {
    writer: WriteHalf<TlsStream<TcpStream>>,
    heard: Arc<Mutex<Heard>>,
    reading: JoinHandle<()>,
}

/// What a server said.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The error code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// How many streams were reset.
    pub resets: usize,
    /// How many were answered.
    pub answers: usize,
    /// How many acknowledgements of pings came.
    pub pings: usize,
    /// The connection ended.
    pub is_over: bool,
}

impl Frames {
    /// With a preface and these settings (RFC 9113 §6.5.2), and without reading anything if told so.
    pub async fn open(stream: TlsStream<TcpStream>, settings: &[(u16, u32)], reads: bool) -> Self {
        let (mut reader, writer) = tokio::io::split(stream);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = Arc::clone(&heard);
        let reading = tokio::spawn(async move {
            if !reads {
                // Held, so that nothing is closed.
                std::future::pending::<()>().await;
            }
            let mut head = [0; 9];
            while reader.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                if reader.read_exact(&mut payload).await.is_err() {
                    break;
                }
                let mut heard = hearing.lock().expect("what was heard");
                match head[3] {
                    GOAWAY => heard.goaway = payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes"))),
                    RST_STREAM => heard.resets += 1,
                    HEADERS => heard.answers += 1,
                    PING => heard.pings += 1,
                    _ => {}
                }
            }
            hearing.lock().expect("what was heard").is_over = true;
        });
        let mut frames = Self { writer, heard, reading };
        let settings: Vec<u8> = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let _ = frames.write(&[PREFACE, &frame(SETTINGS, 0, 0, &settings), &frame(SETTINGS, ACK, 0, &[])].concat()).await;
        frames
    }

    /// Whether the server still took it.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = async { self.writer.write_all(bytes).await.is_ok() && self.writer.flush().await.is_ok() };
        // A server that reads no more because it cannot write is as good as one that has closed.
        tokio::time::timeout(std::time::Duration::from_secs(2), written).await.unwrap_or(false)
    }

    pub fn heard(&self) -> Heard {
        self.heard.lock().expect("what was heard").clone()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
