//! Another protocol on a stream of its own (RFC 9110 §7.8, RFC 8441), by whichever way the connection has.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watched::watch;
use super::websocket::Key;
use super::{Error, ResponseBody};
use crate::RequestError;
use crate::connection::{Body, Lost};

use crate::pool::{Lease, Pool};

/// What became of the wish for another protocol.
#[derive(Debug)]
pub enum Upgrade {
    /// The stream, and the header section that it was granted with: 101 on HTTP/1.1, 200 on HTTP/2.
    Accepted(Response<UpgradedStream>),
    /// Any other answer.
    Refused(Response<ResponseBody>),
}

/// A stream of bytes in both directions. Shut down, it still reads. A stream that is cut may look like one that has ended: protocols that care mark
/// their end themselves. It counts as a request under way.
pub struct UpgradedStream {
    io: TokioIo<Upgraded>,
    _lease: Lease,
}

/// What only HTTP/1.1's way of asking has.
const OF_HTTP1: [HeaderName; 3] = [CONNECTION, UPGRADE, HeaderName::from_static("sec-websocket-key")];

pub(super) async fn ask(pool: &Arc<Pool>, target: &str, protocol: &str, fields: HeaderMap) -> Result<Upgrade, Error> {
    let lease = pool.acquire_for_upgrade().await?;
    let is_h2 = lease.info().http_version() == Version::HTTP_2;
    let body: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut request =
        Request::builder().method(if is_h2 { Method::CONNECT } else { Method::GET }).uri(target).body(body).map_err(Error::target)?;
    *request.headers_mut() = fields;
    for name in OF_HTTP1 {
        request.headers_mut().remove(name);
    }
    let key = Key::of(protocol).filter(|_| !is_h2);
    if let Some(key) = &key {
        key.ask(request.headers_mut());
    }
    if is_h2 {
        request.extensions_mut().insert(Protocol::from(protocol));
    } else {
        let protocol = HeaderValue::from_str(protocol).map_err(|error| Error::target(error.into()))?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, protocol);
    }
    let was_proven = lease.info().is_proven();
    let (request, movement) = watch(request);
    let answer = movement.within(pool.response_deadline(), lease.connection().exchange(request)).await;
    let mut response = answer.map_err(|Lost { error, .. }| Error::from(error))?;
    let connection = lease.connection().info().of_request(lease.is_fresh(), was_proven);
    response.extensions_mut().insert(connection);
    let expected = if is_h2 { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
    if response.status() != expected {
        lease.look_at(&response);
        return Ok(Upgrade::Refused(response.map(|body| ResponseBody::new(body, lease))));
    }
    if !is_h2 && !response.headers().get(UPGRADE).is_some_and(|switched| switched.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())) {
        return Err(Error::Upgrade("it switched to another protocol than was asked for"));
    }
    if key.is_some_and(|key| !key.is_accepted(response.headers())) {
        return Err(Error::Upgrade("its Sec-WebSocket-Accept is wrong"));
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| Error::from(RequestError::from(error)))?;
    Ok(Upgrade::Accepted(response.map(|_| UpgradedStream { io: TokioIo::new(upgraded), _lease: lease })))
}

impl AsyncRead for UpgradedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl fmt::Debug for UpgradedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpgradedStream(..)")
    }
}
