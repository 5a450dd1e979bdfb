//! Latencies as bars: each row is a step of equal ratio, so that the bulk and the rare slow ones are both seen.

use std::time::Duration;

use hdrhistogram::Histogram;

/// So many rows at most.
const ROWS: usize = 14;
/// What a row is higher than the one above at least: finer steps show noise.
const FINEST: f64 = 1.12;
/// Where percentiles are marked.
const MARKS: [(f64, &str); 4] = [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];

/// How it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Characters in a line.
    pub(super) width: usize,
    /// Blocks of an eighth of a character, and lines: a terminal that shows Unicode.
    pub(super) has_blocks: bool,
    pub(super) has_colours: bool,
}

/// Latencies from `from` (not included) to `to`.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    to: u64,
    count: u64,
}

/// Rows from the least to the most.
fn rows(latencies: &Histogram<u64>) -> Vec<Row> {
    let (least, most) = (latencies.min().max(1) as f64, latencies.max().max(1) as f64);
    let ratio = (most / least).powf(1.0 / ROWS as f64).max(FINEST);
    let mut rows = Vec::new();
    let (mut seen, mut to) = (0, least);
    while seen < latencies.len() && rows.len() < ROWS {
        to *= ratio;
        let is_last = rows.len() + 1 == ROWS || to >= most;
        let bound = if is_last { latencies.max() } else { to as u64 };
        let up_to = latencies.count_between(0, bound);
        rows.push(Row { to: bound, count: up_to - seen });
        seen = up_to;
    }
    rows
}

/// The bars, a line each.
pub(super) fn drawn(latencies: &Histogram<u64>, style: Style) -> Vec<String> {
    let rows = rows(latencies);
    let most = rows.iter().map(|row| row.count).max().unwrap_or(1).max(1);
    let counts: Vec<String> = rows.iter().map(|row| grouped(row.count)).collect();
    let count_width = counts.iter().map(String::len).max().unwrap_or_default();
    // The time, the counts and the marks need their room; the rest is the bars'.
    let room = style.width.saturating_sub(count_width + 36).clamp(10, 60);
    let mut from = 0;
    let mut lines = Vec::new();
    for (row, count) in rows.iter().zip(counts) {
        let marks: Vec<&str> = MARKS
            .iter()
            .filter(|(percentile, _)| {
                let at = latencies.value_at_percentile(*percentile);
                at > from && at <= row.to || from == 0 && at == 0
            })
            .map(|(_, name)| *name)
            .collect();
        let edge = if style.has_blocks { '│' } else { '|' };
        let bar = coloured(&bar(row.count, most, room, style.has_blocks), from, latencies, style);
        let line = format!("  {:>9}  {count:>count_width$} {edge}{bar}  {}", shown(Duration::from_nanos(row.to)), marks.join(" "));
        lines.push(line.trim_end().to_owned());
        from = row.to;
    }
    lines
}

/// Never empty where there is something.
fn bar(count: u64, most: u64, room: usize, has_blocks: bool) -> String {
    let length = count as f64 / most as f64 * room as f64;
    let mut bar = if has_blocks {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let eighths = (length * 8.0).round().max(f64::from(u8::from(count > 0))) as usize;
        "█".repeat(eighths / 8) + PARTS[eighths % 8]
    } else {
        "#".repeat((length.round() as usize).max(usize::from(count > 0)))
    };
    let filled = bar.chars().count();
    bar.extend(std::iter::repeat_n(' ', room.saturating_sub(filled)));
    bar
}

/// Green to the median, yellow to the 99th percentile, red beyond (ECMA-48, SGR).
fn coloured(bar: &str, from: u64, latencies: &Histogram<u64>, style: Style) -> String {
    if !style.has_colours || bar.trim().is_empty() {
        return bar.to_owned();
    }
    let colour = match from {
        from if from < latencies.value_at_percentile(50.0) => 32,
        from if from < latencies.value_at_percentile(99.0) => 33,
        _ => 31,
    };
    format!("\x1b[{colour}m{bar}\x1b[0m")
}

/// Three digits, in the unit that fits.
pub(super) fn shown(time: Duration) -> String {
    let (value, unit) = match time.as_nanos() {
        0..1_000_000 => (time.as_secs_f64() * 1e6, "µs"),
        1_000_000..1_000_000_000 => (time.as_secs_f64() * 1e3, "ms"),
        _ => (time.as_secs_f64(), "s"),
    };
    match value {
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("three digits");
        latencies.into_iter().for_each(|latency| histogram.record(latency).expect("it grows"));
        histogram
    }

    fn plain(width: usize) -> Style {
        Style { width, has_blocks: false, has_colours: false }
    }

    #[test]
    fn every_request_is_in_one_row() {
        for latencies in
            [vec![1], vec![0, 0], vec![1_000_000; 50], (1..100_000).collect(), vec![1, 3_600_000_000_000], vec![999, 1000, 1001]]
        {
            let count = latencies.len() as u64;
            let histogram = of(latencies);
            let rows = rows(&histogram);
            assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), count);
            assert!(rows.len() <= ROWS && rows.windows(2).all(|two| two[0].to < two[1].to), "{rows:?}");
        }
    }

    #[test]
    fn the_rare_slow_ones_are_seen_and_marked() {
        let histogram = of((0..9_990).map(|n| 1_000_000 + n * 20).chain((0..10).map(|_| 50_000_000)));
        let lines = drawn(&histogram, plain(80));
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:#?}");
        let last = lines.last().expect("a row");
        assert!(last.contains("50.0 ms") || last.contains("50.1 ms"), "{last}");
        assert!(last.contains("10 |#"), "{last}");
        let all = lines.join("\n");
        assert!(["p50", "p90", "p99", "p99.9"].iter().all(|mark| all.matches(&format!(" {mark}")).count() >= 1), "{all}");
    }

    #[test]
    fn blocks_and_colours_are_for_terminals() {
        let histogram = of((0..1000).map(|n| 1_000_000 + n * 1000).chain([9_000_000]));
        let plain = drawn(&histogram, plain(80)).join("\n");
        assert!(plain.is_ascii() && !plain.contains('\x1b'), "{plain}");
        let fancy = drawn(&histogram, Style { width: 80, has_blocks: true, has_colours: true }).join("\n");
        assert!(fancy.contains('█') && fancy.contains("\x1b[32m") && fancy.contains("\x1b[31m"), "{fancy}");
    }

    #[test]
    fn times_and_numbers_are_short() {
        let shown_of = |nanos| shown(Duration::from_nanos(nanos));
        assert_eq!(
            [850, 9_996, 123_456, 1_234_567, 99_960_000, 12_345_000_000].map(shown_of),
            ["0.85 µs", "10.0 µs", "123 µs", "1.23 ms", "100 ms", "12.3 s"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
