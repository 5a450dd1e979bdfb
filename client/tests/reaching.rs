//! The way to the server: several addresses, certificates that are refused, ports that speak something else. All keys are test data.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use common::{Bench, Server, text};
use ekm_otp_client::dial;
use rcgen::{CertificateParams, IsCa, KeyPair, date_time_ymd};

/// An address that never answers: its listener's queue is full.
struct BlackHole {
    address: SocketAddr,
    _sockets: Vec<socket2::Socket>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("bound");
        socket.listen(0).expect("listening");
        let address = socket.local_addr().expect("an address").as_socket().expect("IP");
        let fill = |_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("set");
            let _ = client.connect(&address.into());
            client
        };
        let clients = (0..4).map(fill);
        Self { address, _sockets: clients.chain([socket]).collect() }
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_or_refuses_holds_the_next_one_up_for_a_head_start_only() {
    let hole = BlackHole::new();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port that is free again");
    let right = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = right.local_addr().expect("an address");
    // Longer than any test runs: only the head start brings the next one on.
    let patient = Duration::from_secs(3600);
    let tcp = dial(&[hole.address, closed, address], patient).await.expect("a connection");
    assert_eq!(tcp.peer_addr().expect("an address"), address);
    let told = dial(&[closed, "127.0.0.2:9".parse().expect("an address")], patient).await.expect_err("nobody is there").to_string();
    assert!(told.contains("127.0.0.1: Connection refused") && told.contains("127.0.0.2: Connection refused"), "{told}");
    // Each has a deadline of its own: two of them do not share one.
    let told = dial(&[hole.address, hole.address], Duration::from_millis(400)).await.expect_err("nobody answers").to_string();
    assert_eq!(told.matches("no answer in 400ms").count(), 2, "{told}");
}

#[test]
fn a_certificate_that_is_refused_is_told_in_words() {
    let bench = Bench::new();
    bench.create_key();
    let certify = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(bench.path("server.pem"), certificate.pem()).expect("writing");
        std::fs::write(bench.path("server.key"), key.serialize_pem()).expect("writing");
    };
    let refused = |told: &[&str]| {
        let server = Server::start(&bench, &[]);
        let output = bench.get(&server, "/get", &[]);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{shown}");
        assert!(told.iter().all(|part| shown.contains(part)), "{told:?}: {shown}");
    };
    certify(|params| params.not_after = date_time_ymd(2020, 2, 29));
    refused(&["it expired on Sat, 29 Feb 2020 00:00:00 GMT, and this machine's clock says "]);
    certify(|params| params.not_before = date_time_ymd(3000, 1, 1));
    refused(&["it is valid from Wed, 01 Jan 3000 00:00:00 GMT on, and this machine's clock says "]);
    certify(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    refused(&["it is a CA's (basicConstraints CA:TRUE)", "CA:FALSE"]);
    certify(|params| params.subject_alt_names = vec![rcgen::SanType::DnsName("other.test".try_into().expect("a name"))]);
    refused(&["it is for other.test, not for localhost"]);

    for (change, told) in [
        ((|_| {}) as fn(&mut CertificateParams), "it has the name of one that is trusted here, and another key"),
        (|params| params.distinguished_name.push(rcgen::DnType::OrganizationName, "another"), "nobody who is trusted here signed it"),
    ] {
        certify(|_| {});
        let server = Server::start(&bench, &[]);
        certify(change);
        let output = bench.get(&server, "/get", &[]);
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }
}

#[test]
fn a_port_that_speaks_plain_http_is_named_as_that() {
    let bench = Bench::new();
    bench.create_key();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let url = format!("https://localhost:{port}/get");
    let output = bench.client(&["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"]);
    server.join().expect("the server");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not speak TLS, but plain HTTP perhaps"), "{}", text(&output.stderr));
}

#[test]
fn fields_of_the_connection_and_ipv6_zones_are_refused() {
    let bench = Bench::new();
    for field in
        ["Content-Length: 5", "transfer-encoding: chunked", "Connection: close", "TE: trailers", "Upgrade: h2c", "Proxy-Connection: x"]
    {
        let output = bench.client(&["get", "https://localhost/", "--kid", "c", "--key", "k.pem", "-H", field]);
        assert_eq!(output.status.code(), Some(64), "{field}");
        assert!(text(&output.stderr).contains("is set by the connection"), "{}", text(&output.stderr));
    }
    let output = bench.client(&["get", "https://[fe80::1%25eth0]/", "--kid", "c", "--key", "k.pem"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("IPv6 address with a zone"), "{}", text(&output.stderr));
}

#[test]
fn a_proxy_of_the_environment_is_said_to_be_ignored() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}", server.port);
    for (variable, args) in [
        ("HTTPS_PROXY", &["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"][..]),
        ("all_proxy", &["doctor", "--url", &url, "--ca", "server.pem"]),
    ] {
        let mut client = common::client();
        client
            .args(args)
            .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
            .env(variable, "http://proxy.invalid:3128")
            .current_dir(bench.swtpm.dir());
        let output = client.output().expect("the client");
        let shown = text(&[output.stdout, output.stderr].concat());
        assert!(shown.contains(&format!("${variable} is ignored")), "{shown}");
    }
}
