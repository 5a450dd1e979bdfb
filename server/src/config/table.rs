//! The configuration file as tables whose values know their lines. Parts take their keys out of them; what is left over is misspelt.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use ekm_otp_files::settings::{Lines, keys_of, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flags::{flag, is_only_a_flag};
use super::words;
use crate::settings::Settings;

/// Something that is wrong, and in which line of the file; without one it is a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: Option<usize>,
    pub(crate) what: String,
}

/// One table: the file's root, or a site's.
pub(super) struct Table<'t> {
    values: BTreeMap<String, (usize, Spanned<DeValue<'t>>)>,
    /// The line of each key, and those of its list's members.
    places: BTreeMap<String, (usize, Vec<usize>)>,
    line: usize,
    known: Vec<&'static str>,
}

/// The file: what stands at its top level, and its sites.
pub(super) struct Tables<'t> {
    pub(super) root: Table<'t>,
    pub(super) sites: Vec<Table<'t>>,
    pub(super) faults: Vec<Fault>,
    /// Where it is not, what was read is guessed in part.
    pub(super) is_toml: bool,
    pub(super) lines: Lines,
}

impl<'t> Tables<'t> {
    /// Reads what can be read. What is no TOML is among the faults.
    pub(super) fn parse(text: &'t str) -> Self {
        let lines = Lines::of(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        // What comes behind the first one mostly comes of it.
        let first = errors.iter().min_by_key(|e| e.span().map_or(0, |span| span.start));
        let mut faults: Vec<Fault> = first
            .iter()
            .map(|e| Fault { line: Some(lines.line(e.span().map_or(0, |span| span.start))), what: words::syntax(e, text) })
            .collect();
        let is_toml = errors.is_empty();
        let mut root = Table::new(root, &lines);
        let mut sites = Vec::new();
        // Read as what they are meant to be, so that what is in them is looked at.
        let meant =
            root.values.iter().find_map(|(key, (line, value))| is_meant_for_sites(key, value.get_ref()).then(|| (key.clone(), *line)));
        if let Some((key, line)) = &meant {
            faults.push(Fault { line: Some(*line), what: format!("unknown table {}: `[[site]]` is meant?", words::name(key)) });
        }
        let written = root.values.remove("site");
        let misspelt = meant.and_then(|(key, _)| root.values.remove(&key));
        if let Some((line, value)) = written.or(misspelt) {
            match value.into_inner() {
                DeValue::Array(members) if members.iter().all(|member| member.get_ref().is_table()) => {
                    for member in members {
                        let span = member.span();
                        if let DeValue::Table(table) = member.into_inner() {
                            sites.push(Table::new(Spanned::new(span, table), &lines));
                        }
                    }
                }
                DeValue::Table(_) => {
                    faults.push(Fault { line: Some(line), what: "sites are a list: write [[site]], with two brackets".into() })
                }
                _ => faults.push(Fault {
                    line: Some(line),
                    what: "site: write [[site]] in a line of its own, and the site's keys below it".into(),
                }),
            }
        }
        Self { root, sites, faults, is_toml, lines }
    }
}

fn is_meant_for_sites(key: &str, value: &DeValue<'_>) -> bool {
    let are_tables =
        matches!(value, DeValue::Array(members) if !members.is_empty() && members.iter().all(|member| member.get_ref().is_table()));
    are_tables && key != "site" && nearest(key, ["site"]).is_some()
}

impl<'t> Table<'t> {
    pub(super) fn empty() -> Self {
        Self { values: BTreeMap::new(), places: BTreeMap::new(), line: 0, known: Vec::new() }
    }

    fn new(table: Spanned<DeTable<'t>>, lines: &Lines) -> Self {
        let line = lines.line(table.span().start);
        let mut it = Self { line, ..Self::empty() };
        for (key, value) in table.into_inner() {
            let line = lines.line(key.span().start);
            let members = match value.get_ref() {
                DeValue::Array(members) => members.iter().map(|member| lines.line(member.span().start)).collect(),
                _ => Vec::new(),
            };
            let key = key.into_inner().into_owned();
            it.places.insert(key.clone(), (line, members));
            it.values.insert(key, (line, value));
        }
        it
    }

    /// Takes the keys of `T` out. What cannot be read is a fault, and left out.
    pub(super) fn take<T: Settings>(&mut self, folder: &Path, lines: &Lines, faults: &mut impl Extend<Fault>) -> T {
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
                    let line = e.span().filter(|span| *span != (0..0)).map_or(line, |span: Range<usize>| lines.line(span.start));
                    faults.extend([Fault { line: Some(line), what: format!("{key}: {}", words::value(key, value.get_ref(), &e)) }]);
                }
            }
        }
        let mut settings: T = read(whole).unwrap_or_default();
        settings.relative_to(folder);
        settings
    }

    /// What nobody took: misspelt, or of another place. `elsewhere` tells of keys that stand where they do not belong.
    pub(super) fn left_over(&mut self, elsewhere: impl Fn(&str) -> Option<String>, faults: &mut impl Extend<Fault>) {
        for (key, (line, value)) in std::mem::take(&mut self.values) {
            let what = elsewhere(&key).unwrap_or_else(|| {
                let shown = words::name(&key);
                if is_only_a_flag(&key) {
                    return format!("{shown} can only be given as the flag {}, where the server is started", flag(&key));
                }
                match nearest(&key, self.known.iter().copied()) {
                    Some(meant) => format!("unknown key {shown}: `{meant}` is meant?"),
                    None if value.get_ref().is_table() => {
                        format!("unknown table {shown}: what belongs into the registry stands in a file of its own (`registry`)")
                    }
                    None => format!("unknown key {shown}: take it out. There are {}", listed(&self.known)),
                }
            });
            faults.extend([Fault { line: Some(line), what }]);
        }
    }

    /// Gives it the keys of `other` that it has not.
    pub(super) fn inherit(&mut self, other: &Self, keys: &[&str]) {
        for (key, value) in other.values.iter().filter(|(key, _)| keys.contains(&key.as_str())) {
            if !self.places.contains_key(key) {
                self.values.insert(key.clone(), value.clone());
                self.places.insert(key.clone(), other.places.get(key).cloned().unwrap_or_default());
            }
        }
    }

    pub(super) fn remove(&mut self, keys: &[&str]) {
        self.values.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// Where a key stands or, where it does not, the table begins.
    pub(super) fn line_of(&self, key: &str, index: Option<usize>) -> usize {
        let Some((line, members)) = self.places.get(key) else { return self.line };
        index.and_then(|index| members.get(index)).copied().unwrap_or(*line)
    }

    /// The value of a key that is a text and has not been taken yet.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        Some(self.values.get(key)?.1.get_ref().as_str()?.to_owned())
    }

    pub(super) fn is_known(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    /// Whether the file said it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }
}

fn read<T: Settings>(table: DeTable<'_>) -> Result<T, toml::de::Error> {
    T::deserialize(toml::Deserializer::from(Spanned::new(0..0, table)))
}

fn listed(keys: &[&str]) -> String {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys.join(", ")
}
