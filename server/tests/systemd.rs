//! The server's binary under a service manager: what it tells (sd_notify(3)), the sockets and credentials that it is handed, and the unit that is shipped.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/systemd");
// Test data, used nowhere else.
const REGISTRY: &str = "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"\n";
const PATIENCE: Duration = Duration::from_secs(30);

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A credentials folder as systemd would make it, with these among them.
fn credentials(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("ekm-otp.certificate"), certified.cert.pem()).expect("writing");
    write_private(&folder.path().join("ekm-otp.private-key"), &certified.signing_key.serialize_pem());
    write_private(&folder.path().join("ekm-otp.secrets"), REGISTRY);
    fs::write(folder.path().join("ekm-otp.config"), config).expect("writing");
    folder
}

const CONFIG: &str = "listen = \"127.0.0.1:0\"\nserver_names = [\"localhost\"]\nupstream = \"demo\"\n";

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    process: Child,
    log: BufReader<std::process::ChildStderr>,
    _folder: TempDir,
}

impl Manager {
    fn start(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("notify");
        let socket = UnixDatagram::bind(&at).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        command.env("NOTIFY_SOCKET", &at).envs(environment.iter().copied()).env_remove("EKM_OTP_LOG");
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the server");
        let log = BufReader::new(process.stderr.take().expect("its log"));
        Self { socket, process, log, _folder: folder }
    }

    /// The next message that holds this line.
    fn hears(&self, line: &str) -> String {
        let mut before = String::new();
        let mut buffer = [0; 4096];
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let Ok(length) = self.socket.recv(&mut buffer) else { break };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|told| told == line) {
                return message;
            }
            before += &message;
        }
        panic!("{line:?} was not heard, but:\n{before}");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status().expect("kill").success());
    }

    fn log_line(&mut self, what: &str) -> String {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert!(self.log.read_line(&mut line).expect("a line") > 0, "{what:?} was not logged");
        }
        line
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run() -> Command {
    let mut command = Command::new(SERVER);
    command.arg("run");
    command
}

#[test]
fn readiness_reloads_and_the_end_are_told_as_notify_reload_wants_them() {
    let credentials = credentials(CONFIG);
    let manager = Manager::start(run(), &[("CREDENTIALS_DIRECTORY", &credentials.path().display().to_string())]);
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=Serving localhost to 1 keys"), "{ready}");
    let mut before = 0;
    for _ in 0..2 {
        manager.signal("HUP");
        let reloading = manager.hears("RELOADING=1");
        let at = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let at: u128 = at.expect("the time at which it began").parse().expect("a number");
        assert!(at > before, "{reloading}");
        before = at;
        manager.hears("READY=1");
    }
    manager.signal("TERM");
    manager.hears("STOPPING=1");
}

#[test]
fn the_watchdog_is_fed_in_time_and_not_when_it_is_for_another_process() {
    let credentials = credentials(CONFIG);
    let directory = credentials.path().display().to_string();
    // `exec` keeps the process id that the variable is to name.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("WATCHDOG_PID=$$ exec {SERVER} run")]);
    let manager = Manager::start(command, &[("CREDENTIALS_DIRECTORY", &directory), ("WATCHDOG_USEC", "1500000")]);
    manager.hears("WATCHDOG=1");
    let started = Instant::now();
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());

    let other = Manager::start(run(), &[("CREDENTIALS_DIRECTORY", &directory), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    other.hears("READY=1");
    other.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time");
    assert!(other.socket.recv(&mut [0; 64]).is_err(), "it feeds another's watchdog");
}

#[test]
fn a_socket_of_the_manager_is_served_in_place_of_listen() {
    let credentials = credentials(CONFIG);
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    // The shell puts the socket where systemd does, from 3 on; what Rust opens is closed on exec, a copy is not.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec 3<&0 </dev/null; export LISTEN_PID=$$; exec {SERVER} run")]);
    let directory = credentials.path().display().to_string();
    let mut manager = {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("notify");
        let notified = UnixDatagram::bind(&at).expect("a socket");
        notified.set_read_timeout(Some(PATIENCE)).expect("a time");
        command.env("NOTIFY_SOCKET", &at).env("CREDENTIALS_DIRECTORY", &directory).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "https");
        let stdin = Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().expect("a copy")));
        let mut process = command.env_remove("EKM_OTP_LOG").stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it");
        let log = BufReader::new(process.stderr.take().expect("its log"));
        Manager { socket: notified, process, log, _folder: folder }
    };
    assert!(socket.as_raw_fd() > 2);
    manager.hears("READY=1");
    let line = manager.log_line("listening");
    assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
    // Each thread accepts from it.
    for _ in 0..8 {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the Debian package `openssl`"));
        openssl
            .stdin
            .take()
            .expect("its input")
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("writing");
        let mut told = String::new();
        openssl.stdout.take().expect("its output").read_to_string(&mut told).expect("an answer");
        let _ = openssl.wait();
        assert!(told.starts_with("HTTP/1.1 401"), "{told}");
    }
    drop(TcpStream::connect(("127.0.0.1", port)).expect("a connection"));
}

