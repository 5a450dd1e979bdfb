//! A TOML file as tables whose values know their lines. Parts take their keys out of them; what is left over is misspelt. All that is wrong is
//! told at once. No value is shown: it may be a secret that was put into the wrong file.

use std::collections::BTreeMap;
use std::path::Path;

use ekm_otp_files::settings::{Lines, keys_of, nearest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use crate::cli::error::CliError;
use crate::cli::shown::shown;

/// All that is wrong with a file, each with its line.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(usize, String)>);

impl Faults {
    /// What is wrong in this line, and what to write instead.
    pub(crate) fn add(&mut self, line: usize, what: impl Into<String>) {
        self.0.push((line, what.into()));
    }

    /// In the order of the file's lines, a line each.
    pub(crate) fn into_result(mut self, path: &Path) -> Result<(), CliError> {
        self.0.sort();
        let told: Vec<String> = self.0.iter().map(|(line, what)| format!("{}: line {line}: {what}", shown(path))).collect();
        if told.is_empty() { Ok(()) } else { Err(CliError::Usage(told.join("\n"))) }
    }
}

/// One table. What is taken out of it is known; the rest is told of at the end.
pub(crate) struct Table<'t> {
    values: BTreeMap<String, (usize, Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
    /// The line that it begins in.
    pub(crate) line: usize,
    lines: Lines,
}

impl<'t> Table<'t> {
    /// The file's root.
    ///
    /// # Errors
    /// Where it is no TOML, in which line.
    pub(crate) fn parse(text: &'t str, path: &Path) -> Result<Self, CliError> {
        let lines = Lines::of(text);
        let root = DeTable::parse(text).map_err(|e| {
            let line = lines.line(e.span().map_or(0, |span| span.start));
            let why = unquoted(e.message());
            CliError::Usage(format!(
                "{}: line {line}: this is not TOML: {why} (texts stand in quotes, and each bracket is closed)",
                shown(path)
            ))
        })?;
        Ok(Self::new(root, &lines))
    }

    fn new(table: Spanned<DeTable<'t>>, lines: &Lines) -> Self {
        let line = lines.line(table.span().start);
        let values = table.into_inner().into_iter().map(|(key, value)| {
            let line = lines.line(key.span().start);
            (key.into_inner().into_owned(), (line, value))
        });
        Self { values: values.collect(), known: Vec::new(), line, lines: lines.clone() }
    }

    /// The keys that were not taken yet, as they are written, with their lines.
    pub(crate) fn written(&self) -> BTreeMap<String, (usize, String)> {
        let written = |value: &Spanned<DeValue<'t>>| toml::Value::deserialize(toml::de::ValueDeserializer::from(value.clone()));
        let text = |value: &Spanned<DeValue<'t>>| written(value).map_or_else(|_| String::new(), |value| value.to_string());
        self.values.iter().map(|(key, (line, value))| (key.clone(), (*line, text(value)))).collect()
    }

    /// Takes a table of tables out: `[key.NAME]`.
    pub(crate) fn take_tables(&mut self, key: &'static str, faults: &mut Faults) -> Vec<(String, Self)> {
        self.known.push(key);
        let Some((line, value)) = self.values.remove(key) else { return Vec::new() };
        let span = value.span();
        let DeValue::Table(tables) = value.into_inner() else {
            faults.add(line, format!("{key}: write [{key}.NAME] in a line of its own, and its keys below it"));
            return Vec::new();
        };
        let tables = Self::new(Spanned::new(span, tables), &self.lines);
        let mut taken = Vec::new();
        for (name, (line, value)) in tables.values {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) => {
                    taken.push((name, Self { line, ..Self::new(Spanned::new(span, table), &self.lines) }));
                }
                _ => faults.add(line, format!("a key stands in [{key}] itself: give it a name, [{key}.NAME]")),
            }
        }
        taken
    }

    /// Takes a list of tables out: `[[key]]`, or `key = [{ … }]`.
    pub(crate) fn take_list(&mut self, key: &'static str, faults: &mut Faults) -> Vec<Self> {
        self.known.push(key);
        let Some((line, value)) = self.values.remove(key) else { return Vec::new() };
        let members = match value.into_inner() {
            DeValue::Array(members) if !members.is_empty() => members,
            _ => {
                faults.add(line, format!("{key}: write a list of tables, such as {key} = [{{ … }}, {{ … }}]"));
                return Vec::new();
            }
        };
        let mut taken = Vec::new();
        for member in members {
            let span = member.span();
            match member.into_inner() {
                DeValue::Table(table) => taken.push(Self::new(Spanned::new(span, table), &self.lines)),
                _ => faults.add(self.lines.line(span.start), format!("{key}: each member is a table, {{ … }}")),
            }
        }
        taken
    }

    /// Takes the keys of `T` out. What cannot be read is a fault, and left out.
    pub(crate) fn take<T: Default + DeserializeOwned>(&mut self, faults: &mut Faults) -> T {
        let mut whole = DeTable::new();
        for key in keys_of::<T>() {
            self.known.push(key);
            let Some((line, value)) = self.values.remove(*key) else { continue };
            let entry = || (Spanned::new(0..0, (*key).into()), value.clone());
            // Each key by itself first, so that one that is wrong does not hide the next one that is.
            match read::<T>([entry()].into_iter().collect()) {
                Ok(_) => {
                    let (key, value) = entry();
                    whole.insert(key, value);
                }
                Err(e) => {
                    let line = e.span().filter(|span| *span != (0..0)).map_or(line, |span| self.lines.line(span.start));
                    faults.add(line, format!("{key}: {}", kind_of(&e)));
                }
            }
        }
        read(whole).unwrap_or_default()
    }

    /// What nobody took: misspelt, or of another place. `elsewhere` tells of keys that stand where they do not belong.
    pub(crate) fn left_over(self, elsewhere: impl Fn(&str) -> Option<String>, faults: &mut Faults) {
        for (key, (line, _)) in self.values {
            let is_name = !key.is_empty() && key.len() <= 40 && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            let name = if is_name { format!("`{key}`") } else { "this".to_owned() };
            let what = elsewhere(&key).unwrap_or_else(|| match nearest(&key, self.known.iter().copied()) {
                Some(meant) => format!("unknown key {name}: `{meant}` is meant?"),
                None => format!("unknown key {name}: take it out. There are {}", self.known.join(", ")),
            });
            faults.add(line, what);
        }
    }
}

fn read<T: DeserializeOwned>(table: DeTable<'_>) -> Result<T, Error> {
    T::deserialize(toml::Deserializer::from(Spanned::new(0..0, table)))
}

/// What to write instead of a value of the wrong kind, without what stands there.
fn kind_of(error: &Error) -> String {
    let message = error.message();
    match message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((_, "a boolean")) => "write true or false, without quotes".to_owned(),
        Some((_, expected)) if expected.contains("string") => "write a text in quotes".to_owned(),
        Some((_, expected)) => format!("write {expected}"),
        None => message.to_owned(),
    }
}

/// A parser's message up to what it quotes.
fn unquoted(message: &str) -> &str {
    message.split(['"', '`']).next().unwrap_or_default().trim_end().trim_end_matches("expected").trim_end_matches([' ', ',', ':'])
}
