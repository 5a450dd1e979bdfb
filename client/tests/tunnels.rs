//! Programs that speak no HTTP, through the server's TCP tunnels, with a key in the TPM: psql, ssh, git over ssh, as they come.

mod common;
#[allow(dead_code, reason = "the server's tests use the rest")]
#[path = "../../server/tests/common/postgres.rs"]
mod postgres;
mod tunnelled;

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::text;
use postgres::Postgres;
use tunnelled::{Gate, Sshd, bridge, ends, target, within};

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(600);

/// Waits until it is so, but not for ever.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    since.elapsed()
}

#[test]
fn psql_speaks_to_a_database_through_connect() {
    let postgres = Postgres::start();
    let gate = Gate::before(&[("db.internal:5432", &postgres.address())]);
    for flags in [&[][..], &["--http1.1"]] {
        let port = bridge(gate.connect("db.internal:5432", flags));
        let rows =
            postgres.psql(port, "SELECT count(*), sum(length(x)) FROM (SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)) AS t");
        assert_eq!(rows, "20000|20000000\n");
        let all = postgres.psql(port, "SELECT repeat('y', 1000) FROM generate_series(1, 10000)");
        assert_eq!(all.len(), 10_010_000);
    }
}

#[test]
fn ssh_and_git_over_it_go_through_a_proxy_command() {
    let sshd = Sshd::start();
    let gate = Gate::before(&[("bastion.internal:22", &sshd.address())]);
    let config = sshd.client_config(&format!("ProxyCommand {} [%h]:%p", gate.connect_line()));
    let ssh = |command: &str| {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&config).args(["bastion.internal", command]).stdin(Stdio::null());
        within("ssh", ssh)
    };
    let hello = ssh("echo hello; exit 3");
    assert_eq!((hello.status.code(), text(&hello.stdout).as_str()), (Some(3), "hello\n"), "{}", text(&hello.stderr));
    // ssh ends what it came through by a signal, which is no news to anybody.
    assert!(!text(&hello.stderr).contains("ekm-otp-client"), "{}", text(&hello.stderr));
    // Much, both ways: what goes in comes back.
    let sent: Vec<u8> = (0..8_000_000_u32).map(|at| (at ^ (at >> 8)).to_le_bytes()[0]).collect();
    fs::write(sshd.path("sent"), &sent).expect("writing");
    let mut cat = Command::new("ssh");
    cat.arg("-F").arg(&config).args(["bastion.internal", "cat"]).stdin(fs::File::open(sshd.path("sent")).expect("it"));
    let back = within("ssh", cat);
    assert!(back.stdout == sent, "{} bytes: {}", back.stdout.len(), text(&back.stderr));
    // A repository there, cloned and pushed to from here.
    let repository = sshd.repository();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(sshd.path("")).env("GIT_SSH_COMMAND", format!("ssh -F {}", config.display()));
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").stdin(Stdio::null());
        let done = within("git", git);
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        text(&done.stdout)
    };
    git(&["clone", "--quiet", &format!("ssh://bastion.internal{repository}"), "cloned"]);
    assert_eq!(fs::read_to_string(sshd.path("cloned/file")).expect("the file"), "content\n");
    let of_me = ["-c", "user.name=test", "-c", "user.email=test@example.test"];
    git(&[&["-C", "cloned"], &of_me[..], &["commit", "--quiet", "--allow-empty", "-m", "second"]].concat());
    git(&["-C", "cloned", "push", "--quiet", "origin", "HEAD"]);
    assert_eq!(git(&["-C", &repository, "log", "--format=%s", "-1"]), "second\n");
}

#[test]
fn each_side_may_end_first_and_the_other_goes_on() {
    let answers = target(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("all of it");
        stream.write_all(&[b"heard ", &*heard].concat()).expect("writing");
    });
    let speaks_first = target(|mut stream| {
        stream.write_all(b"that is all").expect("writing");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("all of it");
        assert_eq!(heard, "and that was the answer");
    });
    let gate = Gate::before(&[("answers:1", &answers.address()), ("speaks:1", &speaks_first.address())]);
    for flags in [&[][..], &["--http1.1"]] {
        let mut child = gate.connect("answers:1", flags).spawn().expect("the client");
        child.stdin.take().expect("its input").write_all(b"everything").expect("writing");
        let output = ends(child);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "heard everything"), "{}", text(&output.stderr));

        let mut child = gate.connect("speaks:1", flags).spawn().expect("the client");
        let mut heard = String::new();
        // Its input is still open: the end of what is said here is seen all the same.
        child.stdout.take().expect("its output").read_to_string(&mut heard).expect("all of it");
        assert_eq!(heard, "that is all");
        child.stdin.take().expect("its input").write_all(b"and that was the answer").expect("writing");
        let output = ends(child);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    assert_eq!((answers.served(), speaks_first.served()), (2, 2), "and each has seen what it expects");
}

