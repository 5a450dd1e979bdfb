//! Credentials that are kept as long as they are good, and made anew by one at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

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
    held: Mutex<Option<Arc<T>>>,
    margin: Duration,
}

impl<T: Expires> Refreshing<T> {
    /// Made anew from `margin` before their end on.
    #[must_use]
    pub fn new(margin: Duration) -> Self {
        Self { held: Mutex::new(None), margin }
    }

    /// Those that are held, or new ones. Who asks meanwhile waits for the one that makes them. Where that fails, those that are held go on
    /// as long as they are good, and not longer.
    ///
    /// # Errors
    /// What `make` says, where nothing that is good is held.
    pub async fn get<F: Future<Output = Result<T, CloudError>>>(&self, make: impl FnOnce() -> F) -> Result<Arc<T>, CloudError> {
        let mut held = self.held.lock().await;
        let now = SystemTime::now();
        let is_good_for = |margin: Duration| held.as_ref().filter(|held| held.expires() > now + margin);
        if let Some(held) = is_good_for(self.margin) {
            return Ok(Arc::clone(held));
        }
        match make().await {
            Ok(new) => Ok(Arc::clone(held.insert(Arc::new(new)))),
            Err(error) => match held.as_ref().filter(|held| held.expires() > SystemTime::now()) {
                Some(held) => {
                    tracing::warn!(%error, "credentials cannot be made anew; those that are held go on until they end");
                    Ok(Arc::clone(held))
                }
                None => Err(error),
            },
        }
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

    #[tokio::test]
    async fn within_the_margin_they_are_made_anew_and_a_failure_leaves_those_that_are_good() {
        let refreshing = Refreshing::new(Duration::from_secs(600));
        let soon = in_seconds(300);
        assert!(refreshing.get(|| async move { Ok(Until(soon)) }).await.is_ok());
        let held = refreshing.get(|| async { failed() }).await.expect("good for five minutes");
        assert_eq!(held.0, soon);
        let later = in_seconds(3600);
        assert_eq!(refreshing.get(|| async move { Ok(Until(later)) }).await.expect("new ones").0, later);
    }

    #[tokio::test]
    async fn expired_credentials_are_never_handed_out() {
        let refreshing = Refreshing::new(Duration::from_secs(600));
        assert!(refreshing.get(|| async { Ok(Until(SystemTime::now())) }).await.is_ok());
        assert!(refreshing.get(|| async { failed() }).await.is_err());
    }
}
