//! Stands between a client and a swtpm, and does to each command what a test says.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ekm_otp_swtpm::{Swtpm, two_listeners};

/// TPM_CC (TCG part 2, 6.5.2)
pub const CC_OBJECT_CHANGE_AUTH: u32 = 0x150;
pub const CC_CREATE: u32 = 0x153;
pub const CC_HMAC: u32 = 0x155;
pub const CC_LOAD: u32 = 0x157;
pub const CC_SIGN: u32 = 0x15d;
pub const CC_GET_CAPABILITY: u32 = 0x17a;

/// What happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It reaches the TPM, and the answer comes back.
    Pass,
    /// The TPM does not get it, and this response code comes back.
    Answer(u32),
    /// The TPM does not get it: the connection breaks before.
    BreakBefore,
    /// The TPM obeys, and nobody hears of it: the connection breaks before the answer.
    BreakAfter,
}

/// Relays to a [`Swtpm`]. Ends when dropped.
pub struct Relay {
    port: u16,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts to listen in front of `swtpm`; `rule` is asked with each command's code.
    pub fn on(swtpm: &Swtpm, mut rule: impl FnMut(u32) -> Act + Send + 'static) -> Self {
        let port = swtpm.port();
        Self::answering(swtpm, move |command| {
            let act = rule(code_of(command));
            let answer = match act {
                Act::Answer(code) => [&[0x80, 0x01, 0, 0, 0, 10][..], &code.to_be_bytes()].concat(),
                Act::BreakBefore => return None,
                Act::Pass | Act::BreakAfter => transmit(port, command)?,
            };
            (act != Act::BreakAfter).then_some(answer)
        })
    }

    /// Starts to listen in front of `swtpm`; `answer` has the answer to each command, or breaks the connection.
    pub fn answering(swtpm: &Swtpm, mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let (data, ctrl) = two_listeners();
        let port = data.local_addr().expect("a bound socket has an address").port();
        let stopped = Arc::new(AtomicBool::new(false));
        let target = swtpm.port() + 1;
        // libtss2 makes a connection for each command.
        let data = listen(data, Arc::clone(&stopped), move |mut client| {
            let command = message(&mut client)?;
            client.write_all(&answer(&command)?).ok()
        });
        let threads = vec![data, listen(ctrl, Arc::clone(&stopped), move |client| control(client, target))];
        Self { port, stopped, threads }
    }

    /// The TCTI string that leads through it.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        for port in [self.port, self.port + 1] {
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
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

/// A command or a response: tag (2 bytes), size (4), code (4), parameters (TCG part 1, 18).
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes).ok()?;
    let size = u32::from_be_bytes(bytes[2..6].try_into().ok()?);
    bytes.resize(size.try_into().ok()?, 0);
    stream.read_exact(&mut bytes[10..]).ok()?;
    Some(bytes)
}

/// A command's or a response's code.
pub fn code_of(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[6..10].try_into().expect("4 bytes"))
}

/// What the TPM at this port answers.
pub fn transmit(port: u16, command: &[u8]) -> Option<Vec<u8>> {
    let mut tpm = TcpStream::connect(("127.0.0.1", port)).ok()?;
    tpm.write_all(command).ok()?;
    message(&mut tpm)
}

/// One request and its response, as swtpm_ioctls(3) has them; both are shorter than a buffer.
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
