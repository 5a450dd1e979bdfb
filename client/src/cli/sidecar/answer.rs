//! The sidecar's own answers, in the way that the program reads: HTTP's, or gRPC's.

use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::body::LocalBody;
use super::failure::{ERROR, Failure};

/// How long a program should wait that is not told otherwise.
const RETRY: Duration = Duration::from_secs(5);

impl Failure {
    /// The answer. `is_grpc`: the request was gRPC's, whose programs read its own fields.
    pub(super) fn answer(&self, is_grpc: bool) -> Response<LocalBody> {
        let text = self.text();
        let mut response = Response::new(LocalBody::empty());
        let headers = response.headers_mut();
        headers.insert(ERROR, HeaderValue::from_static(self.word()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let wait = match self {
            Self::Origin { retry_after, .. } => Some(retry_after.unwrap_or(RETRY)),
            Self::Draining => Some(Duration::from_secs(1)),
            _ => None,
        };
        if let Some(wait) = wait.filter(|_| self.status() == StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        if is_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(self.grpc())));
            headers.insert(HeaderName::from_static("grpc-message"), percent_encoded(&text));
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if matches!(self, Self::Connect | Self::Trace) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        *response.status_mut() = self.status();
        response.map(|_| LocalBody::text(format!("ekm-otp-client proxy: {text}\n")))
    }
}

/// Whether a request is gRPC's (grpc/doc/PROTOCOL-HTTP2.md).
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// grpc/doc/PROTOCOL-HTTP2.md, Status-Message: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> HeaderValue {
    let encoded: String = text
        .bytes()
        .map(|byte| if matches!(byte, b' '..=b'~') && byte != b'%' { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static("the sidecar refuses"))
}

#[cfg(test)]
mod tests {
    use super::super::failure::OriginFailure;
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_a_field_of_its_own_and_when_to_come_back() {
        let refused = Failure::Origin { kind: OriginFailure::Refused, text: "no".into(), retry_after: Some(Duration::from_millis(1200)) };
        let answer = refused.answer(false);
        assert_eq!(
            (answer.status(), &answer.headers()[ERROR], &answer.headers()[RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"refused".parse().expect("it"), &"2".parse().expect("it"))
        );
        let grpc = refused.answer(true);
        assert_eq!((grpc.status(), &grpc.headers()["grpc-status"]), (StatusCode::OK, &"16".parse().expect("it")));
        let broken = Failure::Origin { kind: OriginFailure::Broken, text: String::new(), retry_after: None }.answer(false);
        assert_eq!((broken.status(), broken.headers().get(RETRY_AFTER)), (StatusCode::BAD_GATEWAY, None));
        assert_eq!(percent_encoded("50 % \u{e9}\n"), "50 %25 %C3%A9%0A");
    }
}
