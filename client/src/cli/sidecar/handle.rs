//! One request: whose it is, what it is for, whether it may; then to the origin, and the answer back.

use std::sync::Arc;
use std::time::Instant;

use ekm_otp_relay::target;
use ekm_otp_relay::websocket::Offer;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::activity::UnderWay;
use super::answer::is_grpc;
use super::asked::Asked;
use super::body::{LocalBody, Outgoing};
use super::failure::Failure;
use super::shared::{Admitted, Entrance};
use super::{browser, drained, fields, websocket};

impl Entrance {
    /// Always an answer.
    pub(super) async fn handle(&self, request: Request<Incoming>, under_way: UnderWay) -> Response<LocalBody> {
        let began = Instant::now();
        let is_grpc = is_grpc(request.headers());
        // The query may hold secrets.
        let what = format!("{} {}", request.method(), request.uri().path());
        let (mut parts, body) = request.into_parts();
        let outcome = match self.admit(&parts) {
            Ok(admitted) => {
                let label = admitted.origin.label.clone();
                (Some(label), self.forward(&admitted, &mut parts, body, under_way).await)
            }
            Err(failure) => {
                drained::unless_asked(&parts.headers, body).await;
                (None, Err((failure, Some(under_way))))
            }
        };
        let (label, answer) = outcome;
        let label = label.as_deref().unwrap_or_default();
        match answer {
            Ok(response) => {
                self.shared.metrics.answered(label, response.status());
                if self.shared.log.is_verbose {
                    let (status, time, caller) = (response.status().as_u16(), began.elapsed().as_millis(), &self.caller);
                    self.shared.log.line(format!("{what} -> {status} in {time} ms ({label}, for {caller})"));
                }
                response
            }
            Err((failure, under_way)) => {
                self.shared.metrics.failed(label, &failure);
                let word = failure.word();
                let line = || format!("{what} -> {} {word} (for {}): {}", failure.status().as_u16(), self.caller, failure.text());
                if self.shared.log.is_verbose {
                    self.shared.log.line(line());
                } else {
                    self.shared.log.refusal(word, line);
                }
                let answer = failure.answer(is_grpc);
                match under_way {
                    Some(under_way) => answer.map(|body| body.holding(under_way)),
                    None => answer,
                }
            }
        }
    }

    /// Whether it may, and where it goes.
    fn admit(&self, parts: &Parts) -> Result<Admitted, Failure> {
        if self.running.is_draining() {
            return Err(Failure::Draining);
        }
        if parts.method == Method::TRACE {
            return Err(Failure::Trace);
        }
        if parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_none() {
            return Err(Failure::Connect);
        }
        let asked = Asked::of(parts)?;
        let rules = self.rules().ok_or(Failure::Route)?;
        let route = rules.route(&asked, &self.caller)?;
        browser::check(parts, &asked, &rules.allow_origins)?;
        if !route.admits(&self.caller) {
            return Err(Failure::Caller);
        }
        if ekm_otp::is_reserved(parts.uri.path()) {
            return Err(Failure::Reserved);
        }
        Ok(Admitted { origin: Arc::clone(&route.origin), asked })
    }

    async fn forward(
        &self,
        admitted: &Admitted,
        parts: &mut Parts,
        body: Incoming,
        under_way: UnderWay,
    ) -> Result<Response<LocalBody>, (Failure, Option<UnderWay>)> {
        let origin = &admitted.origin;
        let offer = Offer::of(parts, !body.is_end_stream());
        if parts.method == Method::CONNECT && offer.is_none() {
            return Err((Failure::Connect, Some(under_way)));
        }
        let rules = self.rules();
        let authorization = rules.as_ref().map(|rules| rules.authorization.clone()).unwrap_or_default();
        let waits = parts.headers.contains_key(http::header::EXPECT);
        let hop = match fields::request(&mut parts.headers, &authorization) {
            Ok(hop) => hop,
            Err(failure) => {
                if !waits {
                    drained::drain(body).await;
                }
                return Err((failure, Some(under_way)));
            }
        };
        browser::tell_app(&mut parts.headers, &admitted.asked, &origin.label);
        let target = target::origin_form(&parts.uri);
        if let Some(offer) = offer {
            return websocket::join(self, admitted, offer, target.as_str(), std::mem::take(&mut parts.headers), under_way).await;
        }
        let mut request = Request::new(Outgoing::new(body));
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = std::mem::take(&mut parts.headers);
        *request.uri_mut() = http::Uri::from(target);
        let length = request.body().size_hint().exact();
        if let Some(length) = length.filter(|length| *length > 0 || hop.had_length) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        match origin.client.send(request).await {
            Ok(response) if fields::is_refusal(response.status(), response.headers()) => Err((Self::refused(), Some(under_way))),
            Ok(response) => {
                let mut response = response.map(|body| LocalBody::of_origin(body).holding(under_way));
                self.finish(admitted, &mut response);
                Ok(response)
            }
            Err(error) => Err((Failure::of(&error, origin.client.status().back_off), Some(under_way))),
        }
    }
}
