//! Plain tables of medians and of ratios that were taken round by round.

use std::fmt::Write as _;

use crate::measure::{Costs, Rounds};
use crate::pair::Pair;
use crate::quantile::quantile;

/// Where what the others are compared with stands in [`Pair::ALL`].
const DIRECT: usize = 0;
const FORWARDERS: usize = 1;
const STUNNEL: usize = 2;

/// All tables.
pub fn of(costs: &Costs) -> String {
    let mut text = String::new();
    for (title, rounds) in [
        ("a request's time, µs, median", &costs.request[0]),
        ("a request's time, µs, p99", &costs.request[1]),
        ("new connection and request, µs, median", &costs.connection[0]),
        ("new connection and request, µs, p99", &costs.connection[1]),
    ] {
        table(&mut text, title, rounds, true);
    }
    for (title, rounds) in [
        ("CPU of both ends, a request, µs", &costs.cpu[0]),
        ("CPU of both ends, a new connection, µs", &costs.cpu[1]),
        ("CPU of both ends, a GiB down, s", &costs.cpu_per_gib[0]),
        ("CPU of both ends, a GiB up, s", &costs.cpu_per_gib[1]),
        ("MiB in a second, down", &costs.speed[0]),
        ("MiB in a second, up", &costs.speed[1]),
        ("most memory of the server's end, MiB", &costs.peak[0]),
        ("most memory of the client's end, MiB", &costs.peak[1]),
    ] {
        table(&mut text, title, rounds, false);
    }
    text
}

/// With `is_added`, ratios are those of what was added to the way without a pair.
fn table(text: &mut String, title: &str, rounds: &Rounds, is_added: bool) {
    let of = if is_added { "added, of" } else { "of" };
    let (first, second) = (format!("{of} mutual TLS"), format!("{of} stunnel"));
    line(text, format_args!("{title:<42}{:>10}{:>10}{first:>28}{second:>28}", "median", if is_added { "added" } else { "" }));
    let added: Vec<Vec<f64>> = rounds
        .iter()
        .map(|costs| if is_added { costs.iter().zip(&rounds[DIRECT]).map(|(cost, direct)| cost - direct).collect() } else { costs.clone() })
        .collect();
    for (place, pair) in Pair::ALL.iter().enumerate().filter(|(place, _)| !rounds[*place].is_empty()) {
        let median = quantile(&rounds[place], 0.5);
        let (own, ratios) = if place == DIRECT {
            (String::new(), [String::new(), String::new()])
        } else {
            let own = if is_added { format!("{:.1}", quantile(&added[place], 0.5)) } else { String::new() };
            (own, [FORWARDERS, STUNNEL].map(|base| ratio(&added[place], &added[base])))
        };
        line(text, format_args!("  {:<40}{median:>10.2}{own:>10}{:>28}{:>28}", pair.name(), ratios[0], ratios[1]));
    }
    text.push('\n');
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// The median of the rounds' ratios, and their quartiles.
fn ratio(costs: &[f64], base: &[f64]) -> String {
    let ratios: Vec<f64> = costs.iter().zip(base).map(|(cost, base)| cost / base).collect();
    if ratios.is_empty() {
        return String::new();
    }
    format!("{:.3} ({:.3} to {:.3})", quantile(&ratios, 0.5), quantile(&ratios, 0.25), quantile(&ratios, 0.75))
}
