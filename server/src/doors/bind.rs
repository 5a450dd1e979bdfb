//! Opens what is listened on: before the workers start, so that a mistake ends the start.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use ekm_otp_relay::unix_socket::{self, SocketFile};
use socket2::{Domain, SockAddr, Type};

use super::address::Address;
use super::settings::Doors;
use crate::error::ServerError;

/// As many connections wait to be accepted, per socket; the kernel may allow fewer.
const BACKLOG: i32 = 1024;

/// A socket that listens, for one worker.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
    Vsock(OwnedFd),
}

/// All that is listened on.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Each worker's sockets: one for each address.
    pub(crate) workers: Vec<Vec<Socket>>,
    /// What is listened on, ports that were left open filled in.
    pub(crate) addresses: Vec<String>,
    /// Removed when this is dropped: so keep it until the end.
    files: Vec<SocketFile>,
}

/// Opens everything in `listen`, and takes what the service manager has opened. TCP sockets are opened once for each worker, all on one address
/// (`SO_REUSEPORT`): the kernel shares new connections out among them. Others are shared.
pub(crate) fn listen(doors: &Doors, adopted: Vec<OwnedFd>, workers: usize) -> Result<Listening, ServerError> {
    let mut listening = Listening { workers: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new(), files: Vec::new() };
    // Those are the operator's choice, made elsewhere: `listen`, which has a default, is passed over.
    let own: &[Address] = if adopted.is_empty() { &doors.listen } else { &[] };
    for fd in adopted {
        listening.adopt(fd).map_err(|e| ServerError::io("cannot take a socket of the service manager", &e))?;
    }
    for address in own {
        listening.open(address, doors.socket_mode).map_err(|e| ServerError::io(&format!("cannot listen on {address}"), &e))?;
    }
    Ok(listening)
}

impl Listening {
    fn open(&mut self, address: &Address, mode: u32) -> io::Result<()> {
        match address {
            Address::Ip(address) => self.open_tcp(*address),
            Address::Name(name, port) => {
                let mut addresses: Vec<SocketAddr> = (name.as_str(), *port).to_socket_addrs()?.collect();
                addresses.sort_unstable();
                addresses.dedup();
                if addresses.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
                }
                addresses.into_iter().try_for_each(|address| self.open_tcp(address))
            }
            Address::Unix(path) => {
                let (socket, file) = unix_socket::listen(path, mode)?;
                self.files.push(file);
                self.share(&address.to_string(), || Ok(Socket::Unix(socket.try_clone()?)))
            }
            Address::Vsock { cid, port } => {
                let socket = socket2::Socket::new(Domain::VSOCK, Type::STREAM, None)?;
                socket.bind(&SockAddr::vsock(*cid, *port))?;
                socket.listen(BACKLOG)?;
                socket.set_nonblocking(true)?;
                self.share(&address.to_string(), || Ok(Socket::Vsock(socket.try_clone()?.into())))
            }
        }
    }

    fn open_tcp(&mut self, address: SocketAddr) -> io::Result<()> {
        let bound = |address: SocketAddr, is_shared: bool| {
            let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(is_shared)?;
            socket.bind(&address.into())?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        };
        // Not shared, and it never listens: so who listens there already is found, with SO_REUSEPORT or without; a port is chosen where that was
        // left open, and is held until all have it.
        let first = bound(address, false)?;
        let address = first.local_addr()?.as_socket().unwrap_or(address);
        self.share(&address.to_string(), || {
            let socket = bound(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(Socket::Tcp(socket.into()))
        })
    }

    /// What the service manager has opened and listens on already.
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<()> {
        let socket = socket2::Socket::from(fd);
        let address = socket.local_addr()?;
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it does not listen for streams: write ListenStream= in the .socket unit",
            ));
        }
        socket.set_nonblocking(true)?;
        if let Some(address) = address.as_socket() {
            return self.share(&address.to_string(), || Ok(Socket::Tcp(socket.try_clone()?.into())));
        }
        if let Some((cid, port)) = address.as_vsock_address() {
            return self.share(&Address::Vsock { cid, port }.to_string(), || Ok(Socket::Vsock(socket.try_clone()?.into())));
        }
        if !address.is_unix() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither TCP, a Unix socket nor vsock"));
        }
        let name = address.as_pathname().map_or("unix:".into(), |path| format!("unix:{}", path.display()));
        self.share(&name, || Ok(Socket::Unix(OwnedFd::from(socket.try_clone()?).into())))
    }

    fn share(&mut self, name: &str, of_worker: impl Fn() -> io::Result<Socket>) -> io::Result<()> {
        for worker in &mut self.workers {
            worker.push(of_worker()?);
        }
        self.addresses.push(name.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_is_taken_from_the_service_manager() {
        let mut listening = Listening { workers: vec![Vec::new(), Vec::new()], addresses: Vec::new(), files: Vec::new() };
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("an address");
        listening.adopt(tcp.into()).expect("a listener");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("adopted.sock");
        listening.adopt(UnixListener::bind(&path).expect("a socket").into()).expect("a listener");
        assert_eq!(listening.addresses, [address.to_string(), format!("unix:{}", path.display())]);
        assert!(listening.workers.iter().all(|sockets| sockets.len() == 2));
        assert!(listening.adopt(std::net::UdpSocket::bind("127.0.0.1:0").expect("a port").into()).is_err());
        assert!(listening.adopt(std::net::TcpStream::connect(address).expect("TCP").into()).is_err());
        assert!(listening.adopt(std::fs::File::open("/dev/null").expect("a file").into()).is_err());
        drop(listening);
        assert!(path.exists(), "the service manager's file is its own");
    }
}
