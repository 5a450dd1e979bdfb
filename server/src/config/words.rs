//! What is wrong with a configuration file's text, in words of whoever writes one. What may be a secret that was put into the wrong file is never shown.

use toml::de::{DeValue, Error};

use super::flags::unit;
use crate::settings::named;

/// A key, where it looks like one. Anything else may be what was meant to be a value.
pub(super) fn name(key: &str) -> String {
    let is_name = !key.is_empty() && key.len() <= 40 && key.chars().all(|c| c.is_ascii_lowercase() || "_-".contains(c));
    if is_name { format!("`{key}`") } else { "this".to_owned() }
}

/// Why a text is no TOML, without what it quotes.
pub(super) fn syntax(error: &Error, text: &str) -> String {
    let message = unquoted(error.message());
    if message.starts_with("duplicate key") {
        let key = error.span().and_then(|span| text.get(span)).map_or_else(|| "this".to_owned(), name);
        return format!("this is not TOML: duplicate key {key}: it stands in this table already");
    }
    let of_brackets = ["unclosed", "missing table", "missing array", "invalid inline table"];
    let advice = if message.starts_with("missing comma") {
        " (or a bracket above is not closed)"
    } else if of_brackets.iter().any(|begin| message.starts_with(begin)) {
        " (each bracket that is opened must be closed)"
    } else {
        " (texts stand in quotes, as in realm = \"api\")"
    };
    format!("this is not TOML: {message}{advice}")
}

/// What to write instead of a value that was understood and is of the wrong kind.
pub(super) fn value(key: &str, value: &DeValue<'_>, error: &Error) -> String {
    let shown = match value {
        DeValue::String(text) => named(text),
        DeValue::Integer(number) => format!("{number}: "),
        DeValue::Float(number) => format!("{number}: "),
        DeValue::Boolean(boolean) => format!("{boolean}: "),
        _ => String::new(),
    };
    let message = error.message();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (field, expected) = rest.split_once("`, expected ").unwrap_or((rest, ""));
        return format!("{} is no key of it: write {}", name(field), expected.trim_start_matches("one of ").trim_end());
    }
    let expected = message.rsplit_once(", expected ").map_or("", |(_, expected)| expected.trim_end());
    let expected = match (key, expected) {
        ("allow", _) => "a list of tables, such as allow = [{ client = \"alice.*\" }, { claims = { role = \"admin\" } }]".to_owned(),
        ("authorities", _) => "a table of lists, such as authorities = { \"api.example.com\" = [\"api.example.com:8443\"] }".to_owned(),
        (_, expected) if is_number(expected) => number(key, expected),
        (_, "a boolean") => "true or false, without quotes".to_owned(),
        // A name's spelling, too.
        (_, expected) if expected.contains('`') => expected.trim_start_matches("one of ").replace('`', "\""),
        (_, expected) if expected.contains("string") => "a text in quotes".to_owned(),
        ("tcp", "a sequence") => "[[tcp]] in a line of its own, and target = \"db.internal:5432\" below it".to_owned(),
        (_, "a sequence") => "a list of texts in quotes, in brackets".to_owned(),
        (_, "") => return format!("{shown}{}", unquoted(message)),
        (_, expected) => expected.to_owned(),
    };
    format!("{shown}write {expected}")
}

fn is_number(expected: &str) -> bool {
    ["u8", "u16", "u32", "u64", "usize", "i64"].iter().any(|kind| expected.ends_with(kind))
}

fn number(key: &str, expected: &str) -> String {
    let least = if expected.contains("nonzero") { " from 1 on" } else { "" };
    match unit(key).as_deref() {
        Some("SECONDS") => format!("seconds, a whole number{least} without quotes, such as 3600"),
        Some("BYTES") => format!("bytes, a whole number{least} without quotes, such as 65536"),
        _ => format!("a whole number{least} without quotes, such as 100"),
    }
}

/// A parser's message up to what it quotes.
fn unquoted(message: &str) -> &str {
    let begin = message.split(['"', '`']).next().unwrap_or_default().trim_end();
    begin.strip_suffix("expected").unwrap_or(begin).trim_end().trim_end_matches([',', ':'])
}
