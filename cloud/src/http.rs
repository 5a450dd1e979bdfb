//! How the clouds are asked: over HTTPS, in one budget of time for all tries, each of which is signed anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use crate::CloudError;

/// Credentials and tokens are never larger.
const MAX_CREDENTIALS: usize = 1024 * 1024;
/// What a service hands out otherwise, as a whole.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Below this, clocks count as equal: answers take their time, and fields tell whole seconds.
const LEAST_SKEW: Duration = Duration::from_secs(30);
/// Above this, the clock is not corrected: a signature of another day is good for that day.
const MOST_SKEW: Duration = Duration::from_secs(24 * 3600);

/// How a service is reached.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The certificates that are trusted; empty: the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// How long it may take until there are credentials, all tries together.
    pub within: Duration,
}

/// A client of HTTPS services. Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`), redirects are not followed: what is sent is
/// for one service only. Plain HTTP is spoken to this machine only.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    /// For what is not encrypted, which no proxy is to see.
    direct: reqwest::Client,
    within: Duration,
    clock: Arc<Clock>,
}

impl Http {
    /// As told.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where there is no trusted certificate.
    pub fn new(settings: HttpSettings) -> Result<Self, CloudError> {
        let mut roots = RootCertStore::empty();
        if settings.roots.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for root in settings.roots {
            roots.add(root).map_err(|e| CloudError::Usage(format!("a trusted certificate cannot be used: {e}")))?;
        }
        if roots.is_empty() {
            return Err(CloudError::Usage("no trusted certificate: name the service's CA, or install ca-certificates".into()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| CloudError::Usage(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("ekm-otp/", env!("CARGO_PKG_VERSION")))
        };
        let unusable = |e: reqwest::Error| CloudError::Usage(with_sources(&e));
        let (client, direct) = (builder().build().map_err(unusable)?, builder().no_proxy().build().map_err(unusable)?);
        Ok(Self { client, direct, within: settings.within, clock: Arc::default() })
    }

    /// The clock that what is sent is dated by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Begins to ask `service`, which is named in errors.
    #[must_use]
    pub fn tries(&self, service: &str) -> Tries<'_> {
        let waits =
            ExponentialBuilder::new().with_jitter().with_min_delay(Duration::from_millis(200)).with_max_delay(Duration::from_secs(5));
        Tries {
            http: self,
            service: service.to_owned(),
            end: Instant::now() + self.within,
            waits: waits.without_max_times().build(),
            refusals: 0,
        }
    }

    async fn send(&self, request: Request<Bytes>, limit: usize) -> Result<Answer, reqwest::Error> {
        let sent = SystemTime::now();
        let client = if request.uri().scheme_str() == Some("https") { &self.client } else { &self.direct };
        let mut response = client.execute(request.try_into()?).await?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        // As long as it says that it is: what grows leaves pieces of secrets behind.
        let length = response.content_length().and_then(|length| usize::try_from(length).ok());
        let mut body = BytesMut::with_capacity(length.unwrap_or_default().min(limit));
        let mut is_whole = true;
        while let Some(piece) = response.chunk().await? {
            is_whole = body.len() + piece.len() <= limit;
            if !is_whole {
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, headers, body: body.freeze(), is_whole, sent })
    }
}

/// How often a connection is refused before that is told: with the waits between, after one or two seconds.
const MOST_REFUSALS: u8 = 4;

/// One question, asked until there is an answer or the time is over. Each try has a third of the time at most: a first one that hangs does not
/// take all of it.
#[derive(Debug)]
pub struct Tries<'a> {
    http: &'a Http,
    service: String,
    end: Instant,
    waits: ExponentialBackoff,
    refusals: u8,
}

