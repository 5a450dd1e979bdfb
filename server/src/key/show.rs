//! `key list` and `key show`: a table for people, JSON for scripts. Never a secret.

use std::time::SystemTime;

use ekm_otp_tower::registry_file::{Entry, KeyState};
use serde_json::{Value, json};

use super::args::{List, Show};
use crate::error::ServerError;
use crate::output;
use crate::registry::{Records, instant};

pub(super) async fn list(records: &mut Records, list: &List) -> Result<(), ServerError> {
    let mut entries = records.list(false).await?;
    if !list.all {
        entries.retain(|entry| entry.state != KeyState::Removed);
    }
    if list.json {
        let shown: Vec<Value> = entries.iter().map(told).collect();
        return output::result(&format!("{}\n", Value::from(shown)));
    }
    let mut rows = vec![["KEY ID", "CLIENT", "STATE", "NOT AFTER", "LAST USE", "SUCCESSOR"].map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        [
            entry.kid.as_str().to_owned(),
            // What somebody called a client must not move the terminal's cursor.
            entry.client.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
            standing(entry).to_owned(),
            entry.not_after.map_or_else(|| "-".to_owned(), instant),
            entry.last_use.map_or_else(|| "-".to_owned(), instant),
            entry.successor.as_ref().map_or("-", |kid| kid.as_str()).to_owned(),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        table += cells.join("  ").trim_end();
        table.push('\n');
    }
    output::result(&table)
}

pub(super) async fn one(records: &mut Records, show: &Show) -> Result<(), ServerError> {
    let entry = records.find(&show.kid).await?;
    let told = told(&entry);
    if show.json {
        return output::result(&format!("{told}\n"));
    }
    let mut text = String::new();
    for (name, value) in told.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let value = match value {
            Value::String(value) => value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            value => value.to_string(),
        };
        text += &format!("{:14}{value}\n", name.replace('_', " "));
    }
    output::result(&text)
}

/// The state, or what the time makes of it.
fn standing(entry: &Entry) -> &'static str {
    let now = SystemTime::now();
    match entry.state {
        KeyState::Active if entry.is_awaited() && entry.enrol_by.is_some_and(|at| at < now) => "bundle expired",
        KeyState::Active if entry.not_after.is_some_and(|at| at < now) => "expired",
        KeyState::Active if entry.not_before.is_some_and(|at| at > now) => "not yet valid",
        KeyState::Active if entry.successor.is_some() => "in overlap",
        KeyState::Active if entry.is_awaited() => "bundle unused",
        state => state.as_str(),
    }
}

fn told(entry: &Entry) -> Value {
    let names: Vec<&str> = entry.server_names.iter().map(ekm_otp::ServerName::as_str).collect();
    json!({
        "kid": entry.kid.as_str(),
        "client": entry.client,
        "state": entry.state.as_str(),
        "standing": standing(entry),
        "credential": entry.minimum.as_str(),
        "profile": entry.profile.as_str(),
        "not_before": entry.not_before.map(instant),
        "not_after": entry.not_after.map(instant),
        "enrol_by": entry.enrol_by.map(instant),
        "enrolled": entry.enrolled.map(instant),
        "server_names": names,
        "successor": entry.successor.as_ref().map(|kid| kid.as_str()),
        "created": entry.created.map(instant),
        "last_use": entry.last_use.map(instant),
        "comment": entry.comment,
    })
}
