//! `pcr read`

use std::path::PathBuf;

use clap::Args;
use ekm_otp_tpm::PcrSelection;

use super::values::{Selection, is_empty, to_json, usually};
use crate::cli::arguments::TpmArgs;
use crate::cli::error::CliError;
use crate::cli::output::{self, note};
use crate::cli::secret_file::PrivateFile;
use crate::cli::shown::hex;

#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    /// Registers, such as sha256:0,7, sha256:0-7, sha1 (all of that bank) or sha1:0+sha256:7 [default: all that the TPM has]
    #[arg(value_name = "SELECTION", value_parser = Selection::read)]
    selections: Vec<Selection>,
    /// Print JSON, which `pcr diff` reads
    #[arg(long)]
    json: bool,
    /// Write the values alone, bank by bank, to this new file, too: what tpm2_createpolicy -f and tpm2_policypcr -f take
    #[arg(long, value_name = "FILE")]
    values_out: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmArgs,
}

pub(super) async fn read(args: ReadArgs) -> Result<(), CliError> {
    let asked: Vec<PcrSelection> = args.selections.into_iter().flat_map(|selection| selection.0).collect();
    let values = args.tpm.open()?.read_pcrs(&asked).await?;
    if !values.is_one_moment {
        note!("ekm-otp-client: warning: registers changed while they were read: these are no one moment's values");
    }
    if let Some(path) = &args.values_out {
        let mut out = PrivateFile::create(path)?;
        // In the order of the selections, lowest register first.
        let of = |one: &PcrSelection| {
            let registers = values.banks.get(&one.bank());
            one.registers().filter_map(move |(n, _)| registers?.get(&n)).flatten().copied().collect::<Vec<u8>>()
        };
        let all: Vec<u8> = match asked.is_empty() {
            true => values.banks.values().flat_map(|registers| registers.values()).flatten().copied().collect(),
            false => asked.iter().flat_map(of).collect(),
        };
        out.write(&all)?;
        out.keep()?;
    }
    if args.json {
        return output::result(to_json(&values).as_bytes());
    }
    let mut lines = Vec::new();
    for (bank, registers) in &values.banks {
        lines.push(format!("{bank}:"));
        lines.extend(registers.iter().map(|(register, value)| {
            let measured = if is_empty(value) { "nothing measured; " } else { "" };
            format!("  {register:>2}  {}  {measured}{}", hex(value), usually(*register))
        }));
    }
    output::line(&lines.join("\n"))
}
