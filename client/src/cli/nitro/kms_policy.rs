//! `nitro kms-policy`: what a key policy of KMS has to say.

use std::path::PathBuf;

use clap::Args;
use ekm_otp_attestation::nitro::{ImageMeasurements, Kind, KmsPolicy};

use super::super::encoded;
use super::super::error::CliError;
use super::super::output::note;
use super::super::shown::shown;
use super::pcr::{self, Pcr, pcr};
use super::show::{self, MAX_FILE};
use super::verify::KindArg;

#[derive(Args, Debug)]
pub(crate) struct KmsPolicyArgs {
    /// A register's value; may be repeated
    #[arg(long, value_name = "N=HEX", value_parser = pcr, required_unless_present = "image")]
    pcr: Vec<Pcr>,
    /// File with the registers that nitro-tpm-pcr-compute has written; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "pcr")]
    image: Option<PathBuf>,
    /// Of it, these registers alone, with commas between [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "image")]
    only: Vec<u8>,
    /// Who may decrypt: the ARN of a role
    #[arg(long, value_name = "ARN")]
    principal: Option<String>,
    /// What is allowed; may be repeated [default: kms:Decrypt]
    #[arg(long, value_name = "ACTION")]
    action: Vec<String>,
    /// Whose registers these are
    #[arg(long, value_enum, default_value = "tpm")]
    kind: KindArg,
    /// The condition alone, for a statement that is there already
    #[arg(long)]
    condition: bool,
}

pub(crate) async fn run(args: KmsPolicyArgs) -> Result<(), CliError> {
    let mut pcrs = match &args.image {
        None => pcr::all(&args.pcr)?,
        Some(path) => {
            let image = ImageMeasurements::from_json(&encoded::read(path, MAX_FILE).await?);
            image.map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))?.pcrs().clone()
        }
    };
    if let Some(missing) = args.only.iter().find(|number| !pcrs.contains_key(number)) {
        return Err(CliError::Usage(format!("--only {missing}: the image's measurements do not have that register")));
    }
    pcrs.retain(|number, _| args.only.is_empty() || args.only.contains(number));
    let kind = args.kind.kind();
    // AWS EC2 User Guide, "Prepare AWS KMS for attestation".
    if kind == Kind::NitroTpm && !pcrs.contains_key(&7) && !(pcrs.contains_key(&4) && pcrs.contains_key(&12)) {
        note!("ekm-otp-client: warning: AWS recommends registers 4 and 12 without Secure Boot, and 7 with it: fewer let more machines in");
    }
    let usage = |e: &dyn ToString| CliError::Usage(e.to_string());
    let mut policy = KmsPolicy::new(kind, pcrs).map_err(|e| usage(&e))?;
    if !args.action.is_empty() {
        policy = policy.actions(&args.action).map_err(|e| usage(&e))?;
    }
    match (&args.principal, args.condition) {
        (_, true) => return show::json(&policy.condition()),
        (Some(arn), false) => policy = policy.principal(arn),
        (None, false) => note!("ekm-otp-client: put the role into the statement, or give it here (--principal)"),
    }
    show::json(&policy.statement())
}
