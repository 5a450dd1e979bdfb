//! A command past the C library, which knows none of a vendor's and takes no bytes as they are.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Tcti;
use super::tcti::Kind;
use crate::TpmError;

/// The kernel's bound on commands and responses (drivers/char/tpm/tpm.h, TPM_BUFSIZE).
const MAX_LEN: usize = 4096;
/// How long a software TPM may say nothing.
const WITHIN: Duration = Duration::from_secs(30);

/// The TPM's answer to one command: tag, size, response code, and what follows. Sessions of the C library's are not for it where a resource manager
/// translates their handles.
pub(super) fn transmit(tcti: &Tcti, command: &[u8]) -> Result<Vec<u8>, TpmError> {
    let failed = |why: String| TpmError::Unreachable { tcti: tcti.clone(), why };
    let answer = match &tcti.kind {
        Kind::Device(path) => {
            let path = without_resource_manager(path);
            let of_device = |e: io::Error| match e.kind() {
                io::ErrorKind::PermissionDenied => TpmError::NotPermitted { path: path.display().to_string() },
                io::ErrorKind::ResourceBusy => failed(format!("{} is in use by another program, and cannot be shared", path.display())),
                _ => failed(format!("{}: {e}", path.display())),
            };
            OpenOptions::new().read(true).write(true).open(&path).and_then(|device| of_file(device, command)).map_err(of_device)?
        }
        Kind::Swtpm { host, port } => {
            TcpStream::connect((host.as_str(), *port)).and_then(|stream| of_stream(stream, command)).map_err(|e| failed(e.to_string()))?
        }
        Kind::Tabrmd => {
            return Err(failed("a vendor's command does not pass the access broker: name the device (--tcti device:/dev/tpm0)".into()));
        }
    };
    let size = answer.get(2..6).and_then(|size| Some(u32::from_be_bytes(size.try_into().ok()?)));
    match size.and_then(|size| usize::try_from(size).ok()) {
        Some(size) if size == answer.len() && size >= 10 => Ok(answer),
        _ => Err(failed("its answer is not of the form that a TPM's has".into())),
    }
}

/// The kernel's resource manager refuses commands that the TPM does not list (drivers/char/tpm/tpm2-space.c): they go to the device behind it.
fn without_resource_manager(path: &Path) -> PathBuf {
    match path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("tpmrm")) {
        Some(number) => path.with_file_name(format!("tpm{number}")),
        None => path.to_owned(),
    }
}

/// The driver takes a command in one piece, and gives its answer so.
fn of_file(mut device: File, command: &[u8]) -> io::Result<Vec<u8>> {
    let written = device.write(command)?;
    if written != command.len() {
        return Err(io::Error::new(io::ErrorKind::WriteZero, "the driver took a part of the command"));
    }
    let mut answer = vec![0; MAX_LEN];
    let len = device.read(&mut answer)?;
    answer.truncate(len);
    Ok(answer)
}

fn of_stream(mut stream: TcpStream, command: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(WITHIN))?;
    stream.write_all(command)?;
    let mut answer = vec![0; 10];
    stream.read_exact(&mut answer)?;
    let size = answer.get(2..6).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| (10..=MAX_LEN).contains(size));
    answer.resize(size.ok_or(io::ErrorKind::InvalidData)?, 0);
    stream.read_exact(&mut answer[10..])?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket stands in for the device, which takes a command in one piece and gives its answer so.
    #[test]
    fn a_device_gets_the_command_as_it_is_and_its_answer_comes_back_whole() {
        let (ours, mut devices) = std::os::unix::net::UnixStream::pair().expect("a socket");
        let answer: Vec<u8> = (0..3000_u16).map(|i| i.to_be_bytes()[1]).collect();
        devices.write_all(&answer).expect("writing");
        let got = of_file(File::from(std::os::fd::OwnedFd::from(ours)), b"a command").expect("an answer");
        assert_eq!(got, answer);
        let mut command = Vec::new();
        devices.read_to_end(&mut command).expect("reading");
        assert_eq!(command, b"a command");
    }

    #[test]
    fn a_vendors_command_goes_to_the_device_behind_the_resource_manager() {
        for (named, used) in [("/dev/tpmrm0", "/dev/tpm0"), ("/dev/tpmrm1", "/dev/tpm1"), ("/dev/tpm0", "/dev/tpm0"), ("/tmp/x", "/tmp/x")]
        {
            assert_eq!(without_resource_manager(Path::new(named)), Path::new(used));
        }
    }
}
