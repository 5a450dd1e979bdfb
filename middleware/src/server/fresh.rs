//! Keeps a server fresh: ends keys in time, and reads again what has changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::error::LoadError;
use super::files::{Files, Part, Registry};
use super::watched::Seen;

/// How often keys are looked at that end by themselves.
const TICK: Duration = Duration::from_secs(1);
/// How often files that never rest are looked at before they are read all the same.
const RESTLESS: u32 = 5;

/// For ever. Each of the three by itself: whatever one waits for, the others go on.
pub(super) async fn keep_fresh(files: &Files, look_every: Option<Duration>) {
    tokio::join!(cut_expired(&files.registry), look_after(&files.registry, look_every), look_after(&files.certificate, look_every));
}

fn each(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn cut_expired(registry: &Arc<Registry>) {
    let mut tick = each(TICK);
    loop {
        tick.tick().await;
        let registry = Arc::clone(registry);
        if let Err(error) = tokio::task::spawn_blocking(move || registry.cut_expired()).await {
            tracing::error!(%error, "keys could not be looked at");
        }
    }
}

async fn look_after<P: Part>(part: &Arc<P>, look_every: Option<Duration>) {
    let (Some(period), Some(_)) = (look_every, part.watched()) else { return };
    let (mut tick, mut watch) = (each(period), Watch::default());
    loop {
        tick.tick().await;
        let of_task = Arc::clone(part);
        match tokio::task::spawn_blocking(move || watch.look(&*of_task)).await {
            Ok((next, news)) => {
                watch = next;
                match news {
                    Some(Ok(changed)) => tracing::info!("files have changed and were read again: {changed}"),
                    Some(Err(error)) => tracing::error!(%error, "files have changed and are not taken: what was there before is kept"),
                    None => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "the files could not be looked at");
                watch = Watch::default();
            }
        }
    }
}

/// Of looking at files that have changed.
#[derive(Default)]
struct Watch {
    /// As they were when last looked at.
    last: Option<Seen>,
    /// How often they were not the same as at the look before.
    restless: u32,
    /// What was told of them.
    told: Option<String>,
}

impl Watch {
    /// Reads files that have changed since they were read. First they are to rest from one look to the next, so that whoever writes them has ended;
    /// but who never ends keeps nothing out.
    fn look<P: Part>(mut self, part: &P) -> (Self, Option<Result<String, LoadError>>) {
        let Some(watched) = part.watched() else { return (self, None) };
        let now = watched.look();
        if watched.is_taken(&now) {
            return (Self::default(), None);
        }
        let rests = self.last.as_ref() == Some(&now);
        self.last = Some(now);
        if !rests && self.restless < RESTLESS {
            self.restless += 1;
            return (self, None);
        }
        match part.read_again() {
            Ok(changed) => (Self::default(), Some(Ok(changed))),
            Err(LoadError::Changing) if self.restless < RESTLESS => {
                self.restless += 1;
                (self, None)
            }
            Err(error) => {
                let is_news = self.told.replace(error.to_string()) != self.told;
                (self, is_news.then_some(Err(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::watched::Watched;
    use super::*;

    /// A file that cannot be read for the first times.
    struct Away {
        watched: Watched,
        for_times: AtomicU32,
    }

    impl Part for Away {
        fn watched(&self) -> Option<&Watched> {
            Some(&self.watched)
        }

        fn read_again(&self) -> Result<String, LoadError> {
            let read = || match self.for_times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1)) {
                Ok(_) => Err(LoadError::Read { path: PathBuf::new(), source: io::Error::from_raw_os_error(24) }),
                Err(_) => Ok(()),
            };
            self.watched.again(read, |()| "all of it".to_owned())
        }
    }

    #[test]
    fn files_that_could_not_be_read_are_tried_again_although_they_look_the_same_and_told_of_once() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let (watched, ()) = Watched::first(vec![file.path().to_owned()], || Ok(())).expect("it is read");
        let away = Away { watched, for_times: AtomicU32::new(2) };
        std::fs::write(file.path(), "more").expect("writing");
        let (mut watch, mut news) = (Watch::default(), Vec::new());
        for _ in 0..6 {
            let (next, new) = watch.look(&away);
            watch = next;
            news.push(new.map(|new| new.map_err(|error| error.to_string())));
        }
        let told: Vec<_> = news.iter().flatten().collect();
        assert!(matches!(told[..], [Err(_), Ok(_)]), "{news:?}");
        assert_eq!(news.iter().position(|new| matches!(new, Some(Ok(_)))), Some(3), "{news:?}");
    }
}
