//! How each kind of server is started. All run with one thread of work and the same certificate.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::AnyError;
use crate::mode::{HOST, Log, Mode, PATH, Server, kid, secret};
use crate::pki::{certificate, client_issuer, private_key};

/// What servers are started with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Holds the certificates, and what else is read.
    pub folder: &'a Path,
    /// The server's binary.
    pub binary: &'a Path,
    /// What proxies hand requests on to.
    pub upstream: Option<SocketAddr>,
    /// The binary's registry, where it is not the one with the one client.
    pub registry: Option<&'a str>,
}

/// Adds to `command`, which runs what stands behind it, the server of `mode` on `addr`.
pub fn add(mut command: Command, mode: Mode, addr: SocketAddr, surroundings: Surroundings<'_>) -> Result<Command, AnyError> {
    let Surroundings { folder, binary, upstream, registry } = surroundings;
    let upstream = upstream.map(|upstream| upstream.to_string()).unwrap_or_default();
    match mode.server {
        Server::Binary(log) | Server::BinaryProxy(log) => {
            // One each: a server reads its registry again when it changes.
            let secrets = folder.join(format!("secrets-{}.toml", addr.port()));
            let usual = format!("[{}]\nsecret = \"{}\"\nclient = \"the client\"\n", kid()?, *secret()?.encode_base64());
            fs::write(&secrets, registry.unwrap_or(&usual))?;
            fs::set_permissions(&secrets, Permissions::from_mode(0o600))?;
            fs::set_permissions(private_key(folder), Permissions::from_mode(0o600))?;
            command.arg(binary).args(["run", "--server-name", HOST, "--listen", &addr.to_string()]);
            command.arg("--certificate").arg(certificate(folder)).arg("--private-key").arg(private_key(folder));
            command.arg("--secrets").arg(secrets).env_remove("EKM_OTP_LOG");
            command.arg("--upstream").arg(if mode.server.is_proxy() { format!("http://{upstream}") } else { "demo".to_owned() });
            // All come from one address, and some are to be refused.
            command.args(["--max-failures-per-source", "0"]);
            match log {
                Log::Errors => drop(command.args(["--log", "error"])),
                Log::Default => {}
                Log::All => drop(command.args(["--log", "debug", "--audit-log"]).arg(folder.join("audit.log"))),
            }
            command.stderr(File::create(folder.join(format!("{}.log", addr.port())))?);
        }
        Server::Nginx { .. } | Server::NginxProxy { .. } => {
            let file = folder.join(format!("nginx-{}.conf", addr.port()));
            fs::write(&file, nginx(addr, folder, mode.server, &upstream))?;
            // Its errors before it has read its configuration go to no file of the system's.
            command.args(["/usr/sbin/nginx", "-e", "stderr", "-c"]).arg(file);
        }
        _ => {
            command.arg(std::env::current_exe()?).args(["--serve", mode.name, &addr.to_string()]).arg(folder).arg(upstream);
        }
    }
    Ok(command)
}

fn nginx(addr: SocketAddr, folder: &Path, server: Server, upstream: &str) -> String {
    let (certificate, key, issuer) = (certificate(folder), private_key(folder), client_issuer(folder));
    let verify = if server.wants_certificates() {
        format!("ssl_client_certificate {}; ssl_verify_client on;", issuer.display())
    } else {
        String::new()
    };
    // What a proxy tells the application, as its documentation has it. Names of a client's certificate stand for ours.
    let (behind, location) = if server.is_proxy() {
        (
            format!("upstream app {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; keepalive_timeout 3600s; }}"),
            "location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
               proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host $host;
               proxy_set_header X-Client $ssl_client_s_dn; }"
                .to_owned(),
        )
    } else {
        (String::new(), format!("location = {PATH} {{ return 200 \"ok\\n\"; }}"))
    };
    format!(
        "daemon off; master_process off; worker_processes 1; pid off; error_log stderr error;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; default_type \"text/plain; charset=utf-8\";
           client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
           {behind}
           server {{
             listen {addr} ssl; server_name {HOST};
             ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off; {verify}
             {location}
           }}
         }}",
        certificate.display(),
        key.display(),
        folder = folder.display(),
    )
}

/// Builds the server's binary as it is released, and tells where it is: beside this program's own folder.
pub fn build_binary() -> Result<PathBuf, AnyError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--locked", "--package", "ekm-otp-server", "--manifest-path", manifest])
        .status()?;
    if !built.success() {
        return Err("the server's binary could not be built".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(manifest).with_file_name("target"), PathBuf::from);
    Ok(target.join("release/ekm-otp-server"))
}
