//! The tower layer: refuses what is not verified, gives the handler a [`VerifiedClient`], and the client the server's proof.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ekm_otp::field::AuthenticationInfo;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument as _;

#[cfg(feature = "axum")]
use crate::diagnosis::Wanting;
use crate::jose::VerifiedClaims;
use crate::passed::{Demand, Whose};
use crate::refusal::Refusal;
use crate::start_check::{self, StartCheck};
use crate::{Authentication, ConnectionAuthenticator, Unverified, VerifiedClient};

/// Authenticates each request before the wrapped service sees it.
///
/// Bound to one connection ([`ConnectionAuthenticator::layer`]), or made once with [`EkmOtpLayer::new`] where the server puts each
/// connection's [`ConnectionAuthenticator`] into its requests' extensions.
///
/// The wrapped service gets requests with a [`VerifiedClient`] in the extensions (and `VerifiedClaims`, where it came with a token) and
/// without the `Authorization` field. It never sees [`WELL_KNOWN_PATH`](ekm_otp::WELL_KNOWN_PATH); what is below that is the protocol's, too, and no path of an application. Where no credential is needed
/// ([`Authentication::open_to`], [`optional`](Self::optional)), a request without one has an [`Unverified`] in place of them.
///
/// The response has the `VerifiedClient` in its extensions, too, so that layers outside see whom it is for. One of these layers within another is
/// no harm: the outer one verifies the request and takes the credential away, the inner one sees that it was verified, and lets it pass; what the
/// outer one let pass unverified, it treats as it is itself set.
#[derive(Clone, Debug, Default)]
pub struct EkmOtpLayer {
    connection: Option<ConnectionAuthenticator>,
    demand: Demand,
    /// Nothing stands outside of it that could read what it leaves in the response's extensions.
    is_outermost: bool,
}

impl EkmOtpLayer {
    /// A layer that finds the connection in the request's extensions, and answers 500 where there is none.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets no request pass without a credential, whatever [`Authentication::open_to`] says.
    #[must_use]
    pub fn required(self) -> Self {
        Self { demand: Demand::Credential, ..self }
    }

    /// Lets each request pass that shows no credential, as [`Authentication::open_to`] does where it says so. A credential that is shown is checked:
    /// a wrong one is refused.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { demand: Demand::Nothing, ..self }
    }

    /// For a server where nothing stands outside of it.
    pub(crate) fn outermost(self) -> Self {
        Self { is_outermost: true, ..self }
    }
}

impl ConnectionAuthenticator {
    /// The layer that authenticates this connection's requests.
    #[must_use]
    pub fn layer(&self) -> EkmOtpLayer {
        EkmOtpLayer { connection: Some(self.clone()), ..EkmOtpLayer::default() }
    }
}

impl<S> Layer<S> for EkmOtpLayer {
    type Service = EkmOtp<S>;

    fn layer(&self, inner: S) -> EkmOtp<S> {
        EkmOtp { inner, layer: self.clone() }
    }
}

/// The service that [`EkmOtpLayer`] makes.
#[derive(Clone, Debug)]
pub struct EkmOtp<S> {
    inner: S,
    layer: EkmOtpLayer,
}

/// Writes the line once the answer is out: what it costs depends on the reason, and tells whether a key id is known.
fn log(refusal: Refusal, connection: &ConnectionAuthenticator) {
    let connection = connection.clone();
    let line = move || connection.tell_refused(&refusal);
    match Handle::try_current() {
        // Runs when the connection's own task, which writes the answer, waits again.
        Ok(runtime) => drop(runtime.spawn(async move { line() }.in_current_span())),
        Err(_) => line(),
    }
}

/// What a refusal looks like on the wire.
fn answer<B: Default>(refusal: &Refusal, authentication: Option<&Arc<Authentication>>) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = refusal.status();
    let field = match (refusal, authentication) {
        (_, Some(a)) if refusal.is_unauthorized() => (WWW_AUTHENTICATE, a.challenge(refusal.diagnosis()).clone()),
        (Refusal::FailuresOfSource { wait, .. }, _) => (RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1)),
        (Refusal::Registry(_), _) => (RETRY_AFTER, HeaderValue::from_static("5")),
        (Refusal::ProbeMethod, _) => (ALLOW, HeaderValue::from_static("GET")),
        _ => return response,
    };
    response.headers_mut().insert(field.0, field.1);
    response
}

/// Adds the challenge to a 401 that the application answers because the request shows too little. Such a request is a failure of its connection, as
/// those are that the layer refuses itself.
#[cfg(feature = "axum")]
fn challenge<B>(response: &mut Response<B>, connection: &ConnectionAuthenticator) {
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(Wanting(diagnosis)) = response.extensions_mut().remove()
    {
        let challenge = connection.authentication().challenge(diagnosis).clone();
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        connection.count_failure();
    }
}

