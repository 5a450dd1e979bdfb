//! Credentials that are kept as long as they are good, and made anew by one at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

use crate::CloudError;

/// What ends at some time.
pub trait Expires {
    /// When.
    fn expires(&self) -> SystemTime;
}

/// Credentials in this process's memory.
#[derive(Debug)]
pub struct Refreshing<T> {
    held: std::sync::Mutex<Option<Held<T>>>,
    /// Whoever makes new ones.
    making: Mutex<()>,
    margin: Duration,
}

#[derive(Debug)]
struct Held<T> {
    credentials: Arc<T>,
    /// How long before their end new ones are wanted.
    margin: Duration,
    /// Their end by a clock that nobody sets: the other one may be set back meanwhile.
    end: Instant,
}

impl<T: Expires> Held<T> {
    fn is_good_for(&self, within: Duration) -> bool {
        self.credentials.expires() > SystemTime::now() + within && self.end > Instant::now() + within
    }
}

impl<T: Expires> Refreshing<T> {
    /// Credentials that are good for that long are handed out while others are made.
    const WHILE: Duration = Duration::from_secs(60);

    /// Made anew from `margin` before their end on; in the last quarter of their time where that is shorter.
    #[must_use]
    pub fn new(margin: Duration) -> Self {
        Self { held: std::sync::Mutex::default(), making: Mutex::default(), margin }
    }

    /// Those that are held, or new ones. One who asks makes them, and the others wait, unless those that are held are good for a while. Where it fails,
    /// those that are held go on as long as they are good, and not longer.
    ///
    /// # Errors
    /// What `make` says, where nothing that is good is held.
    pub async fn get<F: Future<Output = Result<T, CloudError>>>(&self, make: impl FnOnce() -> F) -> Result<Arc<T>, CloudError> {
        if self.making.try_lock().is_err()
            && let Some(held) = self.held(|held| held.is_good_for(Self::WHILE))
        {
            return Ok(held);
        }
        match self.renew(make).await {
            Ok(credentials) => Ok(credentials),
            Err(error) => match self.held(|held| held.is_good_for(Duration::ZERO)) {
                Some(held) => {
                    tracing::warn!(%error, "credentials cannot be made anew; those that are held go on until they end");
                    Ok(held)
                }
                None => Err(error),
            },
        }
    }

    /// The same, where it matters whether new ones can be had.
    ///
    /// # Errors
    /// What `make` says, where new ones are wanted.
    pub async fn renew<F: Future<Output = Result<T, CloudError>>>(&self, make: impl FnOnce() -> F) -> Result<Arc<T>, CloudError> {
        let _making = self.making.lock().await;
        if let Some(held) = self.held(|held| held.is_good_for(held.margin)) {
            return Ok(held);
        }
        let credentials = Arc::new(make().await?);
        let left = credentials.expires().duration_since(SystemTime::now()).unwrap_or_default();
        let held = Held { credentials: Arc::clone(&credentials), margin: self.margin.min(left / 4), end: Instant::now() + left };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(credentials)
    }

    /// When new ones are wanted. `None` where none are held.
    pub fn due(&self) -> Option<SystemTime> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .and_then(|held| held.credentials.expires().checked_sub(held.margin))
    }

    fn held(&self, is_wanted: impl FnOnce(&Held<T>) -> bool) -> Option<Arc<T>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| is_wanted(held)).map(|held| Arc::clone(&held.credentials))
    }
}

/// The same for many names, such as scopes.
#[derive(Debug)]
pub struct RefreshingEach<T> {
    kept: std::sync::Mutex<HashMap<String, Arc<Refreshing<T>>>>,
    margin: Duration,
}

impl<T: Expires> RefreshingEach<T> {
    /// Names that something is kept for. Who asks for more gets theirs, too, made each time.
    const MAX: usize = 64;

    /// As [`Refreshing::new`].
    #[must_use]
    pub fn new(margin: Duration) -> Self {
        Self { kept: std::sync::Mutex::default(), margin }
    }

