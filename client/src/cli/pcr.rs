//! `pcr …`: the TPM's registers, read, changed and compared.

mod change;
mod diff;
mod event_log;
mod read;
mod values;

pub(crate) use values::Selection;

use clap::Subcommand;

use super::error::CliError;

#[derive(Debug, Subcommand)]
pub(crate) enum PcrCommand {
    /// Show what the registers hold: those that are named, or all that the TPM has.
    #[command(
        after_help = "Examples:\n  ekm-otp-client pcr read\n  ekm-otp-client pcr read sha256:0-7 sha1:7\n  ekm-otp-client pcr read --json > good.json"
    )]
    Read(read::ReadArgs),
    /// Extend a register: from then on, until the machine restarts, it holds the hash of its value and the digest.
    ///
    /// Programs may extend 0 to 16 and 23 on most machines; 17 to 22 belong to a dynamic launch. What is bound to a register that was extended no longer
    /// opens: 16 is for trying things out.
    #[command(
        after_help = "Examples:\n  ekm-otp-client pcr extend 16 --file configuration\n  ekm-otp-client pcr extend 23 \\\n      --digest sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709"
    )]
    Extend(change::ExtendArgs),
    /// Put a register back to its first value. Programs may do that to 16 and 23 on most machines.
    #[command(after_help = "Examples:\n  ekm-otp-client pcr reset 16")]
    Reset(change::ResetArgs),
    /// Tell which registers hold something else than when they were saved, and which event of the firmware's log that was.
    ///
    /// Exit codes: 0 nothing changed, 1 something did.
    #[command(
        after_help = "Examples:\n  ekm-otp-client pcr diff good.json\n  ekm-otp-client pcr diff good.json --saved-event-log good.log"
    )]
    Diff(diff::DiffArgs),
}

pub(crate) async fn run(command: PcrCommand) -> Result<(), CliError> {
    match command {
        PcrCommand::Read(args) => read::read(args).await,
        PcrCommand::Extend(args) => change::extend(args).await,
        PcrCommand::Reset(args) => change::reset(args).await,
        PcrCommand::Diff(args) => diff::diff(args).await,
    }
}
