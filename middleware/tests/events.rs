//! What a server is told of its connections and their requests, and that each is authenticated against what its server name chooses.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{HOST, KID, LIMITS, Pki, TestServer, request};
use ekm_otp_tower::protocol::{ServerName, ServerNames, TlsPolicy};
use ekm_otp_tower::{
    AcceptError, Authentication, Closed, ConnectionFacts, Connections, EkmAcceptor, Events, MemoryStore, Reason, Refused, VerifiedClient,
};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

/// Writes down what it is told, each with the connection's number.
#[derive(Default)]
struct Diary(Mutex<Vec<(u64, String)>>);

impl Diary {
    fn note(&self, connection: &ConnectionFacts<'_>, what: String) {
        self.0.lock().expect("a lock").push((connection.id, what));
    }

    /// What is told of one connection, once that has come to its end. Also where it is the `n`th connection.
    async fn of_connection(&self, n: usize) -> Vec<String> {
        let of = |notes: &[(u64, String)]| {
            let mut ids: Vec<u64> = notes.iter().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids.dedup();
            let id = *ids.get(n)?;
            let of: Vec<_> = notes.iter().filter(|(of, _)| *of == id).map(|(_, what)| what.clone()).collect();
            of.iter().any(|what| what.starts_with("closed") || what.starts_with("no handshake")).then_some(of)
        };
        let waiting = async {
            loop {
                if let Some(notes) = of(&self.0.lock().expect("a lock")) {
                    return notes;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never closed: {n} of {:?}", self.0.lock()))
    }
}

impl Events for Diary {
    fn handshake_finished(&self, connection: &ConnectionFacts<'_>, _: Duration) {
        assert!(connection.peer.is_some_and(|peer| peer.address().is_some()) && connection.client.is_none());
        self.note(connection, format!("handshake {}", connection.tls.expect("facts").server_name()));
    }

    fn handshake_failed(&self, connection: &ConnectionFacts<'_>, error: &AcceptError, _: Duration) {
        assert!(connection.peer.is_some() && connection.tls.is_none());
        self.note(connection, format!("no handshake: {}", error.label()));
    }

    fn verified(&self, connection: &ConnectionFacts<'_>, client: &VerifiedClient, is_first: bool) {
        assert_eq!(client.connection(), connection.id);
        self.note(connection, format!("verified {} {is_first}", client.kid()));
    }

    fn refused(&self, connection: &ConnectionFacts<'_>, refused: &Refused<'_>) {
        let kid = refused.kid.map(ToString::to_string).unwrap_or_default();
        self.note(connection, format!("refused {} {} {kid}", refused.reason.label(), refused.status.as_u16()));
    }

    fn closed(&self, connection: &ConnectionFacts<'_>, why: Closed, _: Duration) {
        let client = connection.client.map(|client| client.client().to_owned()).unwrap_or_default();
        self.note(connection, format!("closed {} {client}", why.label()));
    }
}

#[tokio::test]
async fn each_step_of_a_connection_is_told_once_with_its_number_and_no_credential() {
    let diary = Arc::new(Diary::default());
    let told = Arc::clone(&diary);
    let server = TestServer::with(TlsPolicy::default(), |a| a, |a| a.events(told)).await;

    // 0: does not speak TLS.
    let mut tcp = TcpStream::connect(server.addr).await.expect("TCP");
    tcp.write_all(&[0; 64]).await.expect("writing");
    let _ = tcp.read_to_end(&mut Vec::new()).await;
    assert_eq!(diary.of_connection(0).await, ["no handshake: handshake"]);

    // 1: refused, then verified twice, then leaves.
    let mut client = server.connect().await;
    assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    let wrong = client.credential(KID).replace(KID, "client2");
    assert_eq!(client.get(&wrong).await.status, StatusCode::UNAUTHORIZED);
    let credential = client.credential(KID);
    for _ in 0..2 {
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    }
    client.connection.abort();
    let told = diary.of_connection(1).await;
    let expected = [
        "handshake localhost",
        "refused missing 401 ",
        "refused wrong 401 client2",
        "verified client1 true",
        "verified client1 false",
        "closed peer owner of client1",
    ];
    assert_eq!(told, expected);

    // 2: its key is revoked.
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    assert!(server.store.revoke(&KID.parse().expect("a key id")));
    assert_eq!(diary.of_connection(2).await.last().map(String::as_str), Some("closed revoked owner of client1"));

    // 3: drained.
    let mut client = server.connect().await;
    let credential = client.credential("client2");
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    server.connections.drain();
    assert_eq!(diary.of_connection(3).await.last().map(String::as_str), Some("closed drained owner of client2"));

    let all = format!("{:?}", diary.0.lock().expect("a lock"));
    assert!(!all.contains("otp=") && !all.contains("channel="), "{all}");
}

#[tokio::test]
async fn why_a_connection_was_closed_is_told() {
    for (expected, lives) in [("closed unverified ", false), ("closed age owner of client1", true)] {
        let diary = Arc::new(Diary::default());
        let told = Arc::clone(&diary);
        let soon = Duration::from_millis(300);
        let ages = |a: Authentication| if lives { a.max_age(soon) } else { a.verified_within(soon) };
        let server = TestServer::with(TlsPolicy::default(), ages, |a| a.events(told)).await;
        let mut client = server.connect().await;
        let credential = client.credential(KID);
        if lives {
            assert_eq!(client.get(&credential).await.status, StatusCode::OK);
        }
        assert_eq!(diary.of_connection(0).await.last().map(String::as_str), Some(expected));
    }
    let diary = Arc::new(Diary::default());
    let told = Arc::clone(&diary);
    let server = TestServer::with(TlsPolicy::default(), |a| a.max_failures(1), |a| a.events(told)).await;
    let mut client = server.connect_as(HOST, b"h2").await;
    assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    assert_eq!(diary.of_connection(0).await.last().map(String::as_str), Some("closed failures "));
}

#[test]
fn labels_are_plain_and_different() {
    let labels: Vec<_> = Reason::ALL.map(Reason::label).into_iter().collect();
    for (i, label) in labels.iter().enumerate() {
        assert!(!labels[..i].contains(label) && label.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{label}");
    }
    let mut closed = Closed::ALL.map(Closed::label).to_vec();
    closed.sort_unstable();
    closed.dedup();
    assert_eq!(closed.len(), Closed::ALL.len());
}

#[tokio::test]
async fn each_server_name_has_its_own_clients() {
    let (pki, policy) = (Pki::new(), TlsPolicy::default());
    let site = |name: &str, kid: &str| {
        let store = Arc::new(MemoryStore::new());
        let key = ekm_otp_tower::RegisteredKey::new(kid.parse().expect("a key id"), format!("owner of {kid}"), common::secret_of(kid));
        store.add(key).expect("a key");
        let mut names = ServerNames::new();
        names.allow_host(name).expect("a name");
        Arc::new(Authentication::new(store, names, "test").expect("a realm"))
    };
    let (first, second) = (site(HOST, KID), site("second.test", "client2"));
    let acceptor = EkmAcceptor::by_server_name(pki.server_config(&policy), policy, move |name: &ServerName| {
        Arc::clone(if name.to_string() == "second.test" { &second } else { &first })
    });
    let server = TestServer::accepting(pki, policy, Arc::default(), acceptor, Connections::new(LIMITS)).await;
    for (host, right, wrong) in [(HOST, KID, "client2"), ("second.test", "client2", KID)] {
        for (kid, status) in [(right, StatusCode::OK), (wrong, StatusCode::UNAUTHORIZED)] {
            let mut client = server.connect_as(host, b"http/1.1").await;
            let mut request = request("/", Some(&client.credential(kid)));
            request.headers_mut().insert("host", host.parse().expect("a value"));
            assert_eq!(client.send(request).await.expect("an answer").status, status, "{kid} at {host}");
        }
    }
    // One that no site is for is refused by the one that was chosen for it.
    let mut client = server.connect_as("stranger.test", b"http/1.1").await;
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::UNAUTHORIZED);
}
