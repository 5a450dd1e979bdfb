//! A tap on a swtpm's bus: relays both channels and records what passes, as a listener on a real TPM's bus would.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::{Swtpm, two_listeners};

/// Relays connections to a [`Swtpm`] and records them. Ends when dropped.
pub struct Tap {
    port: u16,
    recording: Arc<Mutex<Recording>>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What passed on the data channel since the last [`Tap::take`].
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The commands' codes (TPM_CC, TCG part 2, 6.5.2), in order.
    pub commands: Vec<u32>,
    /// Every byte to the TPM.
    pub to_tpm: Vec<u8>,
    /// Every byte from the TPM.
    pub from_tpm: Vec<u8>,
}

impl Recording {
    /// Whether `needle` passed in either direction.
    #[must_use]
    pub fn shows(&self, needle: &[u8]) -> bool {
        [&self.to_tpm, &self.from_tpm].iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    }
}

impl Tap {
    /// Starts to listen in front of `swtpm`.
    ///
    /// # Panics
    /// When no two free ports are found.
    #[must_use]
    pub fn on(swtpm: &Swtpm) -> Self {
        let (data, ctrl) = two_listeners();
        let port = data.local_addr().expect("a bound socket has an address").port();
        let recording = Arc::new(Mutex::new(Recording::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let threads = vec![
            listen(data, swtpm.port(), Some(Arc::clone(&recording)), Arc::clone(&stopped)),
            listen(ctrl, swtpm.port() + 1, None, Arc::clone(&stopped)),
        ];
        Self { port, recording, stopped, threads }
    }

    /// The TCTI string that leads through the tap.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// What passed since the last call.
    #[must_use]
    pub fn take(&self) -> Recording {
        std::mem::take(&mut self.recording.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Tap {
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

fn listen(listener: TcpListener, target: u16, recording: Option<Arc<Mutex<Recording>>>, stopped: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for client in listener.incoming() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let (Ok(client), Ok(tpm)) = (client, TcpStream::connect(("127.0.0.1", target))) else { continue };
            let (Ok(client_reader), Ok(tpm_reader)) = (client.try_clone(), tpm.try_clone()) else { continue };
            let (up, down) = (recording.clone(), recording.clone());
            std::thread::spawn(move || {
                relay(client_reader, tpm, |bytes| {
                    if let Some(recording) = &up {
                        record_command(&mut recording.lock().unwrap_or_else(PoisonError::into_inner), bytes);
                    }
                });
            });
            std::thread::spawn(move || {
                relay(tpm_reader, client, |bytes| {
                    if let Some(recording) = &down {
                        recording.lock().unwrap_or_else(PoisonError::into_inner).from_tpm.extend_from_slice(bytes);
                    }
                });
            });
        }
    })
}

/// The TSS sends each command in one piece: tag (2 bytes), size (4), code (4), parameters (TCG part 1, 18).
fn record_command(recording: &mut Recording, bytes: &[u8]) {
    if let Some(code) = bytes.get(6..10).and_then(|code| <[u8; 4]>::try_from(code).ok()) {
        recording.commands.push(u32::from_be_bytes(code));
    }
    recording.to_tpm.extend_from_slice(bytes);
}

fn relay(mut from: TcpStream, mut to: TcpStream, mut passed: impl FnMut(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        passed(&buffer[..n]);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
