//! What many requests came to: answers, errors, connections, latencies.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use ekm_otp_client::ConnectionInfo;
use hdrhistogram::Histogram;
use http::StatusCode;

use super::histogram::{Style, drawn, grouped, shown};

/// So many different errors are told; the others are counted together.
const ERRORS: usize = 8;

/// What one request came to.
pub(super) struct Done {
    pub(super) status: StatusCode,
    pub(super) sent: u64,
    pub(super) arrived: u64,
    pub(super) connection: Option<ConnectionInfo>,
}

/// The numbers.
#[derive(Debug)]
pub(super) struct Summary {
    what: String,
    asked: u64,
    at_once: u32,
    started: Instant,
    took: Option<Duration>,
    /// Of requests with an answer, in nanoseconds.
    latencies: Histogram<u64>,
    answers: BTreeMap<StatusCode, u64>,
    errors: BTreeMap<String, u64>,
    sent: u64,
    arrived: u64,
    connections: HashSet<u64>,
    macs: u64,
    mac_time: Duration,
    version: Option<http::Version>,
}

impl Summary {
    pub(super) fn new(what: String, asked: u64, at_once: u32) -> Self {
        // Three digits are a valid choice; should that ever change, one is.
        let latencies = Histogram::new(3).or_else(|_| Histogram::new(1)).unwrap_or_else(|_| unreachable!("a histogram has one digit"));
        Self {
            what,
            asked,
            at_once,
            started: Instant::now(),
            took: None,
            latencies,
            answers: BTreeMap::new(),
            errors: BTreeMap::new(),
            sent: 0,
            arrived: 0,
            connections: HashSet::new(),
            macs: 0,
            mac_time: Duration::ZERO,
            version: None,
        }
    }

