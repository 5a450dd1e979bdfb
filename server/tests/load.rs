//! What an operator does under clients who go on asking through the reverse proxy: none of them may notice.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::client::{Dialler, Http, Key};
use common::pki::Pki;
use common::server::Server;
use common::upstream::Upstream;
use common::{HOST, SOON, one_site, until_so};

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
