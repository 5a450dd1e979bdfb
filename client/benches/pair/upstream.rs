//! The server behind all pairs: plain HTTP/1.1. `/get` is small, `/big/N` has N bytes, and what is put is counted.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::AnyError;

const PIECE: &[u8] = &[b'x'; 64 * 1024];

/// Serves until the process ends.
pub fn run(addr: SocketAddr) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(addr).await?;
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(answer)));
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    if request.method() == Method::PUT {
        let mut body = request.into_body();
        let mut count = 0;
        while let Some(frame) = body.frame().await {
            count += frame?.data_ref().map_or(0, Bytes::len);
        }
        return Ok(Response::new(Full::from(format!("{count}\n")).boxed()));
    }
    let Some(bytes) = request.uri().path().strip_prefix("/big/").and_then(|bytes| bytes.parse::<u64>().ok()) else {
        return Ok(Response::new(Full::from("ok\n").boxed()));
    };
    let pieces = stream::unfold(bytes, |left| async move {
        let piece = usize::try_from(left).unwrap_or(PIECE.len()).min(PIECE.len());
        (piece > 0).then(|| (Ok(Frame::data(Bytes::from_static(&PIECE[..piece]))), left - piece as u64))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed());
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    debug_assert!(!response.body().is_end_stream());
    Ok(response)
}
