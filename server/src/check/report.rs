//! What was found, for people and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::Faults;
use crate::error::ServerError;

/// Something that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Of the configuration file; 0 where it is of none.
    #[serde(skip_serializing_if = "is_none")]
    line: usize,
    message: String,
    #[serde(skip)]
    severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// With the exit code.
    Error(u8),
    Warning,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(line: &usize) -> bool {
    *line == 0
}

impl Finding {
    pub(super) fn error(line: usize, message: String) -> Self {
        Self { line, message, severity: Severity::Error(64) }
    }

    pub(super) fn warning(line: usize, message: String) -> Self {
        Self { line, message, severity: Severity::Warning }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct SiteReport {
    pub(super) server_names: Vec<String>,
    pub(super) certificate: String,
    pub(super) expires: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Registry {
    pub(super) engine: &'static str,
    pub(super) keys: usize,
    pub(super) in_overlap: usize,
    pub(super) unreadable: usize,
}

#[derive(Debug, Default)]
pub(super) struct Report {
    file: Option<PathBuf>,
    findings: Vec<Finding>,
    pub(super) listen: Vec<String>,
    pub(super) sites: Vec<SiteReport>,
    pub(super) registry: Option<Registry>,
}

impl Report {
    pub(super) fn new(faults: Faults) -> Self {
        let (file, faults) = faults.into_parts();
        let findings = faults.into_iter().map(|fault| Finding::error(fault.line.unwrap_or(0), fault.what)).collect();
        Self { file, findings, ..Self::default() }
    }

    /// Of a configuration that cannot be read at all.
    pub(super) fn of(error: ServerError) -> Self {
        let mut report = Self::default();
        report.add_error(0, error);
        report
    }

    pub(super) fn add(&mut self, finding: Finding) {
        // Sites that share a certificate share what is wrong with it.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    pub(super) fn add_error(&mut self, line: usize, error: ServerError) {
        let severity = Severity::Error(error.exit_code());
        self.add(Finding { line, message: error.to_string(), severity });
    }

    fn sorted(&self, is_error: bool) -> Vec<&Finding> {
        let of_kind = self.findings.iter().filter(|finding| matches!(finding.severity, Severity::Error(_)) == is_error);
        let mut sorted: Vec<_> = of_kind.collect();
        sorted.sort_by_key(|finding| finding.line);
        sorted
    }

    /// What the operator can mend in the configuration comes first.
    pub(super) fn exit_code(&self) -> u8 {
        let codes: Vec<u8> = self
            .findings
            .iter()
            .filter_map(|finding| if let Severity::Error(code) = finding.severity { Some(code) } else { None })
            .collect();
        [64, 77, 69, 1].into_iter().find(|code| codes.contains(code)).unwrap_or(0)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let file = self.file.as_ref().map(|file| file.display().to_string());
        for (is_error, word) in [(true, "error"), (false, "warning")] {
            for Finding { line, message, .. } in self.sorted(is_error) {
                let at = match &file {
                    Some(file) if *line > 0 => format!("{file}: line {line}: "),
                    _ => String::new(),
                };
                let _ = writeln!(text, "{word}: {at}{message}");
            }
        }
        for SiteReport { server_names, certificate, expires } in &self.sites {
            let expires = expires.as_ref().map_or_else(String::new, |expires| format!(", expires {expires}"));
            let _ = writeln!(text, "site {}: certificate {certificate}{expires}", server_names.join(", "));
        }
        if let Some(Registry { engine, keys, in_overlap, .. }) = &self.registry {
            let _ = writeln!(text, "registry ({engine}): {keys} keys, {in_overlap} of them with a successor");
        }
        if !self.listen.is_empty() {
            let _ = writeln!(text, "listen {}", self.listen.join(", "));
        }
        let (errors, warnings) = (self.sorted(true).len(), self.sorted(false).len());
        let _ = match errors {
            0 => writeln!(text, "The server would start with this ({warnings} warnings)."),
            _ => writeln!(text, "The server would not start with this: {errors} errors, {warnings} warnings."),
        };
        text
    }

    pub(super) fn json(&self) -> String {
        let report = serde_json::json!({
            "ok": self.exit_code() == 0,
            "file": self.file,
            "errors": self.sorted(true),
            "warnings": self.sorted(false),
            "listen": self.listen,
            "sites": self.sites,
            "registry": self.registry,
        });
        format!("{report:#}\n")
    }
}
