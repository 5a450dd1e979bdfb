//! A response with what one does to it most.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::{Error, ResponseBody};
use crate::connection::ConnectionInfo;

/// A response whose header section is there and whose body is still to be read.
#[derive(Debug)]
pub struct Response {
    inner: http::Response<ResponseBody>,
    limit: usize,
}

impl Response {
    /// How long a body may be that is collected in memory, unless [`limit`](Self::limit) says otherwise: 16 MiB.
    pub const LIMIT: usize = 16 << 20;

    /// Of what [`Client::send`](super::Client::send) yields.
    #[must_use]
    pub fn of(inner: http::Response<ResponseBody>) -> Self {
        Self { inner, limit: Self::LIMIT }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The header section.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The connection that it came on.
    #[must_use]
    pub fn connection(&self) -> Option<&ConnectionInfo> {
        self.inner.extensions().get()
    }

    /// Sets how many bytes the body may have for [`bytes`](Self::bytes), [`text`](Self::text) and [`json`](Self::json).
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The body's bytes.
    ///
    /// # Errors
    /// [`Error::Body`] when it breaks off, [`Error::TooLong`] when it is longer than the limit.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        let (mut body, limit) = (self.inner.into_body(), self.limit);
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len() > limit {
                return Err(Error::TooLong(limit));
            }
            // Most come in one piece.
            match (&first, rest.is_empty()) {
                (None, true) => first = Some(data),
                _ => {
                    if let Some(first) = first.take() {
                        rest.extend_from_slice(&first);
                    }
                    rest.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    }

    /// The body as UTF-8 text.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`Error::NotText`].
    pub async fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes().await?.into()).map_err(|_| Error::NotText)
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`Error::Json`].
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes().await?).map_err(|error| Error::Json(error.into()))
    }

    /// The response as `http` has it: to read the body as it comes.
    #[must_use]
    pub fn into_inner(self) -> http::Response<ResponseBody> {
        self.inner
    }
}
