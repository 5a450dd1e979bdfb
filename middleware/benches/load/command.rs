//! How each kind of server is started. All run with one thread of work and the same certificate.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::AnyError;
use crate::mode::{HOST, Log, Mode, PATH, Server, kid, secret};
use crate::pki::{certificate, client_issuer, private_key};

/// Adds to `command`, which runs what stands behind it, the server of `mode` on `addr`. `folder` holds the certificates, and what else is read.
pub fn add(mut command: Command, mode: Mode, addr: SocketAddr, folder: &Path, binary: &Path) -> Result<Command, AnyError> {
    match mode.server {
        Server::Binary(log) => {
            let secrets = folder.join("secrets.toml");
            fs::write(&secrets, format!("[{}]\nsecret = \"{}\"\nclient = \"the client\"\n", kid()?, *secret()?.encode_base64()))?;
            fs::set_permissions(&secrets, Permissions::from_mode(0o600))?;
            fs::set_permissions(private_key(folder), Permissions::from_mode(0o600))?;
            command.arg(binary).args(["run", "--server-name", HOST, "--upstream", "demo", "--listen", &addr.to_string()]);
            command.arg("--certificate").arg(certificate(folder)).arg("--private-key").arg(private_key(folder));
            command.arg("--secrets").arg(secrets).env_remove("EKM_OTP_LOG");
            if log == Log::Errors {
                command.args(["--log", "error"]);
            }
            command.stderr(File::create(folder.join(format!("{}.log", addr.port())))?);
        }
        Server::Nginx { client_certificates } => {
            let file = folder.join(format!("nginx-{}.conf", addr.port()));
            fs::write(&file, nginx(addr, folder, client_certificates))?;
            // Its errors before it has read its configuration go to no file of the system's.
            command.args(["/usr/sbin/nginx", "-e", "stderr", "-c"]).arg(file);
        }
        Server::Bare | Server::BareMtls | Server::Usual | Server::Bearer | Server::Layer => {
            command.arg(std::env::current_exe()?).args(["--serve", mode.name, &addr.to_string()]).arg(folder);
        }
    }
    Ok(command)
}

fn nginx(addr: SocketAddr, folder: &Path, client_certificates: bool) -> String {
    let (certificate, key, issuer) = (certificate(folder), private_key(folder), client_issuer(folder));
    let verify =
        if client_certificates { format!("ssl_client_certificate {}; ssl_verify_client on;", issuer.display()) } else { String::new() };
    format!(
        "daemon off; master_process off; worker_processes 1; pid off; error_log stderr error;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; default_type \"text/plain; charset=utf-8\";
           client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
           server {{
             listen {addr} ssl; server_name {HOST};
             ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off; {verify}
             location = {PATH} {{ return 200 \"ok\\n\"; }}
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
