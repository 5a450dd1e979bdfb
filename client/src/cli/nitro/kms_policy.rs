//! `nitro kms-policy`: what a key policy of KMS has to say.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use ekm_otp_attestation::nitro::{ImageMeasurements, Kind, KmsPolicy};

use super::super::encoded;
use super::super::error::CliError;
use super::super::output::note;
use super::super::shown::shown;
use super::pcr::{self, Pcr, pcr};
use super::show::{self, MAX_FILE};
use super::verify::KindArg;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("registers").required(true).args(["pcr", "image"]))]
pub(crate) struct KmsPolicyArgs {
    /// A register's value; may be repeated
    #[arg(long, value_name = "N=HEX", value_parser = pcr)]
    pcr: Vec<Pcr>,
    /// File with the registers that nitro-tpm-pcr-compute has written; - is standard input
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Of it, these registers alone, with commas between [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = register, conflicts_with = "pcr")]
    only: Vec<u8>,
    /// Who may decrypt: the ARN of a role
    #[arg(long, value_name = "ARN", value_parser = principal)]
    principal: Option<String>,
    /// What is allowed; may be repeated [default: kms:Decrypt]
    #[arg(long, value_name = "ACTION")]
    action: Vec<String>,
    /// Whose registers these are
    #[arg(long, value_enum, default_value = "tpm")]
    kind: KindArg,
    /// The condition alone, for a statement that is there already
    #[arg(long, conflicts_with_all = ["principal", "action"])]
    condition: bool,
}

fn register(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|register| *register < 32).ok_or_else(|| "registers are numbers from 0 to 31, such as 4,7".to_owned())
}

/// As KMS takes them (IAM User Guide, "AWS JSON policy elements: Principal").
fn principal(text: &str) -> Result<String, String> {
    let is_account = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let is_one = text.starts_with("arn:") && text.split(':').count() >= 6 || is_account || text == "*";
    if is_one { Ok(text.to_owned()) } else { Err("an ARN is wanted, such as arn:aws:iam::111122223333:role/app".to_owned()) }
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
