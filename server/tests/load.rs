//! What an operator does under clients who go on asking through the reverse proxy: none of them may notice.

mod common;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::client::{Dialler, Http, Key};
use common::honest::Honest;
use common::pki::{Pki, replace};
use common::server::{BINARY, Server, told_by};
use common::upstream::Upstream;
use common::{HOST, SOON, one_site, until_so};
use tempfile::TempDir;

const RELOADS: usize = 1_000;

/// What is there to be replaced, round after round.
struct Site {
    folder: TempDir,
    pki: Pki,
    config: String,
    /// The registry file without the keys that come and go.
    registry: String,
    server: Server,
}

impl Site {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a certificate, the registry or the configuration, by one that cannot be taken over, for three rounds, in every
    /// twentieth.
    fn change(&self, round: usize) {
        match round % 4 {
            0 => self.pki.issue_to(self.folder.path(), "server", &[HOST]),
            // Ten other keys are there, and then ten others.
            1 => {
                let others: String = (100..110).map(|number| Key::numbered(round * 10 + number).entry()).collect();
                replace(&self.at("registry.toml"), &format!("{}{others}", self.registry));
            }
            2 => replace(&self.at("server.toml"), &format!("{}idle_timeout = {}\n", self.config, 60 + round % 60)),
            _ if round % 20 == 3 => replace(&self.at("server.toml"), &format!("{}upstraem = 1\n", self.config)),
            _ => replace(&self.at("server.toml"), &self.config),
        }
    }

    /// Gives the client of this key a new one, as its operator does.
    fn rotate(&mut self, key: &Key) -> Key {
        replace(&self.at("registry.toml"), &self.registry);
        let told = told_by(self.folder.path(), &["key", "--registry", "registry.toml", "rotate", &key.kid, "--overlap", "1h", "--json"]);
        self.registry = std::fs::read_to_string(self.at("registry.toml")).expect("the registry");
        Key::told(&told)
    }
}

