//! Raw TCP through the server, and the paths below the well-known one that are the server's own.

mod proxied;

use std::fs;
use std::time::Duration;

use ekm_otp_relay::framed::Framed;
use hyper::Method;
use proxied::tunnel::{Many, PATH, Tunnel, answers_at_the_end, by_upgrade, echo, is_silent, open, refused, resets, rest, speaks, target};
use proxied::upstream::{OK, Recorder};
use proxied::{ALICE, BOB, Server, configuration, folder, soon, until, write_private};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UnixListener};

const BOTH: [bool; 2] = [false, true];

/// The demo origin, with these targets: `target`, and what else there is to say.
fn server(targets: &[(&str, &str)]) -> Server {
    Server::configured(&site("", targets))
}

fn site(more: &str, targets: &[(&str, &str)]) -> String {
    let tables: String = targets.iter().map(|(target, more)| format!("[[tcp]]\ntarget = \"{target}\"\n{more}\n")).collect();
    format!("upstream = \"demo\"\n{more}\n{tables}")
}

#[tokio::test]
async fn what_is_below_the_well_known_path_never_reaches_the_app() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &["--open", "GET=^/.*$"]);
    for path in ["/.well-known/ekm-otp/", "/.well-known/ekm-otp/x", "/.well-known/ekm-otp/x?y=/../..", "/.well-known/ekm-otp//tcp"] {
        let answer = server.ask(ALICE, &format!("GET {path} HTTP/1.1\r\n"), b"").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.field("authentication-info").is_some(), "{path}: {answer:?}");
        // However much is open.
        let answer = server.ask_unverified(&format!("GET {path} HTTP/1.1\r\n")).await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    assert_eq!(server.ask(ALICE, "GET /.well-known/ekm-otp2 HTTP/1.1\r\n", b"").await.text(), "ok\n");
    assert!(upstream.request().starts_with("GET /.well-known/ekm-otp2 "));
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_by_upgrade_and_by_connect() {
    let (name, _) = target(echo).await;
    let (_, to) = target(echo).await;
    let (host, port) = name.split_once('/').expect("host and port");
    let folder = folder();
    let socket = UnixListener::bind(folder.path().join("target.sock")).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    let targets: &[(&str, &str)] = &[
        (&format!("{host}:{port}"), ""),
        ("DB.internal:5432", &format!("to = \"{to}\"")),
        ("[2001:db8::1]:22", &format!("to = \"{to}\"")),
        ("socket:1", "to = \"unix:target.sock\""),
    ];
    let server = Server::configured_in(folder, &site("", targets));
    for is_http2 in BOTH {
        for target in [&*name, "db.internal/5432", "Db.Internal/5432", "2001%3Adb8%3A%3A1/22", "2001%3adb8:0::1/22", "socket/1"] {
            speaks(&mut open(&server, ALICE, target, is_http2).await.expect(target)).await;
        }
    }
    // Many on one connection, and requests beside them.
    let mut many = Many::on(server.connect(ALICE, true).await).await;
    let mut tunnels: Vec<Tunnel> = Vec::new();
    for _ in 0..10 {
        tunnels.push(many.open("db.internal/5432").await.expect("a tunnel"));
    }
    for tunnel in &mut tunnels {
        speaks(tunnel).await;
        assert_eq!(many.ask(Method::GET, "/get", None).await.status(), 200);
    }
}

#[tokio::test]
async fn one_side_may_end_and_the_other_go_on() {
    let (name, to) = target(answers_at_the_end).await;
    let server = server(&[(&to, "")]);
    for is_http2 in BOTH {
        let mut tunnel = open(&server, ALICE, &name, is_http2).await.expect("a tunnel");
        tunnel.write_all(b"everything").await.expect("writing");
        tunnel.shutdown().await.expect("the end of what is said");
        assert_eq!(rest(&mut tunnel).await.expect("a whole answer"), b"heard everything");
    }
}

#[tokio::test]
async fn what_was_cut_does_not_look_whole() {
    let (name, to) = target(resets).await;
    let server = server(&[(&to, "")]);
    for is_http2 in BOTH {
        let mut tunnel = open(&server, ALICE, &name, is_http2).await.expect("a tunnel");
        tunnel.write_all(b"?").await.expect("writing");
        let broke = rest(&mut tunnel).await;
        assert!(broke.is_err(), "{is_http2}: {broke:?}");
    }
}

