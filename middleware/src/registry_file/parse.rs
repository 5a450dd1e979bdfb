//! From a registry file's text to its entries.

use std::fmt;
use std::path::Path;

use ekm_otp::KeyId;
use serde::de::{DeserializeSeed, MapAccess, Visitor};

use super::entry::{Entry, FIELDS, Fields};
use super::pieces::pieces;
use crate::{MemoryStore, RegisterError};

/// How a registry file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// TOML.
    Toml,
    /// JSON (RFC 8259).
    Json,
}

impl Format {
    /// JSON where the name ends in `.json`, else TOML.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) { Self::Json } else { Self::Toml }
    }
}

/// Takes each entry as it is read: a million of them are not held twice. It must refuse a key id or a secret that it has already.
pub trait Intake: Default {
    /// Takes one. A text may be begun anew: then a new intake gets all its entries.
    ///
    /// # Errors
    /// When it is not usable: why. The file is read on, since what cannot be read in it is told before.
    fn take(&mut self, entry: Entry) -> Result<(), String>;
}

impl Intake for MemoryStore {
    fn take(&mut self, entry: Entry) -> Result<(), String> {
        let kid = entry.kid.clone();
        let taken = entry.into_key().map_or_else(|| self.retire(kid), |key| self.add(key));
        taken.map_err(|e: RegisterError| e.to_string())
    }
}

/// Reads a registry file's text. A byte order mark before it is no part of it.
///
/// # Errors
/// Where it is wrong and how. Never a part of the text.
pub fn parse<I: Intake>(text: &str, format: Format, weak_secrets: bool) -> Result<I, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if format == Format::Json {
        let mut reading = Reading::new(weak_secrets);
        let mut json = serde_json::Deserializer::from_str(text);
        let read = reading.deserialize(&mut json).and_then(|()| json.end());
        read.map_err(|e| format!("line {}: {}", e.line(), fault(&e.to_string(), None)))?;
        reading.finish()
    } else {
        in_pieces(text, weak_secrets).map_or_else(|| as_a_whole(text, weak_secrets), Ok)
    }
}

/// Reads TOML one table at a time. `None` where that does not work, be it for a fault or not: then the text as a whole tells.
fn in_pieces<I: Intake>(text: &str, weak_secrets: bool) -> Option<I> {
    let mut reading = Reading::new(weak_secrets);
    for piece in pieces(text) {
        reading.deserialize(toml::Deserializer::parse(piece).ok()?).ok()?;
        if reading.refused.is_some() {
            return None;
        }
    }
    reading.finish().ok()
}

fn as_a_whole<I: Intake>(text: &str, weak_secrets: bool) -> Result<I, String> {
    let mut reading = Reading::new(weak_secrets);
    toml::Deserializer::parse(text).and_then(|toml| reading.deserialize(toml)).map_err(|e| {
        let before = &text[..e.span().map_or(0, |span| span.start).min(text.len())];
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let header = text.lines().take(line).filter(|line| line.trim_start().starts_with('[')).last();
        format!("line {line}: {}", fault(e.message(), header))
    })?;
    reading.finish()
}

/// What is wrong, in words of our own: a parser's message can quote the file, secrets included. `header` is the table's first line.
fn fault(message: &str, header: Option<&str>) -> String {
    let name = header.map(|header| header.trim().trim_start_matches('[').split(']').next().unwrap_or_default());
    let is_quoted = name.is_some_and(|name| name.starts_with(['"', '\'']));
    let kid = name.and_then(|name| KeyId::new(name.trim_matches(['"', '\''])).ok());
    let entry = kid.as_ref().map_or_else(String::new, |kid| format!("{kid}: "));
    let field = |prefix: &str| message.split_once(prefix)?.1.split('`').next().filter(|name| FIELDS.contains(name));
    let what = if name.is_some_and(|name| !is_quoted && name.contains(['.', '@', ':', '/', '~', '+'])) {
        "a key id with any of . @ : / ~ + stands in quotes, [\"a.b\"]".to_owned()
    } else if message.contains("duplicate key") {
        "it stands twice".to_owned()
    } else if let Some(name) = field("missing field `") {
        format!("`{name}` is missing")
    } else if message.contains("unknown field") {
        format!("it has a field that is none: {} are", FIELDS.map(|name| format!("`{name}`")).join(", "))
    } else {
        "not understood: each key id has a table with `secret` (base64) and `client` (a name), if wanted `credential` (otp, jws or jwe: the weakest \
         that is taken), `profile` (v1 or go), `state`, `not_before`, `not_after` (such as 2027-01-31T12:00:00Z) and more, all in quotes, and \
         `server_names`, a list of such"
            .to_owned()
    };
    entry + &what
}

struct Reading<I> {
    intake: I,
    weak_secrets: bool,
    /// Why the first entry that is not usable is not.
    refused: Option<String>,
}

impl<I: Intake> Reading<I> {
    fn new(weak_secrets: bool) -> Self {
        Self { intake: I::default(), weak_secrets, refused: None }
    }

    fn finish(self) -> Result<I, String> {
        self.refused.map_or(Ok(self.intake), Err)
    }
}

impl<'de, I: Intake> DeserializeSeed<'de> for &mut Reading<I> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// Not into a map: a second entry of the same key id would replace the first.
impl<'de, I: Intake> Visitor<'de> for &mut Reading<I> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of key ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((kid, fields)) = map.next_entry::<String, Fields>()? {
            if self.refused.is_none() {
                self.refused = Entry::read(&kid, fields, self.weak_secrets).and_then(|entry| self.intake.take(entry)).err();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
