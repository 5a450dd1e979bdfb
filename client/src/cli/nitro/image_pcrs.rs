//! `nitro image-pcrs`: what an image will measure.

use std::path::PathBuf;

use clap::Args;
use ekm_otp_attestation::nitro::ImageMeasurements;
use serde_json::{Map, Value};

use super::super::encoded;
use super::super::error::CliError;
use super::super::output;
use super::super::shown::{hex, shown};
use super::show::{self, MAX_FILE};

#[derive(Args, Debug)]
pub(crate) struct ImagePcrsArgs {
    /// File that nitro-tpm-pcr-compute has written; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    measurements: PathBuf,
    /// As a file of allowed states, with this one in it, for nitro verify --states
    #[arg(long, value_name = "NAME", conflicts_with = "json")]
    state: Option<String>,
    /// As JSON: register numbers and values
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: ImagePcrsArgs) -> Result<(), CliError> {
    let file = encoded::read(&args.measurements, MAX_FILE).await?;
    let name = shown(&args.measurements);
    let image = ImageMeasurements::from_json(&file).map_err(|e| CliError::Usage(format!("{name}: {e}")))?;
    if let Some(state) = &args.state {
        return show::json(&image.to_state(state));
    }
    if args.json {
        let pcrs: Map<String, Value> = image.pcrs().iter().map(|(number, value)| (number.to_string(), hex(value).into())).collect();
        return show::json(&Value::Object(pcrs));
    }
    let lines: String = image.pcrs().iter().map(|(number, value)| format!("PCR{number:<9} {}\n", hex(value))).collect();
    output::result(lines.as_bytes())
}
