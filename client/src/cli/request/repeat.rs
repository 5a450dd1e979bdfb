//! `--repeat N --concurrency N`: the same request many times over one client, and how long it took.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ekm_otp_client::{Client, ConnectionInfo};
use futures_util::future::join_all;
use indicatif::ProgressBar;
use tokio::time::timeout;

use super::arriving::Arriving;
use super::connect::Shown;
use super::failure::Failure;
use super::plan::Plan;
use super::summary::{Done, Report, Summary};
use crate::cli::output;
use crate::cli::{CliError, progress};

/// Shows what there is when it is dropped: ended by a signal, that is what was measured until then.
struct Showing<'a> {
    summary: &'a RefCell<Summary>,
    report: Report,
    is_shown: bool,
}

impl Showing<'_> {
    fn show(mut self) -> Result<(), CliError> {
        self.is_shown = true;
        self.write()
    }

    fn write(&self) -> Result<(), CliError> {
        output::result(self.report.text(&self.summary.borrow()).as_bytes())
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        if !self.is_shown {
            let _ = self.write();
        }
    }
}

pub(super) async fn run(client: &Client, plan: &Plan, shown: &Shown, has_bar: bool, times: u64, at_once: u32) -> Result<(), CliError> {
    // A server that does not take this client is told of once, and no request is counted that only waited for the first connection.
    client.connected().await.map_err(|error| Failure::of(&error, shown).error)?;
    let summary = RefCell::new(Summary::new(format!("{} {}", plan.method, plan.url()), times, at_once));
    let showing = Showing { summary: &summary, report: Report::for_stdout(shown.holder), is_shown: false };
    let bar = if has_bar { progress::requests(times) } else { ProgressBar::hidden() };
    let begun = RefCell::new(0);
    let one_after_the_other = || async {
        while take(&begun, times) {
            let started = Instant::now();
            let done = match plan.max_time {
                None => once(client, plan, shown).await,
                Some(most) => timeout(most, once(client, plan, shown))
                    .await
                    .unwrap_or_else(|_| Err(format!("it took longer than {most:?} (--max-time)"))),
            };
            summary.borrow_mut().add(done, started.elapsed(), shown.macs());
            bar.inc(1);
        }
    };
    join_all((0..at_once).map(|_| one_after_the_other())).await;
    bar.finish_and_clear();
    summary.borrow_mut().end();
    showing.show()?;
    let summary = summary.borrow();
    match summary.failures(plan.is_status_ignored) {
        0 => Ok(()),
        failures => Err(CliError::Other(format!("{failures} of {times} requests failed: the summary has why"))),
    }
}

fn take(begun: &RefCell<u64>, times: u64) -> bool {
    let mut begun = begun.borrow_mut();
    let is_left = *begun < times;
    *begun += u64::from(is_left);
    is_left
}

/// With its whole answer, which is dropped.
async fn once(client: &Client, plan: &Plan, shown: &Shown) -> Result<Done, String> {
    let (sent, arrived) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let body = plan.body.stream(Arc::clone(&sent), ProgressBar::hidden());
    let request = plan.request(&plan.method, plan.target.clone(), plan.fields.clone(), body);
    let response = client.send(request).await.map_err(|error| Failure::of(&error, shown).error.to_string())?;
    let (status, connection) = (response.status(), response.extensions().get::<ConnectionInfo>().cloned());
    let mut body = Arriving::new(response.into_body(), plan.timeout, Arc::clone(&arrived), ProgressBar::hidden());
    while body.next().await.map_err(|e| format!("the answer's body is incomplete: {e}"))?.is_some() {}
    Ok(Done { status, sent: sent.load(Ordering::Relaxed), arrived: arrived.load(Ordering::Relaxed), connection })
}
