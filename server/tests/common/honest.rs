//! Clients who do nothing wrong, all the while: what a test does to the server meanwhile must not be felt by them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::task::JoinHandle;

use super::client::{Connection, Dialler, Http, Key};

/// Several clients, at it until they are told to end.
pub struct Honest {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    started: Instant,
}

/// What all of them have and count.
struct Shared {
    dialler: Mutex<Dialler>,
    key: Mutex<Key>,
    is_over: AtomicBool,
    requests: AtomicUsize,
    connections: AtomicUsize,
    faults: Mutex<Vec<String>>,
    pause: Duration,
}

/// What they did.
#[derive(Debug)]
pub struct Figures {
    pub requests: usize,
    pub connections: usize,
    pub seconds: f64,
}

/// So many requests are made on a connection before a new one takes its place, on every second client; the others keep theirs to the end.
const EACH: usize = 25;

impl Honest {
    /// This many clients, half of them on HTTP/1.1, with this pause after each request.
    pub fn start(clients: usize, pause: Duration, dialler: &Dialler, key: &Key) -> Self {
        let shared = Arc::new(Shared {
            dialler: Mutex::new(dialler.clone()),
            key: Mutex::new(key.clone()),
            is_over: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            faults: Mutex::default(),
            pause,
        });
        let client = |number: usize| {
            let http = if number.is_multiple_of(2) { Http::One } else { Http::Two };
            tokio::spawn(asks(Arc::clone(&shared), number, http, number % 4 < 2))
        };
        Self { clients: (0..clients).map(client).collect(), started: Instant::now(), shared }
    }

    /// From now on they use this key; each takes a new connection for that before its next request.
    pub fn use_key(&self, key: &Key) {
        *self.shared.key.lock().expect("the key") = key.clone();
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Waits until each has got further.
    pub async fn go_on(&self, requests: usize) {
        let wanted = self.requests() + requests;
        super::until_so("the honest clients go on", || self.requests() >= wanted || self.has_faults()).await;
    }

    fn has_faults(&self) -> bool {
        !self.shared.faults.lock().expect("the faults").is_empty()
    }

    /// Ends them. None may have met with a fault.
    pub async fn end(self, what: &str) -> Figures {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            tokio::time::timeout(super::SOON, client).await.expect("a client hangs").expect("a client");
        }
        let figures = Figures {
            requests: self.shared.requests.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            seconds: self.started.elapsed().as_secs_f64(),
        };
        let faults = self.shared.faults.lock().expect("the faults");
        assert!(
            faults.is_empty(),
            "{what}: {} of {} requests failed: {:#?}",
            faults.len(),
            figures.requests,
            &faults[..faults.len().min(10)]
        );
        println!("{what}: {} requests on {} connections in {:.1} s", figures.requests, figures.connections, figures.seconds);
        figures
    }
}

async fn asks(shared: Arc<Shared>, number: usize, http: Http, keeps_its_connection: bool) {
    let mut held: Option<(Connection, Key)> = None;
    let mut asked = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        let key = shared.key.lock().expect("the key").clone();
        let is_kept = held.as_ref().is_some_and(|(_, its)| *its == key) && (keeps_its_connection || asked % EACH != 0);
        if !is_kept {
            let dialler = shared.dialler.lock().expect("the dialler").clone();
            match dialler.open(http, &key).await {
                Ok(connection) => held = Some((connection, key)),
                Err(error) => return shared.fault(format!("client {number}, {http:?}: no connection after {asked} requests: {error}")),
            }
            shared.connections.fetch_add(1, Ordering::Relaxed);
        }
        let (connection, key) = held.as_mut().expect("a connection");
        let word = format!("{number}-{asked}");
        let answer = tokio::time::timeout(super::SOON, connection.get(&format!("/n/{word}"))).await;
        match answer {
            Ok(Ok((StatusCode::OK, body))) if body == word.as_bytes() => {}
            Ok(Ok((status, body))) => {
                return shared.fault(format!("client {number}, {http:?}, {}: request {asked}: {status} {body:?}", key.kid));
            }
            Ok(Err(error)) => return shared.fault(format!("client {number}, {http:?}, {}: request {asked}: {error:?}", key.kid)),
            Err(_) => return shared.fault(format!("client {number}, {http:?}: request {asked}: no answer")),
        }
        asked += 1;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(shared.pause).await;
    }
}

impl Shared {
    fn fault(&self, what: String) {
        self.faults.lock().expect("the faults").push(what);
    }
}

/// The median of so many requests' times, one after the other on a connection that is open.
pub async fn median(connection: &mut Connection, requests: usize, pause: Duration) -> Duration {
    let mut times = Vec::with_capacity(requests);
    for number in 0..requests {
        let started = Instant::now();
        let (status, _) = connection.get(&format!("/n/median-{number}")).await.expect("an answer");
        assert_eq!(status, StatusCode::OK);
        times.push(started.elapsed());
        tokio::time::sleep(pause).await;
    }
    times.sort();
    times[requests / 2]
}
