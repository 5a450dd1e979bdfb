//! Requests by site and status class, with their times and sizes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::shards::{Count, Distribution, Histogram, Shards};

/// What a site is called in metrics and logs: its first server name. The proxy makes one for each site, and puts a clone into each response's
/// extensions.
#[derive(Clone, Debug)]
pub(crate) struct SiteLabel(Arc<Label>);

#[derive(Debug)]
struct Label {
    name: Box<str>,
    /// Found with the first request: from then on nothing is looked up.
    metrics: OnceLock<Arc<SiteMetrics>>,
}

impl SiteLabel {
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::new(Label { name: name.into(), metrics: OnceLock::new() }))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0.name
    }
}

/// The status classes: `1xx` to `5xx`, and `none` where there was no answer.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One site's numbers.
#[derive(Debug, Default)]
pub(crate) struct SiteMetrics(Shards<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    by_class: [Count; CLASSES.len()],
    head: Histogram,
    whole: Histogram,
    bytes_in: Count,
    bytes_out: Count,
}

/// One request, as it is counted.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Status code and time to the head, where there was an answer.
    pub(crate) head: Option<(u16, Duration)>,
    pub(crate) whole: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl SiteMetrics {
    pub(crate) fn count(&self, sample: &Sample) {
        let mine = self.0.mine();
        let class = sample.head.map_or(0, |(status, _)| usize::from(status / 100));
        // There is no status below 100; those from 600 on are no class of HTTP's.
        mine.by_class[if class < CLASSES.len() { class } else { 5 }].add(1);
        if let Some((_, after)) = sample.head {
            mine.head.add(after);
        }
        mine.whole.add(sample.whole);
        if sample.bytes_in > 0 {
            mine.bytes_in.add(sample.bytes_in);
        }
        if sample.bytes_out > 0 {
            mine.bytes_out.add(sample.bytes_out);
        }
    }

    /// How many requests of the class at this place of [`CLASSES`].
    pub(crate) fn requests(&self, class: usize) -> u64 {
        self.0.sum(|numbers| numbers.by_class[class].get())
    }

    /// Times to the answer's head.
    pub(crate) fn head(&self) -> Distribution {
        self.0.distribution(|numbers| &numbers.head)
    }

    /// Times to the answer's last byte.
    pub(crate) fn whole(&self) -> Distribution {
        self.0.distribution(|numbers| &numbers.whole)
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.0.sum(|numbers| numbers.bytes_in.get())
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.0.sum(|numbers| numbers.bytes_out.get())
    }
}

/// All sites that have answered, by name. A site keeps its numbers when the configuration is read anew.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    by_name: Mutex<BTreeMap<Box<str>, Arc<SiteMetrics>>>,
    /// Of requests that no site took.
    none: Arc<SiteMetrics>,
}

impl Sites {
    pub(crate) fn count(&self, site: Option<&SiteLabel>, sample: &Sample) {
        match site {
            Some(site) => site.0.metrics.get_or_init(|| self.of(site.as_str())).count(sample),
            None => self.none.count(sample),
        }
    }

    fn of(&self, name: &str) -> Arc<SiteMetrics> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_name.entry(name.into()).or_default())
    }

    /// Name and numbers of each; the empty name is that of no site.
    pub(crate) fn all(&self) -> Vec<(Box<str>, Arc<SiteMetrics>)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let named = by_name.iter().map(|(name, site)| (name.clone(), Arc::clone(site)));
        [(Box::default(), Arc::clone(&self.none))].into_iter().chain(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_keeps_its_numbers_when_its_label_is_made_anew() {
        let sites = Sites::default();
        let sample = |status| Sample { head: Some((status, Duration::ZERO)), whole: Duration::ZERO, bytes_in: 1, bytes_out: 2 };
        let (before, after) = (SiteLabel::new("api.example.com"), SiteLabel::new("api.example.com"));
        sites.count(Some(&before), &sample(200));
        sites.count(Some(&after), &sample(204));
        sites.count(Some(&after), &sample(999));
        sites.count(None, &Sample { head: None, whole: Duration::ZERO, bytes_in: 0, bytes_out: 0 });
        let all = sites.all();
        let of: Vec<_> = all.iter().map(|(name, site)| (&**name, [0, 2, 5].map(|class| site.requests(class)), site.bytes_out())).collect();
        assert_eq!(of, [("", [1, 0, 0], 0), ("api.example.com", [0, 2, 1], 6)]);
    }
}
