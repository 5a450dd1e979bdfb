//! What was found, line by line: for people as it is found, for programs as one JSON array at the end.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::output;
use crate::cli::shown::printable;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Warning,
    Problem(Fault),
}

/// What kind of problem, for the exit code. The first kind that was found counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The TPM or the server is not there.
    Unavailable,
    /// Not permitted, or not proven.
    NotPermitted,
    Other,
}

impl Fault {
    /// As other commands exit for this error; wrong usage is a problem like any other here.
    pub(super) fn of(error: &CliError) -> Self {
        match error.exit_code() {
            69 => Self::Unavailable,
            77 => Self::NotPermitted,
            _ => Self::Other,
        }
    }
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem(_) => "problem",
        }
    }

    /// SGR (ECMA-48, 8.3.117): green, yellow, red.
    fn color(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Warning => 33,
            Self::Problem(_) => 31,
        }
    }
}

pub(super) struct Report {
    is_json: bool,
    is_colored: bool,
    checks: Vec<Value>,
    faults: Vec<Fault>,
    /// Whose lines these are.
    profile: Option<String>,
    /// Whether the lines could be shown.
    output: Result<(), CliError>,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        let is_colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_json, is_colored, checks: Vec::new(), faults: Vec::new(), profile: None, output: Ok(()) }
    }

    /// What follows is of this profile.
    pub(super) fn begin(&mut self, profile: &str, title: &str) {
        self.profile = Some(profile.to_owned());
        if !self.is_json {
            self.show(format!("\nprofile {profile}: {}\n", printable(title)).as_bytes());
        }
    }

    pub(super) fn ok(&mut self, check: &'static str, finding: impl Into<String>) {
        self.add(check, Status::Ok, finding.into(), None);
    }

    pub(super) fn warning(&mut self, check: &'static str, finding: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Status::Warning, finding.into(), Some(advice.into()));
    }

    pub(super) fn problem(&mut self, check: &'static str, fault: Fault, finding: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Status::Problem(fault), finding.into(), Some(advice.into()));
    }

    fn add(&mut self, check: &'static str, status: Status, finding: String, advice: Option<String>) {
        // Some of it comes from a TPM or a server: nothing in it may steer a terminal.
        let (finding, advice) = (printable(&finding), advice.as_deref().map(printable));
        if let Status::Problem(fault) = status {
            self.faults.push(fault);
        }
        if !self.is_json {
            let word = format!("{:<7}", status.as_str());
            let word = if self.is_colored { format!("\x1b[{}m{word}\x1b[0m", status.color()) } else { word };
            let mut text = format!("{word}  {check:<12}  {finding}\n");
            if let Some(advice) = &advice {
                text += &format!("{:23}{advice}\n", "");
            }
            self.show(text.as_bytes());
        }
        let mut line = json!({ "check": check, "status": status.as_str(), "finding": finding, "advice": advice });
        if let Some(profile) = &self.profile {
            line["profile"] = json!(profile);
        }
        self.checks.push(line);
    }

    /// Whoever closed the pipe wants no more of it, and the exit code still tells. Anything else is an error where nothing worse is found.
    fn show(&mut self, text: &[u8]) {
        match output::result(text) {
            Ok(()) | Err(CliError::ClosedPipe) => {}
            Err(error) => self.output = Err(error),
        }
    }

    pub(super) fn finish(mut self) -> Result<(), CliError> {
        if self.is_json {
            let text = format!("{:#}\n", Value::from(std::mem::take(&mut self.checks)));
            self.show(text.as_bytes());
        }
        let found = match self.faults.len() {
            1 => "there is 1 problem".to_owned(),
            n => format!("there are {n} problems"),
        };
        match self.faults.iter().min() {
            None => self.output,
            Some(Fault::Unavailable) => Err(CliError::Unavailable(found)),
            Some(Fault::NotPermitted) => Err(CliError::NotPermitted(found)),
            Some(Fault::Other) => Err(CliError::Other(found)),
        }
    }
}