    /// As [`Refreshing::get`].
    ///
    /// # Errors
    /// What `make` says, where nothing that is good is held.
    pub async fn get<F: Future<Output = Result<T, CloudError>>>(&self, name: &str, make: impl FnOnce() -> F) -> Result<Arc<T>, CloudError> {
        let one = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            match kept.get(name) {
                Some(one) => Arc::clone(one),
                None => {
                    let one = Arc::new(Refreshing::new(self.margin));
                    if kept.len() < Self::MAX {
                        kept.insert(name.to_owned(), Arc::clone(&one));
                    }
                    one
                }
            }
        };
        one.get(make).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Until(SystemTime);

    impl Expires for Until {
        fn expires(&self) -> SystemTime {
            self.0
        }
    }

    fn in_seconds(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    fn failed<T>() -> Result<T, CloudError> {
        Err(CloudError::Usage("no".into()))
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cause_one_refresh() {
        let (refreshing, made) = (Refreshing::new(Duration::from_secs(600)), AtomicUsize::new(0));
        let ask = || {
            refreshing.get(|| async {
                made.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(Until(in_seconds(3600)))
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    /// What was made when its end was farther away.
    fn hold(refreshing: &Refreshing<Until>, end: SystemTime) {
        *refreshing.held.lock().expect("the lock") = Some(held_until(end, refreshing.margin));
    }

    fn held_until(end: SystemTime, margin: Duration) -> Held<Until> {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        Held { credentials: Arc::new(Until(end)), margin, end: Instant::now() + left }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_nothing_good_for_longer() {
        let refreshing = Refreshing::new(Duration::from_secs(600));
        // Made two hours ago for one hour, and the clock was set back by two.
        let end = in_seconds(3600);
        *refreshing.held.lock().expect("the lock") = Some(Held { end: Instant::now(), ..held_until(end, refreshing.margin) });
        assert!(refreshing.get(|| async { failed() }).await.is_err());
    }

    #[tokio::test]
    async fn within_the_margin_they_are_made_anew_and_a_failure_leaves_those_that_are_good() {
        let refreshing = Refreshing::new(Duration::from_secs(600));
        let soon = in_seconds(300);
        hold(&refreshing, soon);
        assert!(refreshing.renew(|| async { failed() }).await.is_err());
        let held = refreshing.get(|| async { failed() }).await.expect("good for five minutes");
        assert_eq!(held.0, soon);
        let later = in_seconds(3600);
        assert_eq!(refreshing.get(|| async move { Ok(Until(later)) }).await.expect("new ones").0, later);
        let due = refreshing.due().expect("they are held");
        assert_eq!(later.duration_since(due).expect("before their end"), Duration::from_secs(600));
    }

    #[tokio::test]
    async fn credentials_that_last_for_less_than_the_margin_are_not_made_at_each_question() {
        let refreshing = Refreshing::new(Duration::from_secs(1200));
        let end = in_seconds(900);
        for n in 0..3 {
            let got = refreshing.get(|| async move { if n == 0 { Ok(Until(end)) } else { failed() } }).await.expect("the first ones");
            assert_eq!(got.0, end);
        }
        assert!(refreshing.due().is_some_and(|due| due > in_seconds(600)));
    }

    #[tokio::test]
    async fn nobody_waits_for_new_ones_while_the_old_are_good_for_a_while() {
        let refreshing = Refreshing::new(Duration::from_secs(600));
        for (left, waits) in [(300, false), (30, true)] {
            hold(&refreshing, in_seconds(left));
            let (go, gone) = tokio::sync::oneshot::channel::<()>();
            let renew = refreshing.renew(|| async move {
                let _ = gone.await;
                Ok(Until(in_seconds(3600)))
            });
            let other = async {
                let get = tokio::time::timeout(Duration::from_millis(50), refreshing.get(|| async { failed() })).await;
                assert_eq!(get.is_err(), waits, "{left} s left");
                let _ = go.send(());
            };
            let (renewed, ()) = tokio::join!(renew, other);
            assert!(renewed.is_ok());
        }
    }

    #[tokio::test]
    async fn expired_credentials_are_never_handed_out() {
        let refreshing = Refreshing::new(Duration::from_secs(600));
        assert!(refreshing.get(|| async { Ok(Until(SystemTime::now())) }).await.is_ok());
        assert!(refreshing.get(|| async { failed() }).await.is_err());
    }
}