#[tokio::test]
async fn a_thousand_reloads_and_rotated_keys_are_felt_by_nobody() {
    let (folder, pki, upstream) = (tempfile::tempdir().expect("a folder"), Pki::new(), Upstream::start());
    let keys = [Key::numbered(1), Key::numbered(2)];
    // Its log is searched: requests need not stand in it.
    let config = one_site(folder.path(), &pki, &keys, &upstream) + "log = \"info,access=off\"\n";
    let registry = std::fs::read_to_string(folder.path().join("registry.toml")).expect("the registry");
    let server = Server::start(folder.path(), "server", &config);
    let dialler = Dialler::new(&pki, server.address, HOST);
    let mut site = Site { folder, pki, config, registry, server };
    // Clients whose key stays, and others whose key is rotated.
    let staying = Honest::start(4, Duration::from_millis(5), &dialler, &keys[0]);
    let moving = Honest::start(4, Duration::from_millis(5), &dialler, &keys[1]);
    staying.go_on(100).await;
    let (started, descriptors) = (Instant::now(), site.server.descriptors());
    let (mut key, mut rotations) = (keys[1].clone(), 0);
    for round in 0..RELOADS {
        if round % 200 == 100 {
            let new = site.rotate(&key);
            // An unknown key id counts as a failure of its source: it is tried from another one.
            answered(&dialler.from(Ipv4Addr::new(127, 9, 0, 1)), &new).await;
            moving.use_key(&new);
            moving.go_on(20).await;
            answered(&dialler, &key).await;
            (key, rotations) = (new, rotations + 1);
        }
        site.change(round);
        let before = site.server.logged("reloaded");
        site.server.signal("HUP");
        until_so("a reload", || site.server.logged("reloaded") > before).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    // And without a signal.
    let taken = || site.server.logged("reloaded") - site.server.logged("not reloaded");
    let before = taken();
    site.change(0);
    until_so("a reload by itself", || taken() > before).await;
    staying.go_on(100).await;
    let refused = RELOADS / 20 * 3;
    assert!(site.server.logged("not reloaded") >= refused, "files that are wrong were taken over");
    assert!(taken() > RELOADS - refused, "{} of {RELOADS} reloads were taken over", taken());
    // Connections to the application from before are not kept for ever.
    until_so("what the old settings needed is closed", || site.server.descriptors() < descriptors + 100).await;
    println!("{RELOADS} reloads in {seconds:.1} s, {refused} of them of wrong files; {rotations} rotations");
    staying.end("honest clients whose key stays").await;
    moving.end("honest clients whose key is rotated").await;
}

/// Waits until this key is known.
async fn answered(dialler: &Dialler, key: &Key) {
    let started = Instant::now();
    loop {
        let mut connection = dialler.open(Http::One, key).await.expect("a connection");
        let status = connection.get("/n/x").await.expect("an answer").0;
        if status == 200 {
            return;
        }
        assert!(started.elapsed() < SOON, "{} is answered {status}", key.kid);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Requests that are answered now and ones that take a while, each known to the application by its word, until the connection ends. `refused` counts
/// connections that could not be made.
struct Asking {
    upstream: Arc<Upstream>,
    answered: Mutex<HashSet<String>>,
    lost: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Asking {
    fn new(upstream: &Arc<Upstream>) -> Arc<Self> {
        let (answered, lost, refused) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { upstream: Arc::clone(upstream), answered, lost, refused, is_over: AtomicBool::new(false) })
    }

    /// One client. An unanswered request that the application has seen is lost; one that it has not may be asked again, and is.
    async fn ask(self: Arc<Self>, dialler: Dialler, key: Key, number: usize) {
        let http = if number.is_multiple_of(2) { Http::One } else { Http::Two };
        let mut asked = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let mut connection = match dialler.open(http, &key).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.refused.lock().expect("the refused").push(format!("{http:?}: {error}"));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            };
            for on_it in 0..20 {
                let word = format!("{number}-{asked}");
                asked += 1;
                let path = if asked % 3 == 0 { format!("/slow/50/{word}") } else { format!("/n/{word}") };
                let answer = tokio::time::timeout(SOON, connection.get(&path)).await.expect("an answer or an end");
                match answer {
                    Ok((status, body)) if status == 200 && body == word.as_bytes() => {
                        self.answered.lock().expect("the answered").insert(word);
                    }
                    Ok((status, body)) => self.lost.lock().expect("the lost").push(format!("{http:?} {word}: {status} {body:?}")),
                    Err(error) => {
                        if self.upstream.seen().contains(&word) {
                            self.lost.lock().expect("the lost").push(format!("{http:?} {word}: {error:?}"));
                        } else if on_it == 0 {
                            self.refused
                                .lock()
                                .expect("the refused")
                                .push(format!("{http:?}, the first request of a connection: {error:?}"));
                        }
                        break;
                    }
                }
                if self.is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_answers_every_request_that_it_took() {
    let (folder, pki, upstream) = (tempfile::tempdir().expect("a folder"), Pki::new(), Arc::new(Upstream::start()));
    let key = Key::numbered(1);
    let config = one_site(folder.path(), &pki, std::slice::from_ref(&key), &upstream);
    let mut all = 0;
    for round in 0..5 {
        let mut server = Server::start(folder.path(), "server", &config);
        let asking = Asking::new(&upstream);
        let dialler = Dialler::new(&pki, server.address, HOST);
        let client = |number: usize| tokio::spawn(Arc::clone(&asking).ask(dialler.clone(), key.clone(), 1000 * round + number));
        let clients: Vec<_> = (0..12).map(client).collect();
        until_so("requests are answered", || asking.answered.lock().expect("the answered").len() > 200).await;
        let stopped = Instant::now();
        server.signal("TERM");
        let status = tokio::task::spawn_blocking(move || server.ended()).await.expect("its end");
        assert_eq!(status.code(), Some(0));
        let seconds = stopped.elapsed().as_secs_f64();
        asking.is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("a client");
        }
        let lost = asking.lost.lock().expect("the lost");
        let answered = asking.answered.lock().expect("the answered").len();
        assert!(lost.is_empty(), "of {answered} requests are lost: {lost:#?}");
        all += answered;
        println!("stopped under load: {answered} requests answered, none lost, ended after {seconds:.2} s");
    }
    println!("{all} requests in all");
}

/// As the service manager starts a process: with a listening socket that it holds itself (sd_listen_fds(3)).
fn with_socket(folder: &Path, socket: &std::net::TcpListener) -> Command {
    let mut command = Command::new("bash");
    // The shell's process becomes the server's: so its number is known.
    let line = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
    command.args(["-c", line, "bash", BINARY, "run", "--config", "server.toml"]).current_dir(folder);
    let socket = OwnedFd::from(socket.try_clone().expect("a socket"));
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped()).env_remove("EKM_OTP_LOG");
    command
}

#[tokio::test]
async fn an_upgrade_by_passed_sockets_loses_no_connection_and_no_request() {
    let (folder, pki, upstream) = (tempfile::tempdir().expect("a folder"), Pki::new(), Arc::new(Upstream::start()));
    let key = Key::numbered(1);
    replace(&folder.path().join("server.toml"), &one_site(folder.path(), &pki, std::slice::from_ref(&key), &upstream));
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dialler = Dialler::new(&pki, socket.local_addr().expect("an address"), HOST);
    let mut old = Server::started(with_socket(folder.path(), &socket), folder.path(), "server");
    let asking = Asking::new(&upstream);
    let client = |number: usize| tokio::spawn(Arc::clone(&asking).ask(dialler.clone(), key.clone(), number));
    let clients: Vec<_> = (0..8).map(client).collect();
    let answered = || asking.answered.lock().expect("the answered").len();
    let upgrades = 5;
    for upgrade in 1..=upgrades {
        until_so("requests are answered", || answered() > 150 * upgrade).await;
        let new = Server::started(with_socket(folder.path(), &socket), folder.path(), "server");
        old.signal("TERM");
        let mut left = std::mem::replace(&mut old, new);
        let status = tokio::task::spawn_blocking(move || left.ended()).await.expect("its end");
        assert_eq!(status.code(), Some(0));
    }
    until_so("requests are answered", || answered() > 150 * (upgrades + 1)).await;
    asking.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    let (lost, refused) = (asking.lost.lock().expect("the lost"), asking.refused.lock().expect("the refused"));
    assert!(lost.is_empty() && refused.is_empty(), "of {} requests are lost: {lost:#?}, connections: {refused:#?}", answered());
    println!("{upgrades} upgrades under load: {} requests answered, none lost, no connection refused", answered());
}
