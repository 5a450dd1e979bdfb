//! Another TLS stack than rustls under the authenticator: OpenSSL's. The client's end is rustls, so that both stacks export the same or nothing passes.

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use common::{Client, HOST, KID, Pki, authentication_of, request, secret_of};
use ekm_otp_tower::protocol::{Handshake, KeyId, ServerName, TlsError, TlsFacts, TlsPolicy};
use ekm_otp_tower::{
    Authentication, ConnectionAuthenticator, EkmStream, Http, MemoryStore, RegisteredKey, VerifiedClient, serve_connection,
};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioExecutor;
use openssl::pkey::PKey;
use openssl::ssl::{AlpnError, NameType, Ssl, SslAcceptor, SslMethod, SslRef, SslVersion, select_next_proto};
use openssl::x509::X509;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_openssl::SslStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// What a server on OpenSSL takes of a finished handshake.
fn handshake_of(tls: &SslRef, policy: &TlsPolicy) -> Result<Handshake, TlsError> {
    assert_eq!(tls.version2(), Some(SslVersion::TLS1_3));
    let suite = u16::from_be_bytes(tls.current_cipher().expect("a cipher suite").protocol_id());
    let name = ServerName::from_sni(tls.servername(NameType::HOST_NAME))?;
    Handshake::of_other_stack(TlsFacts::tls13(suite, None, name), policy, |out, label, context| {
        let label = std::str::from_utf8(label).expect("the label is text");
        tls.export_keying_material(out, label, Some(context))
    })
}

fn acceptor(pki: &Pki) -> SslAcceptor {
    let mut tls = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server()).expect("TLS");
    tls.set_min_proto_version(Some(SslVersion::TLS1_3)).expect("TLS 1.3");
    tls.set_certificate(&X509::from_der(&pki.chain[0]).expect("a certificate")).expect("the certificate");
    tls.set_private_key(&PKey::private_key_from_der(pki.key.secret_der()).expect("a key")).expect("the key");
    tls.set_alpn_select_callback(|_, offered| select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK));
    tls.build()
}

async fn app(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let client = request.extensions().get::<VerifiedClient>().expect("the layer lets nobody else pass");
    Ok(Response::new(Full::from(format!("{} over {}", client.client(), client.tls()))))
}

struct Server {
    address: SocketAddr,
    pki: Pki,
    store: Arc<MemoryStore>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn start(set: impl FnOnce(Authentication) -> Authentication) -> Self {
        let (pki, store) = (Pki::new(), Arc::new(MemoryStore::new()));
        store.add(RegisteredKey::new(KeyId::new(KID).expect("a key id"), "Alice", secret_of(KID))).expect("a key");
        let authentication = Arc::new(set(authentication_of(Arc::clone(&store) as Arc<_>)));
        let (tcp, acceptor) = (TcpListener::bind("127.0.0.1:0").await.expect("a free port"), acceptor(&pki));
        let address = tcp.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let http = Http::new(TokioExecutor::new());
            loop {
                let (tcp, _) = tcp.accept().await.expect("a connection");
                let mut tls = SslStream::new(Ssl::new(acceptor.context()).expect("TLS"), tcp).expect("TLS");
                Pin::new(&mut tls).accept().await.expect("a handshake");
                let handshake = handshake_of(tls.ssl(), &TlsPolicy::default()).expect("TLS 1.3");
                let is_http2 = tls.ssl().selected_alpn_protocol() == Some(b"h2");
                let stream = EkmStream::over(tls, handshake, Arc::clone(&authentication), is_http2);
                tokio::spawn(serve_connection(&http, stream, service_fn(app)));
            }
        });
        Self { address, pki, store, serving }
    }

    async fn connect(&self, alpn: &[u8]) -> Client {
        let policy = TlsPolicy::default();
        Client::connect(self.address, self.pki.client_config(&policy, alpn), HOST, policy).await.expect("a TLS connection")
    }
}

