//! Plain tables of medians and of ratios that were taken round by round.

use std::fmt::Write as _;

use crate::measure::Rounds;
use crate::mode::{Mode, Server};
use crate::quantile::quantile;

/// What one operation costs origins.
pub fn costs(operation: &str, rounds: &Rounds) -> String {
    let mtls = Mode::ALL.iter().position(|mode| mode.server == Server::BareMtls).unwrap_or(Mode::BARE);
    ratios(operation, ["/ bare (quartiles)", "/ bare, same bytes", "/ bare mtls"], rounds, |mode| [Mode::BARE, mode.same_bytes(), mtls])
}

/// What it costs proxies.
pub fn proxies(operation: &str, rounds: &Rounds) -> String {
    let bases = [Mode::BARE_PROXY, Mode::NGINX_PROXY, Mode::NGINX_PROXY_MTLS];
    ratios(operation, ["/ bare proxy (quartiles)", "/ nginx proxy", "/ nginx proxy mtls"], rounds, |_| bases)
}

fn ratios(operation: &str, titles: [&str; 3], rounds: &Rounds, bases: impl Fn(&Mode) -> [usize; 3]) -> String {
    let [first, second, third] = titles;
    let mut table = format!("{operation:<22}{:>9}{:>11}{first:>26}{second:>26}{third:>26}\n", "min µs", "median µs");
    for (mode, costs) in Mode::ALL.iter().zip(rounds).filter(|(_, costs)| !costs.is_empty()) {
        let (min, median) = (quantile(costs, 0.0), quantile(costs, 0.5));
        let [first, second, third] = bases(mode).map(|base| ratio(costs, &rounds[base]));
        line(&mut table, format_args!("  {:<20}{min:>9.2}{median:>11.2}{first:>26}{second:>26}{third:>26}", mode.name));
    }
    table + "\n"
}

/// The memory of one idle connection, and what of it is held when it has left.
pub fn memory([held, kept]: &[Rounds; 2], of_proxies: bool) -> String {
    let mut table =
        format!("{:<22}{:>9}{:>11}{:>24}{:>24}\n", "idle connection", "min KiB", "median KiB", "more than bare, KiB", "when all left, KiB");
    let bare = quantile(&held[if of_proxies { Mode::BARE_PROXY } else { Mode::BARE }], 0.5);
    for ((mode, sizes), kept) in Mode::ALL.iter().zip(held).zip(kept).filter(|((_, sizes), _)| !sizes.is_empty()) {
        let (min, median, kept) = (quantile(sizes, 0.0), quantile(sizes, 0.5), quantile(kept, 0.5));
        line(&mut table, format_args!("  {:<20}{min:>9.2}{median:>11.2}{:>+24.2}{kept:>24.2}", mode.name, median - bare));
    }
    table
}

fn line(table: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(table, "{line}");
}

/// The median of the rounds' ratios, and their quartiles.
fn ratio(costs: &[f64], base: &[f64]) -> String {
    let ratios: Vec<f64> = costs.iter().zip(base).map(|(cost, base)| cost / base).collect();
    format!("{:.3} ({:.3} to {:.3})", quantile(&ratios, 0.5), quantile(&ratios, 0.25), quantile(&ratios, 0.75))
}