/// Calls the wrapped service with a verified request, or answers itself.
fn admit<B, F, R: Default>(layer: &EkmOtpLayer, mut request: Request<B>, call: impl FnOnce(Request<B>) -> F) -> ResponseFuture<F, R> {
    let Some(connection) = layer.connection.as_ref().or_else(|| connection_of(&request)).cloned() else {
        return ResponseFuture::without_connection(admit_without_connection(request, call));
    };
    #[cfg(feature = "axum")]
    tell_address(layer, &connection, &mut request);
    // Only HTTP/1 has the `Connection` field (RFC 9113 §8.2.2); HTTP/2 is told by GOAWAY.
    let is_http1 = request.version() < Version::HTTP_2;
    let has_body = is_http1 && has_body(&request);
    connection.asked(has_body);
    let mut client = None;
    let (kind, proof) = match connection.authenticate(&request, layer.demand) {
        Ok(passed) if passed.is_probe => {
            let mut response = Response::new(R::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if let Whose::Verified(verified, _) = passed.as_whose {
                client = (!layer.is_outermost).then_some(verified);
            }
            (Kind::answer(response), passed.proof)
        }
        Ok(passed) => {
            connection.strip(request.headers_mut());
            let extensions = request.extensions_mut();
            // What stands there is of another request, but where another layer put it there for this one.
            match passed.as_whose {
                Whose::Verified(verified, claims) => {
                    client = (!layer.is_outermost).then(|| verified.clone());
                    extensions.insert::<VerifiedClient>(verified);
                    match claims {
                        Some(claims) => drop(extensions.insert::<VerifiedClaims>(claims)),
                        None => drop(extensions.remove::<VerifiedClaims>()),
                    }
                }
                Whose::VerifiedBefore => {}
                Whose::Nobody => {
                    extensions.remove::<VerifiedClient>();
                    extensions.remove::<VerifiedClaims>();
                    extensions.insert(Unverified::new(connection.clone()));
                }
            }
            (Kind::Inner { future: call(request) }, passed.proof)
        }
        Err(refusal) => {
            if matches!(refusal, Refusal::TooManyFailures) && !is_http1 {
                // HTTP/2 lets more requests in while the connection ends. They get no answer and no line.
                return ResponseFuture::without_connection(Kind::Answer { response: None });
            }
            let mut response = answer(&refusal, Some(connection.authentication()));
            if has_body {
                // Nobody reads it: the connection ends with this answer (RFC 9112 §9.6).
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            log(refusal, &connection);
            (Kind::answer(response), None)
        }
    };
    ResponseFuture { kind, proof, client, connection: Some((connection, is_http1)) }
}

impl<S, B, R> Service<Request<B>> for EkmOtp<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        admit(&self.layer, request, |request| self.inner.call(request))
    }
}

/// The same for a service of hyper's own kind, so that plain hyper needs no adapter.
impl<S, B, R> hyper::service::Service<Request<B>> for EkmOtp<S>
where
    S: hyper::service::Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn call(&self, request: Request<B>) -> Self::Future {
        admit(&self.layer, request, |request| self.inner.call(request))
    }
}

/// No connection is known: a layer outside may have verified the request, or something is set up wrongly.
fn admit_without_connection<B, F, R: Default>(mut request: Request<B>, call: impl FnOnce(Request<B>) -> F) -> Kind<F, R> {
    if request.extensions().get::<StartCheck>().is_some() {
        return Kind::answer(start_check::answer());
    }
    // Nobody but a layer makes one.
    if request.extensions().get::<VerifiedClient>().is_some() {
        request.headers_mut().remove(AUTHORIZATION);
        return Kind::Inner { future: call(request) };
    }
    tracing::error!("{}", Refusal::NoConnection);
    Kind::answer(answer(&Refusal::NoConnection, None))
}

/// What `axum::serve` tells handlers of other listeners' connections: the peer's address.
#[cfg(feature = "axum")]
fn tell_address<B>(layer: &EkmOtpLayer, connection: &ConnectionAuthenticator, request: &mut Request<B>) {
    use axum::extract::ConnectInfo;
    if layer.connection.is_none()
        && let Some(peer) = connection.peer()
        && request.extensions().get::<ConnectInfo<std::net::SocketAddr>>().is_none()
    {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
}

/// Whether an HTTP/1.1 request says that it has a body (RFC 9112 §6).
fn has_body<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn connection_of<B>(request: &Request<B>) -> Option<&ConnectionAuthenticator> {
    let extensions = request.extensions();
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(connection)) = extensions.get() {
        return Some(connection);
    }
    extensions.get().or_else(|| extensions.get().map(Unverified::connection))
}

pin_project! {
    /// The answer of [`EkmOtp`]: the wrapped service's with the proof, or a refusal.
    pub struct ResponseFuture<F, R> {
        #[pin]
        kind: Kind<F, R>,
        proof: Option<HeaderValue>,
        // Whom the request was verified for, where somebody outside may want to know.
        client: Option<VerifiedClient>,
        connection: Option<(ConnectionAuthenticator, bool)>,
    }
}

impl<F, R> ResponseFuture<F, R> {
    fn without_connection(kind: Kind<F, R>) -> Self {
        Self { kind, proof: None, client: None, connection: None }
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, R> {
        Inner { #[pin] future: F },
        Answer { response: Option<Response<R>> },
    }
}

impl<F, R> Kind<F, R> {
    fn answer(response: Response<R>) -> Self {
        Self::Answer { response: Some(response) }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.kind.project() {
            KindProjection::Inner { future } => ready!(future.poll(cx))?,
            KindProjection::Answer { response } => match response.take() {
                Some(response) => response,
                None => return Poll::Pending,
            },
        };
        if let Some(client) = this.client.take() {
            response.extensions_mut().insert(client);
        }
        #[cfg(feature = "axum")]
        if let Some((connection, _)) = this.connection {
            challenge(&mut response, connection);
        }
        let headers = response.headers_mut();
        // What the application may have set under this name is no proof of ours.
        headers.remove(AuthenticationInfo::FIELD);
        if let Some((connection, is_http1)) = this.connection {
            if let Some(proof) = this.proof.take() {
                headers.insert(AuthenticationInfo::FIELD, proof);
                connection.proof_was_sent();
            }
            if *is_http1 && connection.is_closing() {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Poll::Ready(Ok(response))
    }
}
