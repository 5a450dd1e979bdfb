//! What is asked of the server below `/.well-known/ekm-otp/`, once it has proved itself (docs/protocol.md §24).

use bytes::Bytes;
use ekm_otp_client::{Client, Error, Response};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::cli::error::CliError;
use crate::cli::shown::printable;

/// More than any of these answers has.
const MOST: usize = 16 * 1024;

/// Whether a bundle's key was used before.
pub(super) enum FirstUse {
    Now,
    /// When, as the server tells it.
    Before(String),
}

/// Tells the server that its bundle was taken in, and hears whether it was before.
pub(super) async fn first_use(client: &Client) -> Result<FirstUse, CliError> {
    let (status, told) = asked(client, Method::POST, "enrolment", Bytes::new()).await.map_err(|e| explained(&e, LOST))?;
    match (status, word(&told)) {
        (StatusCode::NO_CONTENT, _) => Ok(FirstUse::Now),
        (StatusCode::CONFLICT, "enrolled") => Ok(FirstUse::Before(printable(told["first_use"].as_str().unwrap_or("an unknown time")).to_string())),
        (StatusCode::CONFLICT, "no_bundle") => Err(CliError::Usage("the server knows of no bundle for this key: have another made. Nothing was kept".into())),
        (StatusCode::SERVICE_UNAVAILABLE, _) => Err(CliError::Unavailable(
            "the server cannot remember now that the bundle is used; its log says why (a registry that is a file wants registry_writable). Nothing was kept: try again later".into(),
        )),
        (StatusCode::NOT_FOUND, _) => {
            Err(CliError::Usage("this server takes no bundles in: is it an ekm-otp-server, and as new as this program? Nothing was kept".into()))
        }
        (status, word) => Err(unexpected(status, word, "nothing was kept")),
    }
}

/// What may have become of an answer that was lost.
const LOST: &str = "nothing was kept. The server may remember that the bundle was used: if it says so next time, that was this try";

/// A request, and its answer's status and JSON.
pub(in crate::cli) async fn asked(client: &Client, method: Method, what: &str, body: Bytes) -> Result<(StatusCode, Value), Error> {
    let target = format!("{}/{what}", ekm_otp::WELL_KNOWN_PATH);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    // A path of our own.
    *request.uri_mut() = target.parse().unwrap_or_default();
    let response = Response::of(client.send(request).await?).limit(MOST);
    let status = response.status();
    let body = response.bytes().await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// The word by which the server says what went wrong.
pub(in crate::cli) fn word(told: &Value) -> &str {
    told["error"].as_str().unwrap_or_default()
}

pub(in crate::cli) fn unexpected(status: StatusCode, word: &str, kept: &str) -> CliError {
    let text = format!("the server answered {status} {}: {kept}", printable(word));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => CliError::NotPermitted(text),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => CliError::Unavailable(text),
        _ => CliError::Other(text),
    }
}

/// Why a request got no answer, and what that leaves.
pub(in crate::cli) fn explained(error: &Error, kept: &str) -> CliError {
    CliError::of_kind(error.kind(), format!("{}: {kept}", ekm_otp_client::with_sources(error)))
}