#[test]
fn why_there_is_no_tunnel_is_told_and_is_the_exit_code() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let gate = Gate::before(&[("gone:1", &nobody)]);
    for (target, code, told) in [
        ("other:1", 77, "has no target other:1 for this key"),
        ("gone:1", 69, "cannot reach gone:1"),
        ("nonsense", 64, "not of the form HOST:PORT"),
        ("a:b:1", 64, "not of the form HOST:PORT"),
    ] {
        let output = within("the client", gate.connect(target, &[]));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{target}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(told), "{target}: {}", text(&output.stderr));
    }
    // Without --via a profile says through which server; without one, that is said.
    let mut unnamed = common::client();
    unnamed.args(["connect", "db:1"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = within("the client", unnamed);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    let profile = format!(
        "[profile.work]\norigins = [\"https://localhost:{}\"]\nkid = \"client1\"\nkey = \"client1.pem\"\nca = \"server.pem\"\ntcti = \"{}\"\n",
        gate.server.port,
        gate.bench.swtpm.tcti()
    );
    let file = gate.bench.path("config.toml");
    common::write_private(&file, &profile);
    let mut by_profile = common::client();
    by_profile.env("EKM_OTP_CONFIG", &file).args(["connect", "-v", "other:1"]);
    by_profile.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = within("the client", by_profile);
    assert!(output.status.code() == Some(77) && text(&output.stderr).contains("has no target"), "{}", text(&output.stderr));
}

#[test]
fn a_tunnel_that_is_cut_tells_the_program_so() {
    let resets = target(|mut stream| {
        let _ = stream.read(&mut [0]);
        stream.write_all(b"half of it").expect("writing");
        std::thread::sleep(Duration::from_millis(100));
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
    });
    let waits = target(|mut stream| {
        let _ = stream.write_all(b"half of it");
        std::thread::sleep(FOR_EVER);
    });
    let mut gate = Gate::before(&[("resets:1", &resets.address()), ("waits:1", &waits.address())]);
    for flags in [&[][..], &["--http1.1"]] {
        let mut child = gate.connect("resets:1", flags).spawn().expect("the client");
        child.stdin.take().expect("its input").write_all(b"?").expect("writing");
        let output = ends(child);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(69), "half of it"), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("was cut"), "{}", text(&output.stderr));
    }
    // The server dies; the programs have said all that they will.
    let children: Vec<_> = [&[][..], &["--http1.1"]]
        .map(|flags| {
            let mut child = gate.connect("waits:1", flags).spawn().expect("the client");
            child.stdout.as_mut().expect("its output").read_exact(&mut [0; 10]).expect("half of it");
            drop(child.stdin.take());
            child
        })
        .into();
    gate.server.process.kill().expect("its end");
    for child in children {
        let output = ends(child);
        assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let speaks = target(|mut stream| {
        let _ = stream.write_all(&[b'x'; 100_000]);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let gate = Gate::before(&[("speaks:1", &speaks.address())]);
    let mut full = gate.connect("speaks:1", &[]);
    full.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
    let output = ends(full.spawn().expect("the client"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write to standard output: No space left"), "{}", text(&output.stderr));
    // Who has closed the pipe wants no more of it.
    let mut child = gate.connect("speaks:1", &[]).spawn().expect("the client");
    drop(child.stdout.take());
    let output = ends(child);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{}", text(&output.stderr));
}

#[test]
fn much_passes_in_bounded_memory() {
    const MUCH: u64 = 256 << 20;
    let source = target(|mut stream| {
        let zeros = vec![0; 1 << 20];
        for _ in 0..MUCH >> 20 {
            stream.write_all(&zeros).expect("writing");
        }
    });
    let sink = target(|mut stream| {
        let count = std::io::copy(&mut stream, &mut std::io::sink()).expect("all of it");
        stream.write_all(count.to_string().as_bytes()).expect("writing");
    });
    let gate = Gate::before(&[("source:1", &source.address()), ("sink:1", &sink.address())]);
    let before = gate.memory();
    for flags in [&[][..], &["--http1.1"]] {
        let since = Instant::now();
        let mut child = gate.connect("source:1", flags).spawn().expect("the client");
        let count = std::io::copy(child.stdout.as_mut().expect("its output"), &mut std::io::sink()).expect("all of it");
        let peak = tunnelled::peak(child.id());
        assert_eq!((count, ends(child).status.code()), (MUCH, Some(0)));
        eprintln!("{flags:?}: down {:.0} MiB/s, client {peak} KiB", (MUCH >> 20) as f64 / since.elapsed().as_secs_f64());
        assert!(peak < 64 << 10, "the client took {peak} KiB");

        let since = Instant::now();
        let mut child = gate.connect("sink:1", flags).spawn().expect("the client");
        let mut input = child.stdin.take().expect("its input");
        let zeros = vec![0; 1 << 20];
        for _ in 0..MUCH >> 20 {
            input.write_all(&zeros).expect("writing");
        }
        let peak = tunnelled::peak(child.id());
        drop(input);
        let output = ends(child);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), MUCH.to_string()), "{}", text(&output.stderr));
        eprintln!("{flags:?}: up {:.0} MiB/s, client {peak} KiB", (MUCH >> 20) as f64 / since.elapsed().as_secs_f64());
        assert!(peak < 64 << 10, "the client took {peak} KiB");
    }
    let after = gate.memory();
    assert!(after < before + (64 << 10), "the server went from {before} to {after} KiB");
}

#[test]
fn a_revoked_key_loses_its_tunnel_and_the_program_is_told() {
    let waits = target(|mut stream| {
        let _ = stream.write_all(b"hello");
        std::thread::sleep(FOR_EVER);
    });
    let gate = Gate::before(&[("waits:1", &waits.address())]);
    let mut child = gate.connect("waits:1", &[]).spawn().expect("the client");
    child.stdout.as_mut().expect("its output").read_exact(&mut [0; 5]).expect("a tunnel");
    let registry = fs::read_to_string(gate.bench.path("secrets.toml")).expect("reading");
    common::write_private(&gate.bench.path("secrets.toml"), &format!("{}\nstate = \"revoked\"\n", registry.trim_end()));
    let output = ends(child);
    assert!(output.status.code() == Some(69) && text(&output.stderr).contains("was cut"), "{}", text(&output.stderr));
    assert_eq!(within("the client", gate.connect("waits:1", &[])).status.code(), Some(77), "nor does it get another");
}

#[test]
fn psql_and_ssh_go_through_the_sidecars_tcp_many_at_a_time() {
    let (postgres, sshd) = (Postgres::start(), Sshd::start());
    let gate = Gate::before(&[("db.internal:5432", &postgres.address()), ("bastion.internal:22", &sshd.address())]);
    let tunnels = [("127.0.0.1:0", "db.internal:5432"), ("127.0.0.1:0", "bastion.internal:22"), ("unix:.s.PGSQL.5432", "db.internal:5432")];
    let sidecar = gate.sidecar(&tunnels, &[]);
    let port = sidecar.port("db.internal:5432");
    std::thread::scope(|scope| {
        for number in 0..10 {
            let postgres = &postgres;
            scope.spawn(move || {
                let all = postgres.psql(port, &format!("SELECT {number}, repeat('x', 100000) FROM generate_series(1, 20)"));
                assert_eq!(all.len(), 20 * 100_003, "{number}");
            });
        }
    });
    // By a Unix socket, where PostgreSQL's own programs look for one.
    let folder = gate.bench.swtpm.dir().display().to_string();
    assert_eq!(postgres.psql_at(&folder, 5432, "SELECT 'by the socket'"), "by the socket\n");
    // And ssh, as if sshd were here.
    let config = sshd.client_config(&format!("HostName 127.0.0.1\nPort {}", sidecar.port("bastion.internal:22")));
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(&config).args(["bastion.internal", "head -c 5000000 /dev/zero | tr '\\0' y; exit 4"]).stdin(Stdio::null());
    let output = within("ssh", ssh);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 5_000_000), "{}", text(&output.stderr));
    assert!(!sidecar.log().contains("no tunnel") && !sidecar.log().contains("was cut"), "{}", sidecar.log());
}

