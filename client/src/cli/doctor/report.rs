//! What was found, line by line: for people as it is found, for programs as one JSON array at the end.

use std::io::{IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::cli::CliError;

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
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        let is_colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_json, is_colored, checks: Vec::new(), faults: Vec::new() }
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
        let printable = |text: String| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
        let (finding, advice) = (printable(finding), advice.map(printable));
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
            // Whoever closed the pipe wants no more of it; the exit code still tells.
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
        self.checks.push(json!({ "check": check, "status": status.as_str(), "finding": finding, "advice": advice }));
    }

    pub(super) fn finish(self) -> Result<(), CliError> {
        if self.is_json {
            let _ = writeln!(std::io::stdout(), "{:#}", Value::from(self.checks));
        }
        let found = match self.faults.len() {
            1 => "there is 1 problem".to_owned(),
            n => format!("there are {n} problems"),
        };
        match self.faults.iter().min() {
            None => Ok(()),
            Some(Fault::Unavailable) => Err(CliError::Unavailable(found)),
            Some(Fault::NotPermitted) => Err(CliError::NotPermitted(found)),
            Some(Fault::Other) => Err(CliError::Other(found)),
        }
    }
}
