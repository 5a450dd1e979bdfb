//! Websockets: a local program asks by upgrade on HTTP/1.1 (RFC 6455 §4) or by extended CONNECT on HTTP/2 (RFC 8441), the origin is asked by whichever way its
//! connection has.

use std::time::Duration;

use ekm_otp_client::Upgrade;
use ekm_otp_relay::joined::{Moved, joined};
use ekm_otp_relay::websocket::Offer;
use http::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::activity::UnderWay;
use super::body::LocalBody;
use super::failure::{Failure, OriginFailure};
use super::fields;
use super::shared::{Admitted, Entrance};

/// How long streams that are joined may go on once the process drains, before they are told to end: none of them ends by itself.
const AFTER: Duration = Duration::from_secs(3);

/// Asks the origin; where it agrees, the two streams are one from then on.
pub(super) async fn join(
    entrance: &Entrance,
    admitted: &Admitted,
    offer: Offer,
    target: &str,
    fields: HeaderMap,
    under_way: UnderWay,
) -> Result<Response<LocalBody>, (Failure, Option<UnderWay>)> {
    let client = &admitted.origin.client;
    let (accepted, mut stream) = match client.upgrade(target, "websocket", fields).await {
        Ok(Upgrade::Accepted(response)) => {
            let (parts, stream) = response.into_parts();
            (parts, stream)
        }
        Ok(Upgrade::Refused(response)) if fields::is_refusal(response.status(), response.headers()) => {
            return Err((Entrance::refused(), Some(under_way)));
        }
        Ok(Upgrade::Refused(response)) => {
            // To a program on HTTP/2, success means a websocket.
            if response.status().is_success() {
                let text = "the origin took the request for a websocket for another".to_owned();
                return Err((Failure::Origin { kind: OriginFailure::Broken, text, retry_after: None }, Some(under_way)));
            }
            let mut response = response.map(|body| LocalBody::of_origin(body).holding(under_way));
            entrance.finish(admitted, &mut response);
            return Ok(response);
        }
        Err(error) => return Err((Failure::of(&error, client.status().back_off), Some(under_way))),
    };
    let mut response = Response::new(LocalBody::empty());
    *response.headers_mut() = accepted.headers;
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    entrance.finish(admitted, &mut response);
    offer.accept(&mut response);

    let idle = entrance.shared.times.stream_idle;
    let (running, metrics) = (entrance.running.clone(), entrance.shared.metrics.stream());
    entrance.running.spawn(async move {
        let _held = (under_way, metrics);
        let Ok(local) = offer.client.await else { return };
        let mut local = TokioIo::new(local);
        let moved = Moved::default();
        tokio::select! {
            _ = joined(&mut local, &mut stream, idle, &moved) => {}
            () = async { running.draining().await; tokio::time::sleep(AFTER).await } => {}
        }
    });
    Ok(response)
}
