//! What is wrong with a configuration, and where.

use std::path::{Path, PathBuf};

use super::flags::flag;
use super::table::{Fault, Table};
use crate::error::ServerError;
use crate::settings::Mistake;

/// All of them, in the order of the file's lines; those of flags come first.
#[derive(Debug)]
pub(crate) struct Faults {
    file: Option<PathBuf>,
    all: Vec<Fault>,
}

impl Faults {
    pub(super) fn of(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_owned), all: Vec::new() }
    }

    pub(super) fn add_flag(&mut self, what: String) {
        self.all.push(Fault { line: None, what });
    }

    pub(super) fn add_line(&mut self, line: usize, what: String) {
        self.all.push(Fault { line: Some(line), what });
    }

    /// A mistake of a value that came by `flag`, or else from `table`.
    pub(super) fn add(&mut self, mistake: Mistake, given: Option<String>, table: &Table<'_>) {
        let Mistake { key, index, what } = mistake;
        match (given, &self.file) {
            (Some(flag), _) => self.add_flag(format!("{flag}: {what}")),
            (None, None) => match what.strip_prefix("is missing") {
                Some(more) => self.add_flag(format!("{} is missing (or `{key}` in the configuration file){more}", flag(key))),
                None => self.add_flag(format!("{}: {what}", flag(key))),
            },
            (None, Some(_)) if what.starts_with("is missing") => self.add_line(table.line_of(key, index), format!("`{key}` {what}")),
            (None, Some(_)) => self.add_line(table.line_of(key, index), format!("{key}: {what}")),
        }
    }

    /// The file, and all that is wrong with it or, without a line, with flags.
    pub(crate) fn into_parts(self) -> (Option<PathBuf>, Vec<Fault>) {
        (self.file, self.all)
    }

    /// As they are told, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut all: Vec<&Fault> = self.all.iter().collect();
        all.sort_by_key(|fault| fault.line);
        all.dedup();
        all.into_iter().map(|fault| self.line(fault)).collect()
    }

    fn line(&self, fault: &Fault) -> String {
        match (&self.file, fault.line) {
            (Some(file), Some(line)) => format!("{}: line {line}: {}", file.display(), fault.what),
            _ => fault.what.clone(),
        }
    }

    pub(crate) fn into_result(self) -> Result<(), ServerError> {
        if self.all.is_empty() { Ok(()) } else { Err(ServerError::Config(self.lines().join("\n"))) }
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        self.all.extend(faults);
    }
}
