//! What is this server's own: all below `/.well-known/ekm-otp` (RFC 8615) that the authentication layer does not answer itself. It never reaches an app,
//! and only who was verified gets here.

use ekm_otp::WELL_KNOWN_PATH;
use http::Response;
use http::request::Parts;

use super::admission::Caller;
use super::body::Body;
use super::failure::Failure;

/// Answers a request whose path is reserved.
pub(super) fn answer(request: &Parts, caller: &Caller) -> Result<Response<Body>, Failure> {
    let _client = caller.verified().ok_or(Failure::NotOpen)?;
    let below = request.uri.path().strip_prefix(WELL_KNOWN_PATH).unwrap_or_default();
    #[expect(clippy::match_single_binding, reason = "arms follow")]
    match below.trim_start_matches('/').split('/').next() {
        _ => Err(Failure::NotFound),
    }
}
