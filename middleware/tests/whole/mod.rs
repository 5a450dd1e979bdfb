//! An `EkmServer` that runs on loopback.
#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ekm_otp_tower::protocol::{KeyId, TlsPolicy};
use ekm_otp_tower::{BoundServer, EkmServer, MemoryStore, RegisteredKey, Reloader, Serve, StartError, VerifiedClient};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{Client, HOST, KID, Pki, secret_of};

pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn store() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(KeyId::new(KID).expect("a key id"), "Alice", secret_of(KID))).expect("a key");
    Arc::new(store)
}

pub fn settings(pki: &Pki) -> EkmServer {
    EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).store(store())
}

pub async fn bind(server: EkmServer) -> BoundServer {
    server.bind("127.0.0.1:0").await.expect("a server")
}

pub async fn connect(address: SocketAddr, pki: &Pki, alpn: &[u8]) -> Client {
    let policy = TlsPolicy::default();
    Client::connect(address, pki.client_config(&policy, alpn), HOST, policy).await.expect("a TLS connection")
}

pub async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let client = request.extensions().get::<VerifiedClient>().map_or("nobody", VerifiedClient::client);
    Ok(Response::new(Full::from(format!("hello {client}"))))
}

pub struct Running {
    pub address: SocketAddr,
    pub reloader: Reloader,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), StartError>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(()).expect("it serves");
        tokio::time::timeout(PATIENCE, self.ended).await.expect("it ends").expect("no panic").expect("no error");
    }
}

pub fn run<P: ekm_otp_tower::PerConnection + Sync>(bound: BoundServer, serve: impl FnOnce(BoundServer) -> Serve<P>) -> Running {
    let (address, reloader) = (bound.local_addr(), bound.reloader());
    let (stop, stopped) = oneshot::channel();
    let serving = serve(bound).with_graceful_shutdown(async move { drop(stopped.await) }).into_future();
    Running { address, reloader, stop, ended: tokio::spawn(serving) }
}
