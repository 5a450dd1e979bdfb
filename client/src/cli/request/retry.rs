//! `--retry`: which failures pass, and how long to wait for that, as curl does.

use std::time::{Duration, Instant, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// curl's: a second, then twice as long each time, ten minutes at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// What the flags say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    pub(super) tries: u32,
    pub(super) delay: Option<Duration>,
    pub(super) max_time: Option<Duration>,
    /// Every failure is tried again, not only what may pass by itself.
    pub(super) all_errors: bool,
    pub(super) refused_connections: bool,
}

/// What is left of it.
#[derive(Debug)]
pub(super) struct Left {
    patience: Patience,
    next: Duration,
    started: Instant,
    pub(super) tries: u32,
}

/// Answers that may be better the next time. All others are final.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

impl Patience {
    pub(super) fn start(self) -> Left {
        Left {
            patience: self,
            next: self.delay.filter(|delay| !delay.is_zero()).unwrap_or(FIRST),
            started: Instant::now(),
            tries: self.tries,
        }
    }
}

/// Who says to come back later than this is not asked again.
const FARTHEST: Duration = Duration::from_secs(6 * 60 * 60);

impl Left {
    /// How long to wait before the next try, if there is one. Nobody is asked sooner than he says.
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        // A server must neither hold this for ever nor overflow a clock.
        if retry_after.is_some_and(|wait| wait > FARTHEST) {
            return None;
        }
        let wait = self.next.max(retry_after.unwrap_or_default());
        let is_too_late =
            self.patience.max_time.is_some_and(|most| !most.is_zero() && self.started.elapsed() + retry_after.unwrap_or_default() >= most);
        if self.tries == 0 || is_too_late {
            return None;
        }
        self.tries -= 1;
        if self.patience.delay.is_none_or(|delay| delay.is_zero()) {
            self.next = (self.next * 2).min(LONGEST);
        }
        Some(wait)
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn waits(patience: Patience, retry_after: Option<u64>) -> Vec<u64> {
        let mut left = patience.start();
        std::iter::from_fn(|| left.next(retry_after.map(Duration::from_secs))).map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn waiting_doubles_and_is_never_shorter_than_what_the_server_asks_for() {
        let patience = Patience { tries: 12, ..Patience::default() };
        assert_eq!(waits(patience, None), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(waits(Patience { tries: 4, ..patience }, Some(3)), [3, 3, 4, 8]);
        assert_eq!(waits(Patience { tries: 3, delay: Some(Duration::from_secs(5)), ..patience }, Some(2)), [5, 5, 5]);
        assert_eq!(waits(Patience { tries: 3, max_time: Some(Duration::from_secs(10)), ..patience }, Some(20)), Vec::<u64>::new());
    }

    #[test]
    fn a_server_that_says_to_come_back_in_ages_is_not_waited_for() {
        let some_time = Some(Duration::from_secs(30));
        for patience in [Patience::default(), Patience { max_time: some_time, ..Patience::default() }] {
            assert_eq!(waits(Patience { tries: 2, ..patience }, Some(u64::MAX)), Vec::<u64>::new());
        }
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let read = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).expect("a value"))]), now);
        assert_eq!(read(" 120"), Some(Duration::from_secs(120)));
        assert_eq!(read(&httpdate::fmt_http_date(now + Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(read(&httpdate::fmt_http_date(now - Duration::from_secs(7))), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
