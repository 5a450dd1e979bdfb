//! A small chart, drawn here: no script, and nothing that a strict content security policy would refuse.

use std::fmt;

/// Bars for numbers that follow each other in time, the newest at the right.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    /// What it shows, for those who do not see it.
    pub(crate) description: &'a str,
    pub(crate) values: &'a [u64],
    /// What stands below its left and its right end.
    pub(crate) ends: [&'a str; 2],
}

const WIDTH: usize = 720;
const HEIGHT: usize = 140;
const LEFT: usize = 44;
const TOP: usize = 10;
const BOTTOM: usize = 22;

/// Lines are drawn at these.
fn marks(max: u64) -> [u64; 2] {
    [top(max), top(max) / 2]
}

/// The next round number: 2, 4, 10, 20, 40, 100…
fn top(max: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        if let Some(round) = [2, 4, 10].into_iter().map(|n| unit.saturating_mul(n)).find(|round| *round >= max) {
            return round;
        }
        unit = unit.saturating_mul(10);
    }
}

impl fmt::Display for Bars<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = top(self.values.iter().copied().max().unwrap_or_default());
        let (plot_width, plot_height) = (WIDTH - LEFT, HEIGHT - TOP - BOTTOM);
        let floor = TOP + plot_height;
        writeln!(f, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-title chart-description">"#)?;
        writeln!(f, r#"<title id="chart-title">{}</title>"#, self.title)?;
        writeln!(f, r#"<desc id="chart-description">{}</desc>"#, self.description)?;
        for mark in marks(top) {
            let y = floor - height(mark, top, plot_height);
            writeln!(f, r#"<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>"#)?;
            writeln!(f, r#"<text x="{}" y="{}" text-anchor="end">{mark}</text>"#, LEFT - 6, y + 4)?;
        }
        let step = plot_width / self.values.len().max(1);
        for (at, value) in self.values.iter().enumerate().filter(|(_, value)| **value > 0) {
            // One is to be seen beside a thousand.
            let height = height(*value, top, plot_height).max(2);
            let (x, y, width) = (LEFT + at * step + 1, floor - height, step.saturating_sub(2).max(1));
            writeln!(f, r#"<rect class="bar" x="{x}" y="{y}" width="{width}" height="{height}" rx="1"/>"#)?;
        }
        writeln!(f, r#"<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{floor}" y2="{floor}"/>"#)?;
        writeln!(f, r#"<text x="{LEFT}" y="{}">{}</text>"#, HEIGHT - 6, self.ends[0])?;
        writeln!(f, r#"<text x="{WIDTH}" y="{}" text-anchor="end">{}</text>"#, HEIGHT - 6, self.ends[1])?;
        f.write_str("</svg>")
    }
}

fn height(value: u64, top: u64, plot: usize) -> usize {
    usize::try_from(u128::from(value) * plot as u128 / u128::from(top)).unwrap_or(plot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fits_and_the_lowest_is_seen() {
        for (max, expected) in [(0, 2), (2, 2), (3, 4), (5, 10), (11, 20), (99, 100), (101, 200)] {
            assert_eq!(top(max), expected);
        }
        for values in [&[0, 1, 1_000_000][..], &[u64::MAX, 1], &[]] {
            let chart = Bars { title: "t", description: "d", values, ends: ["then", "now"] }.to_string();
            let heights: Vec<usize> = chart.split(" height=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect();
            assert_eq!(heights.len(), values.iter().filter(|value| **value > 0).count());
            assert!(heights.iter().all(|height| (2..=HEIGHT - TOP - BOTTOM).contains(height)), "{chart}");
        }
    }
}
