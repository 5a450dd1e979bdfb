//! `--claim`: what the caller wants to have in the request's token.

use ekm_otp::jose::ExtraClaims;
use serde_json::{Map, Value};

use crate::cli::CliError;

/// `name=text` or `name:=json`.
pub(super) fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE, or as NAME:=JSON")?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => (name, serde_json::from_str(value).map_err(|e| format!("no JSON behind := ({e})"))?),
        None => (name, Value::from(value)),
    };
    if name.is_empty() { Err("the claim has no name".to_owned()) } else { Ok((name.to_owned(), value)) }
}

pub(super) fn extra_claims(claims: &[(String, Value)]) -> Result<ExtraClaims, CliError> {
    let mut map = Map::new();
    for (name, value) in claims {
        if map.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::Usage(format!("--claim {name} stands twice")));
        }
    }
    ExtraClaims::new(map).map_err(|e| CliError::Usage(format!("--claim: {e}")))
}
