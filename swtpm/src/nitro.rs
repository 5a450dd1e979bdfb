//! A NitroTPM for tests: a software TPM that answers AWS's vendor command, too.
//!
//! swtpm has no NV index of 8 KiB, which that command works in. So a large index is defined there as a small one, with its owner's authorisation, and undefined as
//! it is, while what is written to it lies here. Passwords must be shown in clear: commands in other sessions than that are not seen through.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::{Swtpm, two_listeners};

/// TPM_CC (TCG part 2, 6.5.2), and AWS's.
const CC_NV_UNDEFINE_SPACE: u32 = 0x122;
const CC_NV_DEFINE_SPACE: u32 = 0x12a;
const CC_NV_WRITE: u32 = 0x137;
const CC_NV_READ: u32 = 0x14e;
const CC_NSM_REQUEST: u32 = 0x2000_0001;
/// What swtpm has room for.
const MAX_INDEX: u16 = 2048;
/// TPM_RC (TCG part 2, 6.6)
const RC_AUTH_FAIL: u32 = 0x98e;
const RC_COMMAND_CODE: u32 = 0x143;
const RC_NV_RANGE: u32 = 0x146;
const RC_NV_UNINITIALIZED: u32 = 0x14a;

/// Stands in front of a [`Swtpm`]. Ends when dropped.
pub struct NitroTpm {
    port: u16,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// An NV index that is larger than swtpm's.
struct Buffer {
    password: Vec<u8>,
    contents: Vec<u8>,
    is_written: bool,
}

impl NitroTpm {
    /// Starts to listen; `make` answers requests: CBOR in, CBOR out (`{"Attestation": {"document": …}}` or `{"Error": "…"}`). The request stands at the
    /// beginning of what it gets, which is all of the index. An empty answer: such a command is not known.
    ///
    /// # Panics
    /// When no two free ports are found.
    #[must_use]
    pub fn on(swtpm: &Swtpm, mut make: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let (data, ctrl) = two_listeners();
        let port = data.local_addr().expect("a bound socket has an address").port();
        let stopped = Arc::new(AtomicBool::new(false));
        let target = swtpm.port();
        let mut buffers = HashMap::new();
        // libtss2 makes a connection for each command.
        let data = listen(data, Arc::clone(&stopped), move |mut client| {
            let command = message(&mut client)?;
            let answer = answer(&mut buffers, &command, target, &mut make)?;
            client.write_all(&answer).ok()
        });
        let threads = vec![data, listen(ctrl, Arc::clone(&stopped), move |client| control(client, target + 1))];
        Self { port, stopped, threads }
    }

