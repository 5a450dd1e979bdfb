//! Plain tables of medians and of ratios that were taken round by round.

use std::fmt::Write as _;

use crate::measure::Rounds;
use crate::mode::Mode;

/// The CPU cost of one operation.
pub fn costs(operation: &str, rounds: &Rounds) -> String {
    let mut table =
        format!("{operation:<22}{:>9}{:>12}{:>24}{:>24}\n", "min µs", "median µs", "/ none (quartiles)", "/ bearer (quartiles)");
    for (mode, costs) in Mode::ALL.iter().zip(rounds) {
        let (min, median) = (quantile(costs, 0.0), quantile(costs, 0.5));
        let (to_none, to_bearer) = (ratio(costs, of(rounds, Mode::None)), ratio(costs, of(rounds, Mode::Bearer)));
        line(&mut table, format_args!("  {:<20}{min:>9.2}{median:>12.2}{to_none:>24}{to_bearer:>24}", mode.name()));
    }
    table + "\n"
}

/// The memory of one idle connection.
pub fn memory(rounds: &Rounds) -> String {
    let mut table = format!("{:<22}{:>9}{:>12}{:>24}\n", "idle connection", "min KiB", "median KiB", "more than none, KiB");
    let none = quantile(of(rounds, Mode::None), 0.5);
    for (mode, sizes) in Mode::ALL.iter().zip(rounds) {
        let (min, median) = (quantile(sizes, 0.0), quantile(sizes, 0.5));
        line(&mut table, format_args!("  {:<20}{min:>9.2}{median:>12.2}{:>+24.2}", mode.name(), median - none));
    }
    table
}

fn line(table: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(table, "{line}");
}

fn of(rounds: &Rounds, mode: Mode) -> &[f64] {
    Mode::ALL.iter().zip(rounds).find(|(other, _)| **other == mode).map_or(&[], |(_, values)| values)
}

/// The median of the rounds' ratios, and their quartiles.
fn ratio(costs: &[f64], base: &[f64]) -> String {
    let ratios: Vec<f64> = costs.iter().zip(base).map(|(cost, base)| cost / base).collect();
    format!("{:.3} ({:.3} to {:.3})", quantile(&ratios, 0.5), quantile(&ratios, 0.25), quantile(&ratios, 0.75))
}

/// The nearest value at or below which the share `q` of the values lies.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (q * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
