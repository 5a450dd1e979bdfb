//! Whether the layer stands where it must, asked before the first client comes.

use std::error::Error;
use std::future::poll_fn;

use ekm_otp::WELL_KNOWN_PATH;
use http::{Request, Response, StatusCode, Uri};
use tower_service::Service;

/// In the extensions of a request that asks for the layer, and of the layer's answer to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartCheck;

/// Asks a service, such as a whole axum router, whether an [`EkmOtpLayer`](crate::EkmOtpLayer) of its own stands before
/// [`WELL_KNOWN_PATH`] and before each of `paths`. Call it at start: a layer that is forgotten, or added to some routes only, is found before a client is.
/// [`EkmServer`](crate::EkmServer) needs none of this: it puts the layer before everything itself.
///
/// It sends a `GET` for each path through the service. The layer answers it; where none does, it reaches the handler.
///
/// # Errors
/// When something else answers.
pub async fn layer_stands_before<S, B, R>(service: &S, paths: impl IntoIterator<Item = &str>) -> Result<(), LayerMissing>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<Box<dyn Error + Send + Sync>>> + Clone,
    B: Default,
{
    for path in std::iter::once(WELL_KNOWN_PATH).chain(paths) {
        let missing = |answer: String| LayerMissing { path: path.to_owned(), answer };
        let mut request = Request::new(B::default());
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| missing(error.to_string()))?;
        request.extensions_mut().insert(StartCheck);
        let mut service = service.clone();
        let refused = |error: S::Error| missing(error.into().to_string());
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(refused)?;
        let response = service.call(request).await.map_err(refused)?;
        if response.extensions().get::<StartCheck>().is_none() {
            return Err(missing(response.status().to_string()));
        }
    }
    Ok(())
}

/// What the layer answers.
pub(crate) fn answer<R: Default>() -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.extensions_mut().insert(StartCheck);
    response
}

/// Requests for a path would reach the application unchecked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no EKM-OTP layer stands before {path} ({answer}): wrap the router as a whole, EkmOtpLayer::new().layer(router); routes added after \
     Router::layer, Router::route_layer and a layer inside of Router::nest leave it out"
)]
pub struct LayerMissing {
    /// The path.
    pub path: String,
    /// What was answered in place of the layer.
    pub answer: String,
}