    /// The TCTI string that leads to it.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }
}

impl Drop for NitroTpm {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes both listeners.
        for port in [self.port, self.port + 1] {
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(buffers: &mut HashMap<u32, Buffer>, command: &[u8], target: u16, make: &mut impl FnMut(&[u8]) -> Vec<u8>) -> Option<Vec<u8>> {
    match number(command, 6)? {
        CC_NV_DEFINE_SPACE => define(buffers, command, target),
        CC_NV_UNDEFINE_SPACE => {
            let answer = transmit(target, command)?;
            if number(&answer, 6) == Some(0) {
                buffers.remove(&number(command, 14)?);
            }
            Some(answer)
        }
        code @ (CC_NV_WRITE | CC_NV_READ | CC_NSM_REQUEST) => {
            let Some(buffer) = buffers.get_mut(&number(command, 14)?) else { return transmit(target, command) };
            let (password, parameters) = authorised(&command[18..])?;
            Some(match code {
                _ if password != buffer.password => failure(RC_AUTH_FAIL),
                CC_NV_WRITE => write(buffer, parameters)?,
                _ if !buffer.is_written => failure(RC_NV_UNINITIALIZED),
                CC_NV_READ => read(buffer, parameters)?,
                _ => {
                    let document = make(&buffer.contents);
                    if document.is_empty() {
                        return Some(failure(RC_COMMAND_CODE));
                    }
                    buffer.contents.get_mut(..document.len())?.copy_from_slice(&document);
                    success(&[])
                }
            })
        }
        _ => transmit(target, command),
    }
}

/// A large index becomes a small one.
fn define(buffers: &mut HashMap<u32, Buffer>, command: &[u8], target: u16) -> Option<Vec<u8>> {
    let (_, parameters) = authorised(&command[14..])?;
    let (password, public) = sized(parameters)?;
    let (public, _) = sized(public)?;
    let size = u16::from_be_bytes(*public.last_chunk()?);
    let mut command = command.to_vec();
    if size > MAX_INDEX {
        *command.last_chunk_mut()? = 32_u16.to_be_bytes();
    }
    let answer = transmit(target, &command)?;
    if size > MAX_INDEX && number(&answer, 6) == Some(0) {
        let contents = vec![0xff; usize::from(size)];
        buffers.insert(number(public, 0)?, Buffer { password: password.to_vec(), contents, is_written: false });
    }
    Some(answer)
}

/// TPM2B_MAX_NV_BUFFER and an offset.
fn write(buffer: &mut Buffer, parameters: &[u8]) -> Option<Vec<u8>> {
    let (bytes, offset) = sized(parameters)?;
    let offset = usize::from(u16::from_be_bytes(*offset.first_chunk()?));
    let Some(place) = buffer.contents.get_mut(offset..offset + bytes.len()) else { return Some(failure(RC_NV_RANGE)) };
    place.copy_from_slice(bytes);
    buffer.is_written = true;
    Some(success(&[]))
}

/// A size and an offset.
fn read(buffer: &Buffer, parameters: &[u8]) -> Option<Vec<u8>> {
    let (size, offset) = parameters.split_first_chunk()?;
    let (size, offset) = (u16::from_be_bytes(*size), usize::from(u16::from_be_bytes(*offset.first_chunk()?)));
    let Some(bytes) = buffer.contents.get(offset..offset + usize::from(size)) else { return Some(failure(RC_NV_RANGE)) };
    Some(success(&[&size.to_be_bytes()[..], bytes].concat()))
}

/// The password of a command's one session, and the parameters behind it: size, TPM_RS_PW, nonce, attributes, password (TCG part 1, 18.4).
fn authorised(area: &[u8]) -> Option<(&[u8], &[u8])> {
    let (session, parameters) = area.get(4..)?.split_at_checked(usize::try_from(number(area, 0)?).ok()?)?;
    let (_, rest) = sized(session.get(4..)?)?;
    Some((sized(rest.get(1..)?)?.0, parameters))
}

/// A TPM2B's contents, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn failure(code: u32) -> Vec<u8> {
    [&[0x80, 0x01, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

/// With the empty answer of a password's session.
fn success(parameters: &[u8]) -> Vec<u8> {
    let size = |len: usize| u32::try_from(len).expect("a small answer").to_be_bytes();
    let header = [&[0x80, 0x02][..], &size(14 + parameters.len() + 5), &[0; 4], &size(parameters.len())].concat();
    [&header[..], parameters, &[0, 0, 1, 0, 0]].concat()
}

fn listen(
    listener: TcpListener,
    stopped: Arc<AtomicBool>,
    mut serve: impl FnMut(TcpStream) -> Option<()> + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for client in listener.incoming() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            // What breaks here, breaks for the client.
            let _ = client.ok().and_then(&mut serve);
        }
    })
}

/// A command or a response: tag (2 bytes), size (4), code (4), the rest (TCG part 1, 18).
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes).ok()?;
    bytes.resize(number(&bytes, 2)?.try_into().ok()?, 0);
    stream.read_exact(&mut bytes[10..]).ok()?;
    Some(bytes)
}

fn transmit(port: u16, command: &[u8]) -> Option<Vec<u8>> {
    let mut tpm = TcpStream::connect(("127.0.0.1", port)).ok()?;
    tpm.write_all(command).ok()?;
    message(&mut tpm)
}

/// One request and its response at a time (swtpm_ioctls(3)); both are shorter than a buffer.
fn control(mut client: TcpStream, target: u16) -> Option<()> {
    let mut tpm = TcpStream::connect(("127.0.0.1", target)).ok()?;
    let mut buffer = [0; 4096];
    while let n @ 1.. = client.read(&mut buffer).ok()? {
        tpm.write_all(&buffer[..n]).ok()?;
        let n = tpm.read(&mut buffer).ok()?;
        client.write_all(&buffer[..n]).ok()?;
    }
    Some(())
}
