//! Which upstream gets a request: each in turn, those that are well first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::upstream::Upstream;

/// A site's upstreams. Never empty.
#[derive(Debug)]
pub(super) struct Balance {
    upstreams: Vec<Arc<Upstream>>,
    next: AtomicUsize,
}

/// Which upstreams a request has tried.
#[derive(Debug, Default)]
pub(super) struct Tried(Vec<u64>);

impl Tried {
    pub(super) fn mark(&mut self, upstream: &Upstream) {
        self.0.push(upstream.id);
    }

    fn contains(&self, upstream: &Upstream) -> bool {
        self.0.contains(&upstream.id)
    }
}

impl Balance {
    pub(super) fn new(upstreams: Vec<Arc<Upstream>>) -> Self {
        Self { upstreams, next: AtomicUsize::new(0) }
    }

    /// The next that was not tried. Where all of these are out, one of them all the same: it may be better than nothing.
    pub(super) fn choose(&self, tried: &Tried) -> Option<Arc<Upstream>> {
        if let [only] = &*self.upstreams {
            return (!tried.contains(only)).then(|| Arc::clone(only));
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..self.upstreams.len()).filter_map(|step| self.upstreams.get(start.wrapping_add(step) % self.upstreams.len()));
        let untried = || in_turn().filter(|upstream| !tried.contains(upstream));
        untried().find(|upstream| upstream.health.admits()).or_else(|| untried().next()).map(Arc::clone)
    }

    pub(super) fn all(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::target::{Protocol, Target};

    #[test]
    fn each_gets_its_turn_and_who_is_out_gets_none_unless_all_are() {
        let upstream = |_| Arc::new(Upstream::new(Target::Demo, Protocol::Auto, None, Duration::ZERO));
        let balance = Balance::new((0..3).map(upstream).collect());
        let ids: Vec<u64> = balance.all().iter().map(|upstream| upstream.id).collect();
        let turn = |tried: &Tried| balance.choose(tried).map(|upstream| upstream.id);
        let fresh = Tried::default();
        assert_eq!([turn(&fresh), turn(&fresh), turn(&fresh), turn(&fresh)], [0, 1, 2, 0].map(|at| Some(ids[at])));
        balance.all()[1].health.failed(true);
        assert!((0..9).all(|_| turn(&fresh) != Some(ids[1])));
        let mut tried = Tried::default();
        tried.mark(&balance.all()[0]);
        tried.mark(&balance.all()[2]);
        assert_eq!(turn(&tried), Some(ids[1]), "all that are left are out");
        tried.mark(&balance.all()[1]);
        assert_eq!(turn(&tried), None);
    }
}
