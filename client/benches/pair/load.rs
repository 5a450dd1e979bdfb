//! The client of all pairs: plain HTTP/1.1 on a blocking socket, so that no runtime stands between the network and the clock.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::AnyError;

/// An open connection.
pub struct Client {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Result<Self, AnyError> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, host: addr, buffer: vec![0; 256 * 1024] })
    }

    /// One small GET: how long it takes.
    pub fn get(&mut self) -> Result<Duration, AnyError> {
        let start = Instant::now();
        // In one piece.
        self.stream.write_all(format!("GET /get HTTP/1.1\r\nHost: {}\r\n\r\n", self.host).as_bytes())?;
        self.answer(3)?;
        Ok(start.elapsed())
    }

    /// Takes so many bytes.
    pub fn down(&mut self, bytes: u64) -> Result<Duration, AnyError> {
        let start = Instant::now();
        write!(self.stream, "GET /big/{bytes} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host)?;
        self.answer(bytes)?;
        Ok(start.elapsed())
    }

    /// Gives so many.
    pub fn up(&mut self, bytes: u64) -> Result<Duration, AnyError> {
        let start = Instant::now();
        write!(self.stream, "PUT /put HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\n\r\n", self.host)?;
        let mut left = bytes;
        while left > 0 {
            let piece = usize::try_from(left)?.min(self.buffer.len());
            self.stream.write_all(&self.buffer[..piece])?;
            left -= piece as u64;
        }
        self.answer(bytes.to_string().len() as u64 + 1)?;
        Ok(start.elapsed())
    }

    /// Reads an answer with a body of this length, which is 200.
    fn answer(&mut self, length: u64) -> Result<(), AnyError> {
        let mut filled = 0;
        let head = loop {
            if let Some(end) = self.buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => return Err("closed before it answered".into()),
                read => filled += read,
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let body = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        if !text.starts_with("http/1.1 200 ") || body != Some(&length.to_string()) {
            return Err(
                format!("not what was asked for: {text}{}", String::from_utf8_lossy(&self.buffer[head..filled.min(head + 500)])).into()
            );
        }
        let mut left = length.checked_sub((filled - head) as u64).ok_or("more than was asked for")?;
        while left > 0 {
            match self.stream.read(&mut self.buffer)? {
                0 => return Err("cut short".into()),
                read => left = left.checked_sub(read as u64).ok_or("more than was asked for")?,
            }
        }
        Ok(())
    }
}
