//! `pcr diff`

use std::path::PathBuf;

use clap::Args;
use ekm_otp_attestation::event_log::EventLog;
use ekm_otp_tpm::PcrSelection;

use super::event_log;
use super::values::{Banks, from_json, is_empty, usually};
use crate::cli::arguments::TpmArgs;
use crate::cli::encoded;
use crate::cli::error::CliError;
use crate::cli::output::{self, note};
use crate::cli::shown::{hex, shown};

/// More than all registers of all banks take.
const MAX_LEN: usize = 64 * 1024;

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// What `pcr read --json` wrote
    #[arg(value_name = "FILE")]
    saved: PathBuf,
    /// The firmware's event log of now [default: /sys/kernel/security/tpm0/binary_bios_measurements, where the TPM is this machine's]
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// A copy of the event log of then: with it, the events that came and went are told
    #[arg(long, value_name = "FILE")]
    saved_event_log: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

pub(super) async fn diff(args: DiffArgs) -> Result<(), CliError> {
    let saved = encoded::read(&args.saved, MAX_LEN).await?;
    let saved = from_json(&saved).map_err(|e| CliError::Usage(format!("{}: {e}", shown(&args.saved))))?;
    let then = args.saved_event_log.as_deref().map(event_log::read).transpose()?;
    let log = match &args.event_log {
        Some(path) => Some(event_log::read(path)?),
        None => event_log::of_machine(&args.tpm.tcti()?),
    };
    let asked: Result<Vec<PcrSelection>, CliError> = saved
        .iter()
        .map(|(bank, registers)| {
            let registers: Vec<String> = registers.keys().map(u8::to_string).collect();
            format!("{bank}:{}", registers.join(",")).parse().map_err(|e| CliError::Usage(format!("{}: {e}", shown(&args.saved))))
        })
        .collect();
    let values = args.tpm.open()?.read_pcrs(&asked?).await?;
    if !values.is_one_moment {
        note!("ekm-otp-client: warning: registers changed while they were read: these are no one moment's values");
    }
    let (changed, lines) = told(&saved, &values.banks, then.as_ref(), log.as_ref());
    if changed == 0 {
        return output::line("nothing changed");
    }
    match output::line(&lines.join("\n")) {
        // Whoever closed the pipe has seen enough, or nothing: the exit code tells all the same.
        Ok(()) | Err(CliError::ClosedPipe) => {}
        Err(e) => return Err(e),
    }
    Err(CliError::Other(format!("{changed} registers do not hold what they held")))
}

/// How many registers changed, and what is to be said of them.
fn told(saved: &Banks, now: &Banks, then: Option<&EventLog>, log: Option<&EventLog>) -> (usize, Vec<String>) {
    let (mut changed, mut lines) = (0, Vec::new());
    let of_value = |value: &[u8]| if is_empty(value) { format!("{} (nothing measured)", hex(value)) } else { hex(value) };
    for (bank, registers) in saved {
        for (register, was) in registers {
            let Some(is) = now.get(bank).and_then(|registers| registers.get(register)).filter(|is| *is != was) else { continue };
            changed += 1;
            lines.push(format!("{bank}:{register} changed: {}", usually(*register)));
            lines.push(format!("  was {}", of_value(was)));
            lines.push(format!("  is  {}", of_value(is)));
            if let (Some(log), Some(hash)) = (log, event_log::hash_of(*bank)) {
                let differences = event_log::differences(hash, *register, (was, then), (is, log));
                lines.extend(differences.into_iter().map(|line| format!("  {line}")));
            }
        }
    }
    (changed, lines)
}