#[test]
fn flags_win_over_credentials() {
    let credentials = credentials(CONFIG);
    let mut command = run();
    command.args(["--realm", "of the flag", "--certificate", "missing.pem"]);
    command.env("CREDENTIALS_DIRECTORY", credentials.path()).env_remove("NOTIFY_SOCKET").env_remove("EKM_OTP_LOG");
    let output = command.stdin(Stdio::null()).output().expect("the server");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("cannot read missing.pem"), "{told}");
}

fn analyze(args: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run systemd-analyze ({e}): install the Debian package `systemd`"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_units_are_understood_but_for_what_is_newer_than_the_systemd_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(format!("{UNITS}/ekm-otp-server.service")).expect("the unit");
    assert!(unit.contains("ExecStart=/usr/bin/ekm-otp-server run"), "{unit}");
    let at = folder.path().join("ekm-otp-server.service");
    fs::write(&at, unit.replace("/usr/bin/ekm-otp-server", SERVER)).expect("writing");
    let socket = folder.path().join("ekm-otp-server.socket");
    fs::copy(format!("{UNITS}/ekm-otp-server.socket"), &socket).expect("copying");
    let (_, told) = analyze(&["verify", "--man=no", &at.display().to_string(), &socket.display().to_string()]);
    // Known from 253 on, the last one from later.
    let newer = ["notify-reload", "ImportCredential", "RefreshOnReload"];
    let complaints: Vec<&str> =
        told.lines().filter(|line| line.contains("ekm-otp-server") && !newer.iter().any(|known| line.contains(known))).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_unit_leaves_little_to_whoever_takes_the_server_over() {
    let (is_enough, told) = analyze(&["security", "--offline=true", "--threshold=20", &format!("{UNITS}/ekm-otp-server.service")]);
    assert!(is_enough, "{told}");
    let level = told.lines().find(|line| line.contains("Overall exposure level")).unwrap_or(&told);
    assert!(level.contains("OK"), "{level}");
}

#[test]
fn it_writes_where_its_configuration_says_and_nowhere_else() {
    let config = format!("access_log = \"logs/access.log\"\n{CONFIG}");
    let credentials = credentials(&config);
    let at = |name: &str| credentials.path().join(name);
    fs::create_dir(at("logs")).expect("a folder");
    let mut manager = Manager::start(run(), &[("CREDENTIALS_DIRECTORY", &credentials.path().display().to_string())]);
    manager.hears("READY=1");
    let line = manager.log_line("landlock=");
    if !line.contains("landlock=\"enforced") && !line.contains("landlock=enforced") {
        // The kernel decides; what it did not do is said, and nothing else is promised.
        assert!(line.contains("not enforced"), "{line}");
        return;
    }
    // Its own folder: a log that was moved away is made anew.
    fs::rename(at("logs/access.log"), at("logs/access.log.1")).expect("renaming");
    manager.signal("USR1");
    let until = Instant::now() + PATIENCE;
    while !at("logs/access.log").exists() {
        assert!(Instant::now() < until, "the log is not made anew");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The same name leads elsewhere.
    fs::rename(at("logs"), at("before")).expect("renaming");
    fs::create_dir(at("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink("elsewhere", at("logs")).expect("a link");
    manager.signal("USR1");
    let line = manager.log_line("ermission denied");
    assert!(line.contains("access.log"), "{line}");
    assert!(!at("elsewhere/access.log").exists());
}
