//! The firmware's event log: where it is, and which of its events made a register what it is.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ekm_otp_attestation::event_log::{Event, EventLog};
use ekm_otp_attestation::tpm::Hash;
use ekm_otp_tpm::{PcrBank, Tcti};

use crate::cli::error::CliError;
use crate::cli::output::note;
use crate::cli::shown::{printable, shown};

/// Logs beyond this are told as new as a whole rather than compared event by event.
const MAX_COMPARED: usize = 2000;

/// A log that was named.
pub(super) fn read(path: &Path) -> Result<EventLog, CliError> {
    let file = File::open(path).map_err(|e| CliError::io("open", path, &e))?;
    let mut bytes = Vec::new();
    file.take(EventLog::MAX_LEN as u64 + 1).read_to_end(&mut bytes).map_err(|e| CliError::io("read", path, &e))?;
    EventLog::parse(&bytes).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))
}

/// The log of this machine, where the TPM is this machine's and who asks may read it.
pub(super) fn of_machine(tcti: &Tcti) -> Option<EventLog> {
    let path = path_for(&tcti.to_string())?;
    match read(&path) {
        Ok(log) => Some(log),
        Err(CliError::Unavailable(_)) if !path.exists() => {
            note!("there is no event log of the firmware's here ({}): which event it was cannot be told", path.display());
            None
        }
        Err(e) => {
            note!("the firmware's event log cannot be used, so which event it was cannot be told: {e}");
            None
        }
    }
}

/// `device:/dev/tpmrm0` → the log of tpm0. Another TPM's registers have nothing to do with this machine's log.
fn path_for(tcti: &str) -> Option<PathBuf> {
    let name = tcti.strip_prefix("device:/dev/tpm")?;
    let number = name.strip_prefix("rm").unwrap_or(name).parse::<u8>().ok()?;
    Some(format!("/sys/kernel/security/tpm{number}/binary_bios_measurements").into())
}

/// A bank, as the log's reader knows it.
pub(super) fn hash_of(bank: PcrBank) -> Option<Hash> {
    bank.to_string().parse().ok()
}

/// Whether the log leads to a value that a register has.
pub(super) fn leads_to(log: &EventLog, bank: Hash, register: u8, value: &[u8]) -> bool {
    log.values(bank, register).last().is_some_and(|last| last == value)
}

/// What tells the events that made `now` from those that made `saved`, line by line.
pub(super) fn differences(bank: Hash, register: u8, saved: (&[u8], Option<&EventLog>), now: (&[u8], &EventLog)) -> Vec<String> {
    let events: Vec<&Event> = now.1.measured(bank, register).collect();
    let mut lines = Vec::new();
    if !leads_to(now.1, bank, register, now.0) {
        lines.push(
            "the log does not lead to this value: something was measured that does not stand in it, or it is another machine's".to_owned(),
        );
    }
    if let Some(log) = saved.1.filter(|log| leads_to(log, bank, register, saved.0)) {
        let before: Vec<&Event> = log.measured(bank, register).collect();
        lines.extend(compared(bank, &before, &events));
        return lines;
    }
    if saved.1.is_some() {
        lines.push("the saved log does not lead to the saved value: it is not compared".to_owned());
    }
    match now.1.values(bank, register).iter().position(|value| value == saved.0) {
        Some(at) => lines.extend(events.iter().skip(at).map(|event| format!("measured since: {}", told(event)))),
        None => lines.extend(events.iter().map(|event| format!("measured now: {}", told(event)))),
    }
    lines
}

/// What stands in one list and not in the other, in order: the longest common subsequence of their digests is left out.
fn compared(bank: Hash, before: &[&Event], after: &[&Event]) -> Vec<String> {
    let is_same = |a: &Event, b: &Event| a.digests.get(&bank) == b.digests.get(&bank);
    if before.len() > MAX_COMPARED || after.len() > MAX_COMPARED {
        return after.iter().map(|event| format!("measured now: {}", told(event))).collect();
    }
    // lengths[i][j]: of what before[i..] and after[j..] have in common.
    let mut lengths = vec![vec![0_u16; after.len() + 1]; before.len() + 1];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            lengths[i][j] = if is_same(before[i], after[j]) { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && is_same(before[i], after[j]) {
            (i, j) = (i + 1, j + 1);
        } else if j >= after.len() || i < before.len() && lengths[i + 1][j] >= lengths[i][j + 1] {
            lines.push(format!("no longer: {}", told(before[i])));
            i += 1;
        } else {
            lines.push(format!("now:       {}", told(after[j])));
            j += 1;
        }
    }
    lines
}

fn told(event: &Event) -> String {
    printable(&event.in_words())
}

#[cfg(test)]
mod tests {
    use super::path_for;

    #[test]
    fn only_this_machines_tpm_has_this_machines_log() {
        for (tcti, path) in [
            ("device:/dev/tpmrm0", Some("/sys/kernel/security/tpm0/binary_bios_measurements")),
            ("device:/dev/tpm1", Some("/sys/kernel/security/tpm1/binary_bios_measurements")),
            ("device:/dev/other", None),
            ("device:/dev/tpm/../x", None),
            ("swtpm:host=127.0.0.1,port=1", None),
            ("tabrmd:", None),
        ] {
            assert_eq!(path_for(tcti).as_deref(), path.map(std::path::Path::new), "{tcti}");
        }
    }
}