#[tokio::test]
async fn a_target_of_another_client_cannot_be_told_from_none() {
    let (_, to) = target(echo).await;
    let to = format!("to = \"{to}\"");
    let server = server(&[
        ("alices:1", &format!("{to}\nallow = [{{ client = \"alice\" }}]")),
        ("admins:1", &format!("{to}\nallow = [{{ client = \"B.*builder.*\" }}, {{ claims = {{ role = \"admin\" }} }}]")),
        ("everyones:1", &to),
    ]);
    for is_http2 in BOTH {
        let not_his = refused(open(&server, BOB, "alices/1", is_http2).await);
        assert_eq!(not_his.status, 403);
        assert!(is_http2 || not_his.has("authentication-info"), "an answer like any other: {not_his:?}");
        for nothing in
            ["nothing/1", "alices/2", "alices", "alices/", "alices/x", "alices/1/x", "/1", "..%2falices/1", "%61lices%00/1", "a%zz/1"]
        {
            // The proof is the connection's.
            let mut none = refused(open(&server, BOB, nothing, is_http2).await);
            none.head.retain(|line| !line.starts_with("authentication-info"));
            let mut expected = not_his.clone();
            expected.head.retain(|line| !line.starts_with("authentication-info"));
            assert_eq!(none, expected, "{nothing}");
        }
        speaks(&mut open(&server, ALICE, "alices/1", is_http2).await.expect("hers")).await;
        assert_eq!(refused(open(&server, ALICE, "admins/1", is_http2).await).status, 403, "a password has no claims");
        speaks(&mut open(&server, BOB, "everyones/1", is_http2).await.expect("everyone's")).await;
    }
    // A site's own list comes first.
    let server = Server::configured(&site("allow = [{ client = \"B.*builder.*\" }]", &[("everyones:1", &to)]));
    assert_eq!(refused(by_upgrade(&server, ALICE, "everyones/1").await).status, 403);
}

