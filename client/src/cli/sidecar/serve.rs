//! HTTP on one connection of a local program: HTTP/1.1 or HTTP/2 with prior knowledge, whichever it begins with.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::AsyncWriteExt as _;

use super::accept::{Caller, Serve, Stream};
use super::activity::Activity;
use super::failure::Failure;
use super::running::Running;
use super::shared::{Entrance, Shared};

/// How large a header section may be.
const HEADERS: usize = 64 * 1024;
/// How many fields it may have.
const FIELDS: usize = 200;
/// How many requests may be under way on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// How long the first request's header section may take.
const FIRST: Duration = Duration::from_secs(30);
/// How long a connection may be unused, and how long any later header section may take.
const IDLE: Duration = Duration::from_secs(180);
/// How long a connection that was told to end may take to.
const CLOSING: Duration = Duration::from_secs(5);
/// How often a silent HTTP/2 connection is asked whether it is still there, and how long that may take.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Serves the connections of one `[[listen]]`.
#[derive(Clone, Debug)]
pub(super) struct Http {
    pub(super) shared: Arc<Shared>,
    pub(super) door: usize,
}

impl Serve for Http {
    async fn serve(&self, stream: Stream, caller: Caller, running: Running) {
        let entrance = Entrance { shared: Arc::clone(&self.shared), door: self.door, caller, running: running.clone() };
        let _open = self.shared.metrics.connection();
        if !entrance.rules().is_some_and(|rules| rules.admit(&caller)) {
            return refuse(stream, &entrance).await;
        }
        let activity = Activity::new();
        let service = {
            let activity = activity.clone();
            service_fn(move |request: Request<Incoming>| {
                let (entrance, under_way) = (entrance.clone(), activity.begin());
                async move { Ok::<_, Infallible>(entrance.handle(request, under_way).await) }
            })
        };
        let http = http();
        let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        tokio::select! {
            // A program that breaks off is nobody to tell.
            _ = connection.as_mut() => return,
            () = running.draining() => {}
            () = activity.idle(FIRST, IDLE) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            // What is under way may take long; what is not, not.
            () = activity.idle(CLOSING, CLOSING) => {}
        }
    }
}

fn http() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    // Idle connections and slow header sections are ended by `Activity`, which knows the one from the other.
    http.http1().header_read_timeout(None).max_buf_size(HEADERS).max_headers(FIELDS);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS as u32)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .enable_connect_protocol();
    http
}

/// Tells a user who may do nothing here so, without reading a byte, and closes.
async fn refuse(mut stream: Stream, entrance: &Entrance) {
    let failure = Failure::Caller;
    entrance.shared.metrics.failed("", &failure);
    entrance.shared.log.refusal(failure.word(), || format!("a connection of {} is refused: {}", entrance.caller, failure.text()));
    let text = format!("ekm-otp-client proxy: {}\n", failure.text());
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nEkm-Otp-Error: {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{text}",
        failure.word(),
        text.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // What it has sent is taken, so that the answer is not lost with a reset.
        let mut rest = [0; 4096];
        for _ in 0..64 {
            if tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? == 0 {
                break;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    let _ = tokio::time::timeout(CLOSING, told).await;
}