#[test]
fn the_sidecar_resets_a_local_connection_whose_tunnel_is_refused_or_cut() {
    let resets = target(|mut stream| {
        let _ = stream.read(&mut [0]);
        stream.write_all(b"half of it").expect("writing");
        std::thread::sleep(Duration::from_millis(100));
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
    });
    let answers = target(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("all of it");
        stream.write_all(&[b"heard ", &*heard].concat()).expect("writing");
    });
    let waits = target(|mut stream| {
        let _ = stream.write_all(b"hello");
        std::thread::sleep(FOR_EVER);
    });
    let gate = Gate::before(&[("resets:1", &resets.address()), ("answers:1", &answers.address()), ("waits:1", &waits.address())]);
    let names = ["resets:1", "answers:1", "waits:1", "others:1"];
    let mut sidecar = gate.sidecar(&names.map(|name| ("127.0.0.1:0", name)), &["--drain", "1"]);
    let connect = |name: &str| std::net::TcpStream::connect(("127.0.0.1", sidecar.port(name))).expect("a connection");
    let rest = |mut stream: &std::net::TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map(|_| rest)
    };
    // What is whole, is.
    let mut stream = connect("answers:1");
    stream.write_all(b"everything").expect("writing");
    stream.shutdown(std::net::Shutdown::Write).expect("the end");
    assert_eq!(rest(&stream).expect("a whole answer"), b"heard everything");
    for (name, told) in [("others:1", "has no target others:1 for this key"), ("resets:1", "the tunnel to resets:1")] {
        let mut stream = connect(name);
        let _ = stream.write_all(b"?");
        assert_eq!(rest(&stream).expect_err(name).kind(), std::io::ErrorKind::ConnectionReset);
        until("it is told", || sidecar.log().contains(told));
    }
    // A sidecar that is stopped waits for what is under way, and breaks off what does not end.
    let mut stream = connect("waits:1");
    stream.read_exact(&mut [0; 5]).expect("a tunnel");
    let id = sidecar.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    assert_eq!(rest(&stream).expect_err("cut").kind(), std::io::ErrorKind::ConnectionReset);
    assert!(sidecar.process.wait().expect("its end").success(), "{}", sidecar.log());
}