    pub(super) fn add(&mut self, done: Result<Done, String>, took: Duration, macs: u64) {
        match done {
            Err(why) => *self.errors.entry(why).or_default() += 1,
            Ok(done) => {
                *self.answers.entry(done.status).or_default() += 1;
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                // Its table grows where it must. Should that fail, one in the last row is better than none.
                if self.latencies.record(nanos).is_err() {
                    self.latencies.saturating_record(nanos);
                }
                self.sent += done.sent;
                self.arrived += done.arrived;
                if let Some(connection) = done.connection
                    && self.connections.insert(connection.id())
                {
                    self.macs += macs;
                    self.mac_time += connection.mac_time();
                    self.version = Some(connection.http_version());
                }
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.took = Some(self.started.elapsed());
    }

    pub(super) fn failures(&self, is_status_ignored: bool) -> u64 {
        let is_failed = |status: &StatusCode| !is_status_ignored && (status.is_client_error() || status.is_server_error());
        self.errors.values().sum::<u64>() + self.answers.iter().filter(|(status, _)| is_failed(status)).map(|(_, count)| count).sum::<u64>()
    }
}

/// How it is shown.
pub(super) struct Report {
    style: Style,
    holder: &'static str,
}

impl Report {
    /// Drawn for a terminal where standard output is one, and plain ASCII else. NO_COLOR (no-color.org) and TERM=dumb are heeded.
    pub(super) fn for_stdout(holder: &'static str) -> Self {
        let stdout = io::stdout();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = stdout.is_terminal();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let is_unicode = locale.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"));
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(80, |size| usize::from(size.ws_col).max(40));
        let style = Style {
            width: if is_terminal { width } else { 80 },
            has_blocks: is_terminal && is_unicode && !is_dumb,
            has_colours: is_terminal && !is_dumb && !is_set("NO_COLOR"),
        };
        Self { style, holder }
    }

    pub(super) fn text(&self, summary: &Summary) -> String {
        let mut lines = Vec::new();
        let took = summary.took.unwrap_or_else(|| summary.started.elapsed());
        let answers = summary.answers.values().sum::<u64>();
        let errors = summary.errors.values().sum::<u64>();
        lines.push(self.bold(&summary.what));
        let rate = answers as f64 / took.as_secs_f64().max(1e-9);
        let done = answers + errors;
        let of = if done < summary.asked { format!(" of {} (ended early)", grouped(summary.asked)) } else { String::new() };
        lines.push(format!(
            "{} requests{of}, {} at once, in {}: {} answers a second",
            grouped(done),
            grouped(summary.at_once.into()),
            shown(took),
            per_second(rate)
        ));
        lines.push(String::new());
        for (status, count) in &summary.answers {
            lines.push(format!("{:>12}  {status}", grouped(*count)));
        }
        let mut errors: Vec<_> = summary.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (why, count) in errors.iter().take(ERRORS) {
            lines.push(format!("{:>12}  {}", grouped(**count), self.red(&format!("no answer: {why}"))));
        }
        let others: u64 = errors.iter().skip(ERRORS).map(|(_, count)| **count).sum();
        if others > 0 {
            lines.push(format!("{:>12}  {}", grouped(others), self.red("no answer, for other reasons")));
        }
        lines.push(String::new());
        let connections = summary.connections.len() as u64;
        lines.push(format!(
            "connections   {}{}",
            grouped(connections),
            summary.version.map(|version| format!(" ({version:?})")).unwrap_or_default()
        ));
        let each = u32::try_from(summary.macs).ok().and_then(|macs| summary.mac_time.checked_div(macs));
        lines.push(format!(
            "{:<12}  {}{}",
            format!("by the {}", self.holder),
            counted(summary.macs, "HMAC"),
            each.map(|time| format!(", {} each", shown(time))).unwrap_or_default()
        ));
        lines.push(format!("bodies        {} sent, {} received", size(summary.sent), size(summary.arrived)));
        if !summary.latencies.is_empty() {
            let at = |percentile| shown(Duration::from_nanos(summary.latencies.value_at_percentile(percentile)));
            lines.push(String::new());
            lines.push(format!("latency  {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "least", "p50", "p90", "p99", "p99.9", "most"));
            let (least, most) = (summary.latencies.min(), summary.latencies.max());
            let ends = [least, most].map(|nanos| shown(Duration::from_nanos(nanos)));
            lines.push(format!("         {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", ends[0], at(50.0), at(90.0), at(99.0), at(99.9), ends[1]));
            lines.push(String::new());
            lines.push(format!("  {:>9}  requests", "up to"));
            lines.extend(drawn(&summary.latencies, self.style));
        }
        lines.into_iter().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    fn bold(&self, text: &str) -> String {
        if self.style.has_colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn red(&self, text: &str) -> String {
        if self.style.has_colours { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn per_second(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_answers_errors_and_latencies() {
        let mut summary = Summary::new("GET https://a.test/x".into(), 1_005, 8);
        for n in 0..1_000_u64 {
            let status = if n < 990 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            summary.add(Ok(Done { status, sent: 0, arrived: 1024, connection: None }), Duration::from_micros(900 + n), 1);
        }
        for n in 0..5 {
            summary.add(Err(if n == 0 { "one".into() } else { "another".into() }), Duration::from_secs(30), 1);
        }
        summary.took = Some(Duration::from_secs(2));
        let report = Report { style: Style { width: 80, has_blocks: false, has_colours: false }, holder: "TPM" };
        let text = report.text(&summary);
        for told in [
            "GET https://a.test/x\n1,005 requests, 8 at once, in 2.00 s: 500 answers a second\n",
            "\n         990  200 OK\n          10  503 Service Unavailable\n",
            "\n           4  no answer: another\n           1  no answer: one\n",
            "bodies        0 B sent, 1000.00 KiB received\n",
            "1.90 ms",
            "p99.9",
        ] {
            assert!(text.contains(told), "{told:?} is missing in:\n{text}");
        }
        assert!(text.is_ascii() || text.contains('µ'), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!((summary.failures(false), summary.failures(true)), (15, 5));
    }
}
