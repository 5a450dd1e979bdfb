//! A pair of TCP forwarders with mutual TLS, as Ghostunnel is one, made of the libraries that this project uses: each local connection becomes a
//! TLS connection of its own, and bytes are carried both ways.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::AnyError;
use crate::pki::{self, HOST};

/// Which end of the pair.
#[derive(Clone, Copy)]
pub enum End {
    /// Takes plain connections and makes TLS ones.
    Client,
    /// Takes TLS connections and makes plain ones.
    Server,
}

/// As much as each end holds of each direction.
const BUFFER: usize = 64 * 1024;

impl End {
    /// By its name on the command line.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Client, Self::Server].into_iter().find(|end| end.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Forwards until the process ends.
pub fn run(end: End, addr: SocketAddr, to: SocketAddr, folder: &Path) -> Result<(), AnyError> {
    let connector = TlsConnector::from(Arc::new(pki::client_config(folder)?));
    let acceptor = TlsAcceptor::from(Arc::new(pki::server_config(folder)?));
    // As both binaries have it: work is shared by as many threads as there are processors.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(addr).await?;
        loop {
            let (tcp, _) = listener.accept().await?;
            let (connector, acceptor) = (connector.clone(), acceptor.clone());
            tokio::spawn(async move {
                tcp.set_nodelay(true)?;
                match end {
                    End::Client => {
                        let mut tcp = tcp;
                        let onward = TcpStream::connect(to).await?;
                        onward.set_nodelay(true)?;
                        let mut tls = connector.connect(HOST.try_into()?, onward).await?;
                        copy_bidirectional_with_sizes(&mut tcp, &mut tls, BUFFER, BUFFER).await?;
                    }
                    End::Server => {
                        let mut tls = acceptor.accept(tcp).await?;
                        let mut onward = TcpStream::connect(to).await?;
                        onward.set_nodelay(true)?;
                        copy_bidirectional_with_sizes(&mut tls, &mut onward, BUFFER, BUFFER).await?;
                    }
                }
                Ok::<_, AnyError>(())
            });
        }
    })
}