#[tokio::test]
async fn a_target_that_is_not_there_is_502_and_one_that_does_not_answer_504() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    // Its queue is full: what comes now is not answered.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("a port");
    full.listen(0).expect("listening");
    let slow = full.local_addr().expect("an address").as_socket().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&slow, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let server = server(&[
        ("nobody:1", &format!("to = \"{nobody}\"")),
        ("nosocket:1", "to = \"unix:nowhere.sock\""),
        ("noname:1", "to = \"no-such-host.invalid:1\""),
        ("slow:1", &format!("to = \"{slow}\"\nconnect_timeout = 1")),
    ]);
    for is_http2 in BOTH {
        for (target, status) in [("nobody/1", 502), ("nosocket/1", 502), ("noname/1", 502), ("slow/1", 504)] {
            let refused = refused(open(&server, ALICE, target, is_http2).await);
            assert_eq!(refused.status, status, "{target}: {refused:?}");
            assert!(is_http2 || refused.has("authentication-info"), "an answer like any other: {refused:?}");
            assert!(!format!("{refused:?}").contains("127.0.0.1"), "nothing of what is behind: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_revoked_key_loses_its_tunnels_and_others_keep_theirs() {
    let (name, to) = target(echo).await;
    for is_http2 in BOTH {
        let server = server(&[(&to, "")]);
        let mut hers = open(&server, ALICE, &name, is_http2).await.expect("a tunnel");
        let mut his = open(&server, BOB, &name, is_http2).await.expect("a tunnel");
        speaks(&mut hers).await;
        write_private(&server.folder.path().join("secrets.toml"), &proxied::registry(&[BOB]));
        server.signal("HUP");
        let broke = rest(&mut hers).await;
        assert!(broke.is_err(), "{broke:?}");
        speaks(&mut his).await;
    }
}

#[tokio::test]
async fn connect_itself_and_other_protocols_are_refused() {
    let (name, to) = target(echo).await;
    let server = server(&[(&to, "")]);
    let mut connection = server.connect(ALICE, false).await;
    let head = format!("CONNECT {to} HTTP/1.1\r\nAuthorization: {}\r\n", connection.otp);
    connection.send(&head, b"").await;
    assert_eq!(connection.answer().await.status, 501);
    let mut many = Many::on(server.connect(ALICE, true).await).await;
    let path = format!("{PATH}/{name}");
    for (method, protocol, status) in [
        (Method::CONNECT, Some("connect-udp"), 501),
        (Method::CONNECT, Some("EKM-OTP-TCP"), 501),
        (Method::CONNECT, Some("websocket"), 405),
        (Method::GET, None, 405),
    ] {
        let answer = many.ask(method.clone(), &path, protocol).await;
        assert_eq!(answer.status(), status, "{method} {protocol:?}");
    }
    assert_eq!(many.ask(Method::CONNECT, "/get", Some("ekm-otp-tcp")).await.status(), 501, "another path");
}

#[tokio::test]
async fn a_path_of_tunnels_without_an_upgrade_says_what_it_wants() {
    let (name, to) = target(echo).await;
    let server = server(&[(&to, "")]);
    let ask = async |line: &str, fields: &str, body: &[u8]| server.ask(ALICE, &format!("{line} {PATH}/{name} {fields}"), body).await;
    for fields in [
        "HTTP/1.1\r\n",
        "HTTP/1.1\r\nUpgrade: ekm-otp-tcp\r\n",
        "HTTP/1.1\r\nConnection: Upgrade\r\n",
        "HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: ekm-otp-tcp\r\n",
    ] {
        let answer = ask("GET", fields, b"").await;
        assert_eq!((answer.status, answer.field("upgrade")), (426, Some("ekm-otp-tcp")), "{fields}: {answer:?}");
    }
    let answer = ask("POST", "HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: ekm-otp-tcp\r\n", b"").await;
    assert_eq!((answer.status, answer.field("allow")), (405, Some("get")), "{answer:?}");
    let answer = ask("GET", "HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: ekm-otp-tcp\r\nContent-Length: 5\r\n", b"hello").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    // Whoever shows no credential hears nothing of tunnels.
    let head = format!("GET {PATH}/{name} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: ekm-otp-tcp\r\n");
    assert_eq!(server.ask_unverified(&head).await.status, 401);
}

#[tokio::test]
async fn a_token_is_for_the_tunnels_target_and_no_other() {
    let (name, to) = target(echo).await;
    let server = server(&[(&to, "allow = [{ claims = { role = \"dba\" } }]"), ("other:1", &format!("to = \"{to}\""))]);
    let ask = async |signed: &str, claims: &str| {
        let mut connection = server.connect(ALICE, false).await;
        let token = connection.token(&format!("{PATH}/{signed}"), 1, claims);
        let head = format!("GET {PATH}/{name} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: ekm-otp-tcp\r\nAuthorization: {token}\r\n");
        connection.send(&head, b"").await;
        (connection.answer().await.status, connection)
    };
    assert_eq!(ask("other/1", r#"{"role":"dba"}"#).await.0, 401);
    assert_eq!(ask(&name, r#"{"role":"intern"}"#).await.0, 403);
    let (status, connection) = ask(&name, r#"{"role":"dba"}"#).await;
    assert_eq!(status, 101);
    let mut tunnel: Tunnel = Box::pin(Framed::new(connection.tls));
    speaks(&mut tunnel).await;
}

#[tokio::test]
async fn tunnels_are_bounded_on_a_connection_and_on_the_server() {
    let (name, to) = target(echo).await;
    let server = Server::configured(&site("max_tunnels = 3\nmax_tunnels_per_connection = 2\nadmin = \"unix:server.admin\"", &[(&to, "")]));
    let (mut first, mut second) = (Many::on(server.connect(ALICE, true).await).await, Many::on(server.connect(ALICE, true).await).await);
    let mut tunnels = vec![first.open(&name).await.expect("a tunnel"), first.open(&name).await.expect("a tunnel")];
    let too_many = refused(first.open(&name).await);
    assert!(too_many.status == 429 && too_many.has("retry-after"), "{too_many:?}");
    tunnels.push(second.open(&name).await.expect("a tunnel"));
    let too_many = refused(second.open(&name).await);
    assert!(too_many.status == 503 && too_many.has("retry-after"), "{too_many:?}");
    let open = |server: &Server| server.metric("ekm_otp_tunnels", &[&format!("target=\"{to}\"")]);
    assert_eq!(open(&server), Some(3.0));
    for tunnel in &mut tunnels {
        speaks(tunnel).await;
    }
    drop(tunnels);
    until("they have ended", || open(&server) == Some(0.0)).await;
    speaks(&mut first.open(&name).await.expect("there is room again")).await;
}

#[tokio::test]
async fn a_reload_reaches_the_next_tunnel_of_an_open_connection_and_leaves_open_ones_alone() {
    let (name, to) = target(echo).await;
    let server = server(&[(&to, ""), ("old:1", &format!("to = \"{to}\""))]);
    let mut many = Many::on(server.connect(ALICE, true).await).await;
    let mut before = many.open("old/1").await.expect("a tunnel");
    assert_eq!(refused(many.open("new/1").await).status, 403);
    let text = configuration(&site("", &[("new:1", &format!("to = \"{to}\"\nallow = [{{ client = \"alice\" }}]"))]));
    fs::write(server.folder.path().join("server.toml"), text).expect("writing");
    server.signal("HUP");
    until("it has read it", || server.log().contains("reloaded") || server.log().contains("taken over")).await;
    speaks(&mut many.open("new/1").await.expect("the new one")).await;
    assert_eq!(refused(many.open("old/1").await).status, 403);
    assert_eq!(refused(many.open(&name).await).status, 403);
    speaks(&mut before).await;
}

#[tokio::test]
async fn the_access_log_and_the_metrics_tell_of_a_tunnel_when_it_has_ended() {
    let (_, to) = target(answers_at_the_end).await;
    let more = "access_log = \"access.log\"\nadmin = \"unix:server.admin\"";
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let targets = [("db.internal:5432", &*format!("to = \"{to}\"")), ("gone:1", &*format!("to = \"{nobody}\""))];
    let server = Server::configured(&site(more, &targets));
    let tunnels = || -> Vec<String> {
        let log = fs::read_to_string(server.folder.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("path=/.well-known/ekm-otp/tcp/db.internal/5432 ")).map(str::to_owned).collect()
    };
    for (at, is_http2) in BOTH.into_iter().enumerate() {
        let mut tunnel = open(&server, ALICE, "db.internal/5432", is_http2).await.expect("a tunnel");
        tunnel.write_all(b"1234567890").await.expect("writing");
        tunnel.flush().await.expect("writing");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(tunnels().len(), at, "it is not over");
        tunnel.shutdown().await.expect("the end");
        rest(&mut tunnel).await.expect("the answer");
        until("a line", || tunnels().len() == at + 1).await;
        let line = &tunnels()[at];
        let status = if is_http2 { "status=200" } else { "status=101" };
        for field in ["bytes_in=10 ", "bytes_out=16 ", "end=whole ", "client=alice ", &format!("upstream={to} "), status] {
            assert!(line.contains(field), "{field}: {line}");
        }
        let took = line.split_once("duration_us=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
        assert!(took.is_some_and(|took| took >= 50_000), "{line}");
    }
    let mut broken = open(&server, ALICE, "db.internal/5432", false).await.expect("a tunnel");
    broken.write_all(b"123").await.expect("writing");
    broken.flush().await.expect("writing");
    drop(broken);
    until("a line", || tunnels().len() == 3).await;
    assert!(tunnels()[2].contains("end=cut "), "{}", tunnels()[2]);
    assert_eq!(refused(open(&server, ALICE, "gone/1", false).await).status, 502);
    let metric = |name: &str, labels: &[&str]| server.metric(name, labels).unwrap_or(-1.0);
    let target = "target=\"db.internal:5432\"";
    assert!((metric("ekm_otp_tunnels_opened_total", &[target]) - 3.0).abs() < 0.1);
    assert!(metric("ekm_otp_tunnels", &[target]).abs() < 0.1);
    assert!((metric("ekm_otp_tunnel_bytes_total", &[target, "direction=\"from_target\""]) - 32.0).abs() < 16.1);
    assert!((metric("ekm_otp_tunnels_failed_total", &["target=\"gone:1\""]) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_silent_tunnel_is_ended() {
    let (name, to) = target(is_silent).await;
    let server = server(&[(&to, "idle_timeout = 1")]);
    for is_http2 in BOTH {
        let mut tunnel = open(&server, ALICE, &name, is_http2).await.expect("a tunnel");
        let ended = rest(&mut tunnel).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}

#[tokio::test]
async fn a_server_that_stops_lets_tunnels_end_for_a_time() {
    let (name, to) = target(echo).await;
    for is_http2 in BOTH {
        let mut server = Server::configured(&site("drain = 2", &[(&to, "")]));
        let mut tunnel = open(&server, ALICE, &name, is_http2).await.expect("a tunnel");
        speaks(&mut tunnel).await;
        server.signal("TERM");
        until("it drains", || server.log().contains("draining")).await;
        speaks(&mut tunnel).await;
        let ended = rest(&mut tunnel).await;
        assert!(ended.is_err(), "cut, when the time was over: {ended:?}");
        assert!(server.ended().success());
        assert!(server.log().contains("were cut"), "{}", server.log());
    }
}

#[tokio::test]
async fn frames_that_are_sent_right_behind_the_request_are_carried_on() {
    let (name, to) = target(echo).await;
    let server = server(&[(&to, "")]);
    let mut connection = server.connect(ALICE, false).await;
    let head = format!(
        "GET {PATH}/{name} HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: other, ekm-otp-tcp\r\nAuthorization: {}\r\n",
        connection.otp
    );
    connection.send(&head, b"\0\x06GET / \0\x02\r\n\0\0").await;
    assert_eq!(connection.answer().await.status, 101);
    let back = soon("the end", connection.rest()).await;
    // As the target has sent it back: in one piece or two.
    assert!(matches!(&*back, b"\0\x08GET / \r\n\0\0" | b"\0\x06GET / \0\x02\r\n\0\0"), "{back:?}");
}

#[tokio::test]
async fn a_site_may_be_there_for_tunnels_only() {
    let (name, to) = target(echo).await;
    let server = Server::configured(&format!("[[tcp]]\ntarget = \"{to}\"\n"));
    speaks(&mut by_upgrade(&server, ALICE, &name).await.expect("a tunnel")).await;
    assert_eq!(server.ask(ALICE, "GET / HTTP/1.1\r\n", b"").await.status, 404);
}

#[test]
fn mistakes_in_targets_are_told_with_their_lines() {
    let folder = folder();
    for (tables, told) in [
        (
            "[[tcp]]\ntarget = \"db:5432\"\nto = \"127.0.0.1:x\"\n",
            "line 6: tcp: to: \"127.0.0.1:x\": its port is no number from 1 to 65535",
        ),
        ("[[tcp]]\ntarget = \"db\"\n", "line 6: tcp: target: \"db\": not of the form HOST:PORT"),
        ("[[tcp]]\nto = \"db:1\"\n", "line 6: tcp: has no target"),
        ("[[tcp]]\ntarget = \"db:1\"\nallow = []\n", "line 6: tcp: allow: names nobody"),
        ("[[tcp]]\ntarget = \"db:1\"\nallow = [{ client = \"(\" }]\n", "tcp: allow: has a pattern that is none"),
        ("[[tcp]]\ntarget = \"db:1\"\n[[tcp]]\ntarget = \"DB:1\"\n", "line 8: tcp: target: db:1 is there already"),
        ("[[tcp]]\ntarget = \"db:1\"\nidle_timeout = 0\n", "tcp: idle_timeout: must be 1 to 86400 seconds"),
        ("[[tcp]]\ntarget = \"db:1\"\nallowed = []\n", "tcp: `allowed` is no key of it: write `target`"),
        ("[[tcp]]\ntarget = \"db:1\"\nidle_timeout = \"1\"\n", "tcp: write a whole number"),
        ("tcp = \"db:1\"\n", "line 6: tcp: \"db:1\": write [[tcp]] in a line of its own"),
        ("[[tpc]]\ntarget = \"db:1\"\n", "`tcp` is meant?"),
    ] {
        let (code, said) =
            Server::check(folder.path(), &configuration(&format!("upstream = \"demo\"\nsecrets = \"secrets.toml\"\n{tables}")));
        assert_eq!(code, Some(64), "{tables}: {said}");
        assert!(said.contains(told), "{tables}: {said}");
    }
    let unknown = "upstream = \"demo\"\nsecrets = \"secrets.toml\"\n[[tcp]]\ntarget = \"no-such-host.invalid:1\"\n";
    let (code, said) = Server::check(folder.path(), &configuration(unknown));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("tcp: no-such-host.invalid has no address now"), "{said}");
}
