//! A request's body: pieces in memory and files that are read while they are sent, so that the length of a file costs no memory.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use indicatif::ProgressBar;
use tokio::sync::mpsc::{self, Receiver};

use crate::cli::CliError;
use crate::cli::shown::shown;

/// How much is read at once, and how many of those wait to be sent.
const CHUNK: usize = 64 * 1024;
const AHEAD: usize = 4;

/// A piece of a body.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Bytes(Bytes),
    File(FilePart),
    /// Standard input as it comes: its length is not known, and it cannot be sent again.
    Input,
}

/// A file on a disk, and how long it was when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct FilePart {
    path: PathBuf,
    length: u64,
}

impl FilePart {
    /// `None` where it is no file with a length: a pipe, a device, a file of /proc.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, CliError> {
        let told = |e: io::Error| CliError::io("read", path, &e);
        let found = std::fs::metadata(path).map_err(told)?;
        if found.is_dir() {
            return Err(CliError::Usage(format!("{} is a folder: name a file", shown(path))));
        }
        if !found.is_file() || found.len() == 0 {
            return Ok(None);
        }
        // Only to know that it can be: a pipe would lose its writer by that.
        File::open(path).map_err(told)?;
        Ok(Some(Self { path: path.to_owned(), length: found.len() }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A body that can be made again and again, unless standard input is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    parts: Vec<Part>,
}

impl Body {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    pub(super) fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    pub(super) fn length(&self) -> Option<u64> {
        let of = |part: &Part| match part {
            Part::Bytes(bytes) => Some(bytes.len() as u64),
            Part::File(file) => Some(file.length),
            Part::Input => None,
        };
        self.parts.iter().map(of).sum()
    }

    pub(super) fn can_be_sent_again(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Input))
    }

    /// For one request. `sent` counts what hyper has taken.
    pub(super) fn stream(&self, sent: Arc<AtomicU64>, progress: ProgressBar) -> Stream {
        let parts = self.parts.iter().cloned().rev().collect();
        Stream { rest: parts, reading: None, left: self.length(), sent, progress }
    }
}

/// The body of one request under way.
pub(super) struct Stream {
    /// The next one stands last.
    rest: Vec<Part>,
    reading: Option<Receiver<io::Result<Bytes>>>,
    left: Option<u64>,
    sent: Arc<AtomicU64>,
    progress: ProgressBar,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = loop {
            if let Some(reading) = &mut self.reading {
                match ready!(reading.poll_recv(context)) {
                    Some(read) => break read?,
                    None => self.reading = None,
                }
            }
            match self.rest.pop() {
                Some(Part::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Part::Bytes(bytes)) => break bytes,
                Some(Part::File(file)) => self.reading = Some(read_ahead(move |send| file.read_into(send))),
                Some(Part::Input) => self.reading = Some(read_ahead(|send| pass_on(io::stdin().lock(), send))),
                None => return Poll::Ready(None),
            }
        };
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.progress.inc(bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Takes a chunk. Nobody wants more when it says so.
type Send<'a> = &'a dyn Fn(io::Result<Bytes>) -> bool;

/// Reads in a thread of its own: disks and pipes let others wait.
fn read_ahead(read: impl FnOnce(Send<'_>) -> io::Result<()> + std::marker::Send + 'static) -> Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(e) = read(&|chunk| sender.blocking_send(chunk).is_ok()) {
            let _ = sender.blocking_send(Err(e));
        }
    });
    receiver
}

impl FilePart {
    /// All of it, which is as much as was said that it would be. The last chunk is kept back until that is sure: the request of a file that was changed meanwhile must not
    /// look whole.
    fn read_into(&self, send: Send<'_>) -> io::Result<()> {
        let about = |what: String| io::Error::new(ErrorKind::InvalidData, format!("{}: {what}", shown(&self.path)));
        let mut file = File::open(&self.path).map_err(|e| about(e.to_string()))?;
        let mut left = self.length;
        while left > 0 {
            let chunk = read_chunk(&mut file).map_err(|e| about(e.to_string()))?;
            left = match left.checked_sub(chunk.len() as u64) {
                Some(left) if !chunk.is_empty() => left,
                _ => return Err(about("the file was changed while it was sent. Send a copy of it".to_owned())),
            };
            if left == 0 && !read_chunk(&mut file).map_err(|e| about(e.to_string()))?.is_empty() {
                return Err(about("the file grew while it was sent. Send a copy of it".to_owned()));
            }
            if !send(Ok(chunk)) {
                break;
            }
        }
        Ok(())
    }
}

fn pass_on(mut from: impl Read, send: Send<'_>) -> io::Result<()> {
    loop {
        // What is there goes out: who types does not wait for a full chunk.
        let mut chunk = vec![0; CHUNK];
        let length = match from.read(&mut chunk) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        chunk.truncate(length);
        if length == 0 || !send(Ok(chunk.into())) {
            return Ok(());
        }
    }
}

/// A full chunk, or what is left.
fn read_chunk(from: &mut impl Read) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(CHUNK);
    from.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}