impl Tries<'_> {
    /// Sends a request. `None`: the service was busy or did not answer; make the request anew, with a new date, and send that.
    ///
    /// # Errors
    /// When the time is over, or trying again is of no use.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<Option<Answer>, CloudError> {
        self.begin(&request)?;
        let left = self.end.saturating_duration_since(Instant::now()).min(self.http.within / 3);
        let asked = match tokio::time::timeout(left, self.http.send(request, MAX_CREDENTIALS)).await {
            Err(_) => Err(format!("no answer within {left:.1?}")),
            Ok(Err(e)) if is_of_tls(&e) || e.is_builder() || self.is_refused_again(&e) => return Err(self.failed(e)),
            Ok(Err(e)) => Err(with_sources(&e.without_url())),
            Ok(Ok(answer)) => Ok(answer),
        };
        match asked {
            Ok(answer) if !answer.is_whole => Err(self.too_long(MAX_CREDENTIALS)),
            Ok(answer) if !answer.is_passing() => Ok(Some(answer)),
            Ok(answer) => self.wait(&answer).await.map(|()| None),
            Err(why) => self.wait_after(why, None).await.map(|()| None),
        }
    }

    /// Sends a request that may be made once only, and takes whatever comes, in all the time that there is.
    ///
    /// # Errors
    /// When nothing comes.
    pub async fn once(&mut self, request: Request<Bytes>) -> Result<Answer, CloudError> {
        self.begin(&request)?;
        let left = self.end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, self.http.send(request, MAX_ANSWER)).await {
            Ok(Ok(answer)) if answer.is_whole => Ok(answer),
            Ok(Ok(_)) => Err(self.too_long(MAX_ANSWER)),
            Ok(Err(e)) => Err(self.failed(e)),
            Err(_) => {
                Err(CloudError::Deadline { service: self.service.clone(), within: self.http.within, last: "it has not answered".into() })
            }
        }
    }

    /// Whether nothing listens there, in several tries: that is no passing thing, but for a service that is just being restarted.
    fn is_refused_again(&mut self, error: &reqwest::Error) -> bool {
        self.refusals = if is_refused(error) { self.refusals + 1 } else { 0 };
        self.refusals >= MOST_REFUSALS
    }

    fn begin(&mut self, request: &Request<Bytes>) -> Result<(), CloudError> {
        must_be_protected(request.uri())?;
        if !self.service.ends_with(')') {
            self.service = format!("{} ({})", self.service, request.uri().host().unwrap_or_default());
        }
        Ok(())
    }

    fn failed(&self, error: reqwest::Error) -> CloudError {
        let (service, is_of_tls) = (self.service.clone(), is_of_tls(&error));
        let why = with_sources(&error.without_url());
        if is_of_tls { CloudError::NotProven { service, why } } else { CloudError::Unreachable { service, why } }
    }

    fn too_long(&self, limit: usize) -> CloudError {
        CloudError::Answer { service: self.service.clone(), wanted: "an answer", why: format!("more than {limit} bytes") }
    }

    /// Waits before the next try: as long as the answer wants, where it says so.
    ///
    /// # Errors
    /// When that is longer than there is time.
    pub async fn wait(&mut self, answer: &Answer) -> Result<(), CloudError> {
        let why = format!("{} {}", answer.status, one_line(&String::from_utf8_lossy(&answer.body)));
        self.wait_after(why, answer.retry_after()).await
    }

    async fn wait_after(&mut self, why: String, at_least: Option<Duration>) -> Result<(), CloudError> {
        let wait = self.waits.next().unwrap_or_default().max(at_least.unwrap_or_default());
        if wait >= self.end.saturating_duration_since(Instant::now()) {
            return Err(CloudError::Deadline { service: self.service.clone(), within: self.http.within, last: why });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Who is asked, for errors.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }
}

/// What AWS answers to instances and containers itself, beneath the network (link-local, RFC 3927, and two addresses of its own), and in HTTP only.
const BENEATH: [&str; 5] = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"];

/// Only TLS keeps what is sent from others, and tells who answers. On this machine there is nobody in between.
fn must_be_protected(uri: &Uri) -> Result<(), CloudError> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_here || BENEATH.contains(&host) => Ok(()),
        _ => Err(CloudError::Usage(format!("{host}: only https is spoken, but for http to this machine (localhost, 127.0.0.1, [::1])"))),
    }
}

/// Whether TLS failed: a certificate that is not trusted will not be later.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    // What an I/O error was made from is not among its sources.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_of_tls(inner)) || error.source().is_some_and(is_of_tls)
}

fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_here = error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    is_here || error.source().is_some_and(is_refused)
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        told = format!("{told}: {source}");
        at = source.source();
    }
    told
}

/// What a service said, for one line of a message: without control characters, at most 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Bytes,
    is_whole: bool,
    sent: SystemTime,
}

impl Answer {
    /// Whether the same question may get another answer soon: throttled, or the service's own fault.
    fn is_passing(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED
    }

    /// Retry-After (RFC 9110 §10.2.3). A time is one of the service's clock.
    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(self.date().unwrap_or_else(SystemTime::now)).ok(),
        }
    }

    /// Date (RFC 9110 §6.6.1)
    fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.headers.get(header::DATE)?.to_str().ok()?).ok()
    }
}

/// The system's clock, corrected by what a service's Date told: clouds refuse what is dated some minutes off.
#[derive(Debug, Default)]
pub struct Clock {
    /// Seconds that the system's clock is behind.
    behind: AtomicI64,
}

impl Clock {
    /// Now, corrected.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let (now, behind) = (SystemTime::now(), self.behind.load(Ordering::Relaxed));
        let by = Duration::from_secs(behind.unsigned_abs());
        if behind < 0 { now - by } else { now + by }
    }

    /// A time that a service told, by the system's clock: what looks at when a token ends looks at that, right or not.
    #[must_use]
    pub fn here(&self, told: SystemTime) -> SystemTime {
        let behind = self.behind.load(Ordering::Relaxed);
        let by = Duration::from_secs(behind.unsigned_abs());
        if behind < 0 { told.checked_add(by) } else { told.checked_sub(by) }.unwrap_or(told)
    }

    /// Corrects it by an answer's Date. Says whether that changed anything: then what was dated by it may be asked once more.
    pub fn correct(&self, answer: &Answer) -> bool {
        let Some(date) = answer.date() else { return false };
        // Between the two, by the system's clock, the Date was written: what lies outside of that is the skew.
        let (from, to) = (answer.sent, SystemTime::now());
        let behind = match (date.duration_since(to), from.duration_since(date)) {
            (Ok(behind), _) => seconds(behind),
            (_, Ok(ahead)) => -seconds(ahead),
            _ => 0,
        };
        // Whoever answers chooses the date that is signed next: not one that is far away.
        if behind.unsigned_abs() > MOST_SKEW.as_secs() {
            return false;
        }
        let before = self.behind.load(Ordering::Relaxed);
        let is_new = (behind - before).unsigned_abs() > LEAST_SKEW.as_secs();
        if is_new {
            self.behind.store(behind, Ordering::Relaxed);
        }
        is_new
    }

    /// How the system's clock was found to be off, in words; `None` where it was not.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let behind = self.behind.load(Ordering::Relaxed);
        let side = if behind < 0 { "ahead of" } else { "behind" };
        (behind != 0)
            .then(|| format!("the clock of this machine is {} s {side} the service's; set it (timedatectl set-ntp true)", behind.abs()))
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_without_tls_is_spoken_to_this_machine_and_to_what_is_beneath_it() {
        let may = |url: &'static str| must_be_protected(&Uri::from_static(url)).is_ok();
        assert!(
            ["https://a.test/", "http://localhost/", "http://[::1]:80/", "http://169.254.169.254/", "http://[fd00:ec2::254]/"]
                .into_iter()
                .all(may)
        );
        assert!(!["http://a.test/", "http://169.254.169.253/", "http://169.254.169.254.a.test/", "ftp://localhost/"].into_iter().any(may));
    }

    #[test]
    fn a_time_to_come_back_at_is_one_of_the_services_clock() {
        let answer = |fields: &[(header::HeaderName, &str)]| Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: fields.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect(),
            body: Bytes::new(),
            is_whole: true,
            sent: SystemTime::now(),
        };
        let at = (header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:40 GMT");
        let date = (header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(answer(&[at.clone(), date]).retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(answer(&[at]).retry_after(), None);
        assert_eq!(answer(&[(header::RETRY_AFTER, " 7")]).retry_after(), Some(Duration::from_secs(7)));
    }
}
