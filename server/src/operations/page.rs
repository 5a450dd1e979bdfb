//! `/status`: one page for a person. All that is not written here is escaped: clients' names are whatever somebody typed.

use std::fmt::{self, Display, Write as _};
use std::time::{Duration, SystemTime};

use super::chart::Bars;
use super::metrics::shards::Distribution;
use super::snapshot::{SiteNumbers, Snapshot};
use super::sources::Health;
use super::status::timestamp;

/// Text, whatever it holds, as HTML's text or as a quoted attribute's value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Neither lines nor the direction of the rest are a name's to change.
            c if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                f.write_char('\u{fffd}')
            }
            c => f.write_char(c),
        })
    }
}

/// The whole page.
pub(crate) fn html(snapshot: &Snapshot) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut page, snapshot);
    page
}

fn write(page: &mut String, it: &Snapshot) -> fmt::Result {
    page.push_str(HEAD);
    let ready = if it.is_ready() { r#"<span class="good">ready</span>"# } else { r#"<span class="bad">not ready</span>"# };
    write!(
        page,
        "<header><h1>EKM-OTP server {ready}</h1><p>Version {}, up for {}, as of <time>{} UTC</time>. ",
        env!("CARGO_PKG_VERSION"),
        ago(it.at, it.started),
        moment(it.at)
    )?;
    page.push_str(r#"The same as <a href="/status.json">JSON</a>; <a href="/metrics">metrics</a>.</p></header><main>"#);
    tiles(page, it)?;
    checks(page, it)?;
    reasons(page, it)?;
    refusals(page, it)?;
    sites(page, it)?;
    clients(page, it)?;
    certificates(page, it)?;
    keys(page, it)?;
    upstreams(page, it)?;
    tunnels(page, it)?;
    connections(page, it)?;
    page.push_str("</main></body></html>\n");
    Ok(())
}

fn tiles(page: &mut String, it: &Snapshot) -> fmt::Result {
    let refused: u64 = it.refused_in_last_hour.iter().sum();
    let requests: u64 = it.sites.iter().map(SiteNumbers::requests).sum();
    let memory = it.process.resident_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let open = it.open.verified + it.open.unverified + it.open.handshaking;
    let tiles = [
        (
            grouped(open as u64),
            "connections open",
            format!("{} verified, {} not, {} in their handshake", it.open.verified, it.open.unverified, it.open.handshaking),
        ),
        (grouped(requests), "requests let in", "since the start".to_owned()),
        (grouped(refused), "requests refused", "in the last hour".to_owned()),
        (
            memory,
            "of memory",
            it.process
                .open_files
                .zip(it.process.max_files)
                .map_or_else(String::new, |(open, max)| format!("{} of {} files open", grouped(open), grouped(max))),
        ),
    ];
    page.push_str(r#"<ul class="tiles">"#);
    for (value, what, more) in tiles {
        write!(page, "<li><strong>{value}</strong> {what}<small>{more}</small></li>")?;
    }
    page.push_str("</ul>");
    Ok(())
}

/// A table, with its heading, in a section of this width.
fn table<const N: usize>(
    page: &mut String,
    section: &str,
    heading: &str,
    columns: [&str; N],
    none: &str,
    rows: impl IntoIterator<Item = [Cell; N]>,
) -> fmt::Result {
    write!(page, "{section}<h2>{heading}</h2>")?;
    rows_of(page, heading, columns, none, rows)?;
    page.push_str("</section>");
    Ok(())
}

fn rows_of<const N: usize>(
    page: &mut String,
    caption: &str,
    columns: [&str; N],
    none: &str,
    rows: impl IntoIterator<Item = [Cell; N]>,
) -> fmt::Result {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return write!(page, "<p>{none}</p>");
    }
    write!(page, r#"<div class="wide"><table><caption class="hidden">{caption}</caption><thead><tr>"#)?;
    columns.iter().try_for_each(|column| write!(page, r#"<th scope="col">{column}</th>"#))?;
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.into_iter().enumerate() {
            let (open, close) = if at == 0 { (r#"th scope="row""#, "th") } else { ("td", "td") };
            match cell {
                Cell::Text(text) => write!(page, "<{open}>{}</{close}>", Escaped(&text))?,
                Cell::Number(text) => write!(page, r#"<{open} class="number">{}</{close}>"#, Escaped(&text))?,
                Cell::State(is_good, text) => {
                    write!(page, r#"<{open}><span class="{}">{}</span></{close}>"#, if is_good { "good" } else { "bad" }, Escaped(&text))?
                }
            }
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
    Ok(())
}

/// Beside another one, where there is room, and over the whole width.
const SECTION: &str = "<section>";
const WIDE: &str = r#"<section class="full">"#;

/// What stands in a table.
enum Cell {
    Text(String),
    Number(String),
    State(bool, String),
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn number(count: u64) -> Cell {
    Cell::Number(grouped(count))
}

fn checks(page: &mut String, it: &Snapshot) -> fmt::Result {
    let rows = it.checks.iter().map(|check| [text(check.name), Cell::State(check.is_ok, check.word().to_lowercase()), text(&check.found)]);
    table(page, SECTION, "Readiness", ["Check", "State", "Found"], "", rows)
}

fn refusals(page: &mut String, it: &Snapshot) -> fmt::Result {
    let hour = &it.refused_in_last_hour;
    let (total, most) = (hour.iter().sum::<u64>(), hour.iter().max().copied().unwrap_or_default());
    let description =
        format!("{total} requests were refused in the last 60 minutes, {most} in the busiest one. The table below holds the same numbers.");
    let chart = Bars { title: "Requests refused per minute", description: &description, values: hour, ends: ["60 minutes ago", "now"] };
    write!(page, "{WIDE}<h2>Refused in the last hour</h2>{chart}<details><summary>By the minute</summary>")?;
    let last = hour.len().saturating_sub(1);
    let rows = hour.iter().enumerate().rev().filter(|(_, count)| **count > 0).map(|(at, count)| {
        [text(if at == last { "this minute".to_owned() } else { format!("{} minutes ago", last - at) }), number(*count)]
    });
    rows_of(page, "Requests refused per minute", ["Minute", "Refused"], "None.", rows)?;
    page.push_str("</details>");
    page.push_str("</section>");
    Ok(())
}

fn reasons(page: &mut String, it: &Snapshot) -> fmt::Result {
    let mut by_reason: Vec<_> = it.refusals.iter().collect();
    by_reason.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows = by_reason.into_iter().map(|(reason, count)| [text(*reason), number(*count)]);
    table(page, SECTION, "Refused since the start", ["Reason", "Requests"], "None.", rows)
}

fn sites(page: &mut String, it: &Snapshot) -> fmt::Result {
    let rows = it.sites.iter().map(|site| {
        let [none, other @ .., client_errors, server_errors] = site.by_class;
        let name = if site.name.is_empty() { "(no site)" } else { &site.name };
        [
            text(name),
            number(other.iter().sum()),
            number(client_errors),
            number(server_errors),
            number(none),
            mean(&site.head),
            at_most(&site.head),
            Cell::Number(bytes(site.bytes_in)),
            Cell::Number(bytes(site.bytes_out)),
        ]
    });
    table(
        page,
        WIDE,
        "Sites",
        ["Site", "Answered", "4xx", "5xx", "No answer", "To the head, mean", "99 % at most", "In", "Out"],
        "No request was let in yet.",
        rows,
    )
}

fn clients(page: &mut String, it: &Snapshot) -> fmt::Result {
    const SHOWN: usize = 20;
    let beyond: u64 = it.clients.iter().skip(SHOWN).map(|(_, requests)| requests).sum::<u64>() + it.requests_of_other_clients;
    let rows = it.clients.iter().take(SHOWN).map(|(client, requests)| [text(&**client), number(*requests)]);
    let others = (beyond > 0).then(|| [text("all others"), number(beyond)]);
    table(page, SECTION, "Clients, the busiest first", ["Client", "Requests"], "No client was verified yet.", rows.chain(others))
}

fn keys(page: &mut String, it: &Snapshot) -> fmt::Result {
    let registry = &it.registry;
    let age = registry.age.as_secs();
    write!(
        page,
        "{WIDE}<h2>Keys in overlap</h2><p>Registry: {}, {} keys, as it was {age} s ago.",
        registry.engine,
        grouped(registry.keys)
    )?;
    if registry.unreadable > 0 {
        write!(page, r#" <span class="bad">{} more cannot be read, and are refused</span>."#, grouped(registry.unreadable))?;
    }
    if !registry.is_up() {
        let fault = registry.fault.as_deref().unwrap_or("nobody has looked at it for too long");
        write!(page, r#" <span class="bad">It cannot be read now</span>: {}."#, Escaped(fault))?;
    }
    page.push_str("</p>");
    let rows = registry.overlap.iter().map(|key| {
        let when = |time: Option<SystemTime>, never: &str| Cell::Number(time.map_or_else(|| never.to_owned(), moment));
        [text(&key.kid), text(&key.client), when(key.not_after, "for ever"), when(key.last_used, "never seen")]
    });
    rows_of(page, "Keys in overlap", ["Old key id", "Client", "Holds until", "Last used"], "No key that was rotated still holds.", rows)?;
    page.push_str("</section>");
    Ok(())
}

fn certificates(page: &mut String, it: &Snapshot) -> fmt::Result {
    let certificates = it.certificates.iter().map(|certificate| {
        let is_valid = certificate.is_valid_at(it.at);
        let left = if is_valid { format!("{} left", ago(certificate.not_after, it.at)) } else { "not valid".to_owned() };
        [text(&certificate.site), Cell::Number(moment(certificate.not_after)), Cell::State(is_valid, left)]
    });
    table(page, SECTION, "Certificates", ["Site", "Expires", "State"], "There is none.", certificates)
}

fn upstreams(page: &mut String, it: &Snapshot) -> fmt::Result {
    let rows = it.upstreams.iter().map(|upstream| {
        let state = Cell::State(upstream.health != Health::Down, upstream.health.as_str().to_owned());
        [text(&upstream.address), text(&upstream.site), state, number(upstream.requests), number(upstream.failures)]
    });
    table(page, WIDE, "Upstreams", ["Upstream", "Site", "State", "Requests", "Failures"], "There is none: the demo origin answers.", rows)
}

fn tunnels(page: &mut String, it: &Snapshot) -> fmt::Result {
    if it.tunnels.is_empty() {
        return Ok(());
    }
    let rows = it.tunnels.iter().map(|tunnels| {
        [
            text(&tunnels.target),
            text(&tunnels.site),
            number(tunnels.open),
            number(tunnels.opened),
            number(tunnels.failed),
            Cell::Number(bytes(tunnels.to_target)),
            Cell::Number(bytes(tunnels.from_target)),
        ]
    });
    table(page, WIDE, "TCP tunnels", ["Target", "Site", "Open", "Opened", "Failed", "To it", "From it"], "", rows)
}

fn connections(page: &mut String, it: &Snapshot) -> fmt::Result {
    let failed = it.handshakes_failed.iter().map(|(why, count)| [text(format!("handshake failed: {why}")), number(*count)]);
    let closed = it.closed.iter().map(|(why, count)| [text(format!("closed: {why}")), number(*count)]);
    let opened = [[text("opened"), number(it.opened)]];
    table(page, SECTION, "Connections since the start", ["What", "Connections"], "", opened.into_iter().chain(failed).chain(closed))?;
    let lost = it.logs.iter().filter(|(_, lost)| lost.no_room + lost.not_written > 0);
    let lost = lost.map(|(log, lost)| [text(*log), number(lost.no_room), number(lost.not_written)]);
    table(page, SECTION, "Log lines lost", ["Log", "No room", "Not written"], "None.", lost)
}

fn mean(times: &Distribution) -> Cell {
    Cell::Number(times.mean().map_or_else(|| "–".to_owned(), duration))
}

fn at_most(times: &Distribution) -> Cell {
    Cell::Number(times.at_most(0.99).map_or_else(|| "–".to_owned(), duration))
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// `2026-11-26 23:59`, in UTC.
fn moment(time: SystemTime) -> String {
    timestamp(time).replacen('T', " ", 1).chars().take("2026-11-26 23:59".len()).collect()
}

/// From one time to a later one, in the largest units.
fn ago(later: SystemTime, earlier: SystemTime) -> String {
    let seconds = later.duration_since(earlier).unwrap_or(Duration::ZERO).as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) if days < 10 => format!("{days} d {hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

/// With thin spaces between thousands.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = units.len().min(1 + usize::try_from(count.checked_ilog2().unwrap_or(0) / 10).unwrap_or(0)) - 1;
    let (whole, rest) = (count >> (10 * at), if at == 0 { 0 } else { (count >> (10 * (at - 1))) % 1024 * 10 / 1024 });
    if at == 0 || whole >= 100 { format!("{whole} {}", units[at]) } else { format!("{whole}.{rest} {}", units[at]) }
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>EKM-OTP server: status</title><link rel="stylesheet" href="/status.css"></head><body>"#;

/// `/status.css`
pub(crate) const STYLE: &str = include_str!("status.css");
