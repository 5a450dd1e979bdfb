//! How a tunnel's bytes are carried (docs/protocol.md §23.3): so that an end that was said can be told from one that was not.
//!
//! The streams underneath cannot tell on their own: an HTTP/2 stream that is given up looks ended to most libraries, and so does TCP below TLS where
//! nobody looks for its close_notify.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// The most that one frame carries here. Others may send up to 65535.
const MOST: usize = 16 * 1024;

/// A stream whose bytes travel in frames: two bytes of length, the more significant first, and as many bytes. The length 0 ends that direction.
///
/// Reading, an end that was not said so is an [`io::ErrorKind::UnexpectedEof`]. Shut down, it says the end, shuts the stream underneath down, and still
/// reads. What was written is on its way once it is flushed.
#[derive(Debug)]
pub struct Framed<S> {
    stream: S,
    /// Of the frame that is read: its length, as far as it has come, and how many of its bytes are still to come.
    header: [u8; 2],
    header_read: usize,
    left: usize,
    has_ended: bool,
    /// A frame on its way out, and how much of it has gone.
    out: Vec<u8>,
    sent: usize,
    says_end: bool,
}

impl<S> Framed<S> {
    /// Over a stream on which nothing but frames comes and goes.
    pub fn new(stream: S) -> Self {
        Self { stream, header: [0; 2], header_read: 0, left: 0, has_ended: false, out: Vec::new(), sent: 0, says_end: false }
    }
}

impl<S: AsyncWrite + Unpin> Framed<S> {
    /// Writes the frame that is on its way, to its end.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Framed<S> {
    /// Waits, when both directions have ended, until the other side has ended the stream underneath, too, or `limit` is over: whoever drops an HTTP/2
    /// stream before has it reset, and the other side, whose last frame was taken, would have to call that cut.
    pub async fn left_by_the_other(&mut self, limit: Duration) {
        let mut rest = [0; 64];
        let _ = timeout(limit, async { while matches!(self.stream.read(&mut rest).await, Ok(1..)) {} }).await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.left == 0 && !this.has_ended {
            let mut header = ReadBuf::new(&mut this.header[this.header_read..]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut header))?;
            match header.filled().len() {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => this.header_read += read,
            }
            if this.header_read == this.header.len() {
                this.header_read = 0;
                this.left = u16::from_be_bytes(this.header).into();
                this.has_ended = this.left == 0;
            }
        }
        if this.has_ended {
            return Poll::Ready(Ok(()));
        }
        let most = buf.remaining().min(this.left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        this.left -= read;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.says_end {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_out(cx))?;
        let bytes = &bytes[..bytes.len().min(MOST)];
        let Some(length) = u16::try_from(bytes.len()).ok().filter(|length| *length > 0) else { return Poll::Ready(Ok(0)) };
        this.out.extend_from_slice(&length.to_be_bytes());
        this.out.extend_from_slice(bytes);
        // Taken, wherever it is by now: an error of what goes on here belongs to the next call.
        match this.poll_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.says_end {
            ready!(this.poll_out(cx))?;
            this.out.extend_from_slice(&[0; 2]);
            this.says_end = true;
        }
        ready!(this.poll_out(cx))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_go_in_frames_and_an_end_is_said() {
        let (mut raw, stream) = duplex(1024);
        let mut framed = Framed::new(stream);
        framed.write_all(b"hello").await.expect("writing");
        framed.shutdown().await.expect("the end");
        assert!(framed.write_all(b"more").await.is_err());
        let mut sent = Vec::new();
        raw.read_to_end(&mut sent).await.expect("what was sent");
        assert_eq!(sent, b"\0\x05hello\0\0");
        // It still reads, and looks at nothing behind the end.
        raw.write_all(b"\0\x03one\0\x01,\0\x00and more").await.expect("writing");
        let mut read = String::new();
        framed.read_to_string(&mut read).await.expect("what came");
        assert_eq!(read, "one,");
    }

    #[tokio::test]
    async fn an_end_that_was_not_said_is_an_error_wherever_it_comes() {
        for came in [&b""[..], b"\0", b"\0\x05", b"\0\x05hell", b"\0\x05hello", b"\0\x05hello\0"] {
            let (mut raw, stream) = duplex(1024);
            raw.write_all(came).await.expect("writing");
            drop(raw);
            let read = Framed::new(stream).read_to_end(&mut Vec::new()).await;
            assert_eq!(read.expect_err("cut").kind(), io::ErrorKind::UnexpectedEof, "{came:?}");
        }
    }

    #[tokio::test]
    async fn the_stream_underneath_is_left_when_the_other_side_has_left_it() {
        let (mut raw, stream) = duplex(1024);
        let mut framed = Framed::new(stream);
        raw.write_all(b"\0\0").await.expect("writing");
        assert_eq!(framed.read(&mut [0; 8]).await.expect("the end"), 0);
        framed.shutdown().await.expect("the end");
        let waiting = tokio::spawn(async move { framed.left_by_the_other(Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "it is still there");
        raw.shutdown().await.expect("the stream's own end");
        waiting.await.expect("seen");
    }

    #[tokio::test]
    async fn what_is_large_passes_a_narrow_stream_in_pieces() {
        let (one, other) = duplex(7);
        let (mut one, mut other) = (Framed::new(one), Framed::new(other));
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let write = async {
            one.write_all(&bytes).await.expect("writing");
            one.shutdown().await.expect("the end");
        };
        let mut read = Vec::new();
        tokio::join!(write, async { other.read_to_end(&mut read).await.expect("all of it") });
        assert!(read == bytes);
    }

    #[tokio::test]
    async fn the_longest_frame_of_others_is_read() {
        let (mut raw, stream) = duplex(100_000);
        raw.write_all(&[&[0xff; 2][..], &[7; 65_535], &[0; 2]].concat()).await.expect("writing");
        let mut read = Vec::new();
        Framed::new(stream).read_to_end(&mut read).await.expect("all of it");
        assert!(read == [7; 65_535]);
    }
}
