//! What a program still sends while it has its answer already. A connection that is closed with unread bytes is reset, and the answer in it is lost.

use std::time::Duration;

use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// As much is read and forgotten.
const MOST: usize = 4 << 20;
/// For as long.
const LONGEST: Duration = Duration::from_secs(3);

/// The same for a refused request; one that waits for a 100 sends nothing then.
pub(super) async fn unless_asked(headers: &HeaderMap, body: Incoming) {
    if !headers.contains_key(EXPECT) {
        drain(body).await;
    }
}

/// Reads what comes of a body that nobody wants, within bounds.
pub(super) async fn drain(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, bytes::Bytes::len);
            if read > MOST {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LONGEST, reading).await;
}
