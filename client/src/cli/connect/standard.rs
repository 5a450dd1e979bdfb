//! Standard input and output as one stream.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout};

use super::super::error::CliError;
use super::super::output;

/// Shut down, standard output is closed, so that whoever reads it sees the end while standard input goes on.
pub(super) struct Standard {
    input: Stdin,
    output: Stdout,
    is_closed: bool,
}

impl Standard {
    pub(super) fn new() -> Self {
        Self { input: tokio::io::stdin(), output: tokio::io::stdout(), is_closed: false }
    }

    /// What an error of this stream means to the command. Who closed the pipe wants no more of it.
    pub(super) fn failed(error: &io::Error) -> CliError {
        match error.kind() {
            ErrorKind::BrokenPipe => CliError::ClosedPipe,
            _ => CliError::Other(error.to_string()),
        }
    }
}

fn told(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}

impl AsyncRead for Standard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf).map_err(told("read standard input"))
    }
}

impl AsyncWrite for Standard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, bytes).map_err(told("write to standard output"))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx).map_err(told("write to standard output"))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if !self.is_closed {
            output::close().map_err(told("close standard output"))?;
            self.is_closed = true;
        }
        Poll::Ready(Ok(()))
    }
}
