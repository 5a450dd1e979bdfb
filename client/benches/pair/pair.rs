//! What is compared, and how each is started. All ends of all pairs work on one processor.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::AnyError;
use crate::forward::End;
use crate::pki::{HOST, KID};
use crate::process::{Place, Process};

/// One line of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// None: the client is on the server's own port.
    Direct,
    /// TCP forwarders with mutual TLS, made of the libraries that this project uses: see [`forward`](crate::forward).
    Forwarders,
    /// stunnel as Debian packages it, which resumes sessions, and without that.
    Stunnel {
        /// Whether a new connection may be short.
        resumes: bool,
    },
    /// This project's client as a sidecar and its server as a reverse proxy, with a key in a file and a log in a file.
    Ours(Ours),
}

/// How the sidecar is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// As it is by default: HTTP/2 on the wire, one connection for all.
    Default,
    /// HTTP/1.1 on the wire, a connection for each request that is under way.
    Http1,
    /// With a signed token for each request.
    Jws,
    /// With a connection of its own for each request, as the others have one for each local connection.
    Unpooled,
}

impl Pair {
    /// In the order of measuring and of the tables.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::Forwarders,
        Self::Stunnel { resumes: true },
        Self::Stunnel { resumes: false },
        Self::Ours(Ours::Default),
        Self::Ours(Ours::Http1),
        Self::Ours(Ours::Jws),
        Self::Ours(Ours::Unpooled),
    ];

    /// As the tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forwarders => "mutual TLS",
            Self::Stunnel { resumes: true } => "stunnel",
            Self::Stunnel { resumes: false } => "stunnel, full handshakes",
            Self::Ours(Ours::Default) => "ekm-otp",
            Self::Ours(Ours::Http1) => "ekm-otp, HTTP/1.1",
            Self::Ours(Ours::Jws) => "ekm-otp, jws",
            Self::Ours(Ours::Unpooled) => "ekm-otp, no connection kept",
        }
    }
}

/// A pair's two ends, the client's end last. Both end when this is dropped.
pub struct Started {
    pub pair: Pair,
    /// None for [`Pair::Direct`].
    pub ends: Vec<Process>,
    /// Where the local client connects.
    pub addr: SocketAddr,
}

/// The server's binary, beside the client's.
pub fn server_binary() -> Result<PathBuf, AnyError> {
    if let Some(built) = std::env::var_os("EKM_OTP_TESTED_SERVER") {
        return Ok(built.into());
    }
    let client = Path::new(env!("CARGO_BIN_EXE_ekm-otp-client"));
    let profile = client.parent().ok_or("the client's binary stands in no folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--package", "ekm-otp-server", "--bin", "ekm-otp-server"]);
    build.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"), "--target-dir"]);
    build.arg(profile.parent().ok_or("no target folder")?);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    if build.status()?.success() { Ok(profile.join("ekm-otp-server")) } else { Err("the server's binary could not be built".into()) }
}

impl Started {
    /// Starts both ends in front of the upstream.
    pub fn new(pair: Pair, upstream: SocketAddr, folder: &Path, server: &Path) -> Result<Self, AnyError> {
        let ends = match pair {
            Pair::Direct => Vec::new(),
            Pair::Forwarders => {
                let forward = |end: End, to: SocketAddr| {
                    Process::start(Place::Pair, end.name(), |addr, command| {
                        command
                            .arg(std::env::current_exe()?)
                            .args(["--forward", end.name(), &addr.to_string(), &to.to_string()])
                            .arg(folder);
                        Ok(())
                    })
                };
                let server = forward(End::Server, upstream)?;
                let client = forward(End::Client, server.addr)?;
                vec![server, client]
            }
            Pair::Stunnel { resumes } => {
                let tunnel = |end: End, to: SocketAddr| {
                    Process::start(Place::Pair, "stunnel (Debian's package stunnel4)", |addr, command| {
                        let file = folder.join(format!("stunnel-{}.conf", addr.port()));
                        fs::write(&file, stunnel(end, addr, to, resumes, folder))?;
                        command.arg("stunnel").arg(file).stderr(File::create(folder.join(format!("{}.log", addr.port())))?);
                        Ok(())
                    })
                };
                let server = tunnel(End::Server, upstream)?;
                let client = tunnel(End::Client, server.addr)?;
                vec![server, client]
            }
            Pair::Ours(how) => {
                let server = Process::start(Place::Pair, "ekm-otp-server", |addr, command| {
                    command.arg(server).args(["run", "--server-name", HOST, "--listen", &addr.to_string()]).env_remove("EKM_OTP_LOG");
                    command.args(["--certificate", "server.pem", "--private-key", "server.key", "--secrets", "secrets.toml"]);
                    command.args(["--upstream", &format!("http://{upstream}")]).current_dir(folder);
                    command.stderr(File::create(folder.join(format!("{}.log", addr.port())))?);
                    Ok(())
                })?;
                let port = server.addr.port();
                let client = Process::start(Place::Pair, "ekm-otp-client proxy", |addr, command| {
                    command.arg(env!("CARGO_BIN_EXE_ekm-otp-client")).args(["proxy", "--listen", &addr.to_string()]);
                    command.args([
                        "--to",
                        &format!("https://{HOST}:{port}"),
                        "--kid",
                        KID,
                        "--secret-file",
                        "secret",
                        "--ca",
                        "server.pem",
                    ]);
                    match how {
                        Ours::Default => {}
                        Ours::Http1 => drop(command.arg("--http1.1")),
                        Ours::Jws => drop(command.args(["--credential", "jws"])),
                        Ours::Unpooled => drop(command.args(["--http1.1", "--idle-limit", "0"])),
                    }
                    command.current_dir(folder).stderr(File::create(folder.join(format!("{}.log", addr.port())))?);
                    Ok(())
                })?;
                vec![server, client]
            }
        };
        let addr = ends.last().map_or(upstream, |end| end.addr);
        Ok(Self { pair, ends, addr })
    }
}

fn stunnel(end: End, addr: SocketAddr, to: SocketAddr, resumes: bool, folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let (client, certificate, key, trusted, check) = match end {
        End::Client => ("yes", "client.pem", "client.key", "server.pem", format!("checkHost = {HOST}\n")),
        End::Server => ("no", "server.pem", "server.key", "clients.pem", String::new()),
    };
    let resumption = if resumes { "" } else { "sessionResume = no\noptions = NO_TICKET\n" };
    format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = err\n[pair]\nclient = {client}\naccept = {addr}\nconnect = {to}\ncert = {}\nkey = {}\n\
         CAfile = {}\nverifyChain = yes\nsslVersionMin = TLSv1.3\nTIMEOUTclose = 0\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n{check}{resumption}",
        file(certificate),
        file(key),
        file(trusted),
    )
}