#[tokio::test]
async fn both_stacks_export_the_same_and_the_client_is_verified() {
    let server = Server::start(|authentication| authentication).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect(alpn).await;
        let credential = client.credential(KID);
        let answer = client.get(&credential).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.has_proof() && answer.body.starts_with("Alice over TLSv1.3, TLS_"), "{}", answer.body);
        assert_eq!(server.connect(alpn).await.get(&credential).await.status, StatusCode::UNAUTHORIZED, "on another connection");
    }
}

#[tokio::test]
async fn a_revoked_key_cuts_the_connection_and_failures_and_time_end_it() {
    let server = Server::start(|authentication| authentication.max_failures(2)).await;
    let mut client = server.connect(b"http/1.1").await;
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    server.store.revoke(&KeyId::new(KID).expect("a key id"));
    // Cut, with or without a word.
    let _ = tokio::time::timeout(PATIENCE, client.connection).await.expect("it is cut").expect("no panic");

    let mut client = server.connect(b"http/1.1").await;
    for _ in 0..2 {
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    }
    tokio::time::timeout(PATIENCE, client.connection).await.expect("it ends").expect("no panic").expect("gracefully");

    let server = Server::start(|authentication| authentication.verified_within(Duration::from_millis(50))).await;
    let client = server.connect(b"http/1.1").await;
    let _ = tokio::time::timeout(PATIENCE, client.connection).await.expect("it ends").expect("no panic");
}

#[test]
fn a_stack_that_does_not_tell_its_key_exchange_is_not_taken_for_post_quantum_and_exports_nothing() {
    let name = || ServerName::from_host(HOST).expect("a name");
    let policy = TlsPolicy { require_post_quantum: true, ..TlsPolicy::default() };
    let export = |_: &mut [u8; 48], _: &[u8], _: &[u8]| -> Result<(), &str> { panic!("it must not be asked") };
    for group in [None, Some(0x001d), Some(0x0000)] {
        let refused = Handshake::of_other_stack(TlsFacts::tls13(0x1301, group, name()), &policy, export);
        assert!(matches!(refused, Err(TlsError::NotPostQuantum(_))), "{group:?}");
    }
    let taken = Handshake::of_other_stack(TlsFacts::tls13(0x1301, Some(0x11ec), name()), &policy, |out, _, _| {
        out.fill(1);
        Ok::<_, &str>(())
    });
    assert_eq!(taken.expect("post-quantum").facts.to_string(), "TLSv1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, server name localhost");
    let failed = Handshake::of_other_stack(TlsFacts::tls13(0x1301, None, name()), &TlsPolicy::default(), |_, _, _| Err("no exporter"));
    assert!(failed.expect_err("it failed").to_string().contains("no exporter"));
}

#[tokio::test]
async fn connections_of_an_authenticator_alone_are_let_go_with_it() {
    use ekm_otp_tower::protocol::Ekm;
    use hyper::service::Service as _;
    use tower_layer::Layer as _;
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(KeyId::new(KID).expect("a key id"), "Alice", secret_of(KID))).expect("a key");
    let authentication = Arc::new(authentication_of(Arc::new(store)).max_connections_per_key(1));
    let handshake =
        || Handshake { ekm: Ekm::from_bytes([7; 48]), facts: TlsFacts::tls13(0x1301, None, ServerName::from_host(HOST).expect("a name")) };
    let credential = common::credential(&handshake(), KID, KID);
    let status = async |authenticator: &ConnectionAuthenticator| {
        let app = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        authenticator.layer().layer(app).call(request("/", Some(&credential))).await.expect("infallible").status()
    };
    let new = || ConnectionAuthenticator::new(handshake(), Arc::clone(&authentication));
    let first = new();
    assert_eq!(status(&first).await, StatusCode::OK);
    assert_eq!(status(&new()).await, StatusCode::TOO_MANY_REQUESTS, "the key has one connection already");
    drop(first);
    assert_eq!(status(&new()).await, StatusCode::OK, "it has left");
}
