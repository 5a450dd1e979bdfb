//! The measurements of an image, as `nitro-tpm-pcr-compute` writes them when it is built (AWS NitroTPM tools).

use serde::Deserialize as _;
use serde_json::Value;

use super::Pcrs;
use super::states::{pcr_number, pcr_value};
use crate::hex::hex;
use crate::json::Members;

/// The registers that an image will have once it has booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMeasurements {
    pcrs: Pcrs,
}

/// Why a file holds no measurements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Not the JSON that is wanted.
    #[error("not the JSON of nitro-tpm-pcr-compute, {{\"Measurements\": {{\"HashAlgorithm\": \"SHA384 …\", \"PCR4\": \"…\"}}}}: {0}")]
    Syntax(String),
    /// Another hash.
    #[error("the measurements are of the hash {0:?}; documents have SHA384")]
    Hash(String),
    /// A member that is no register, or a value that is none.
    #[error("{0:?} is no register with {digits} hexadecimal digits", digits = 2 * super::PCR_LEN)]
    Register(String),
    /// No register at all.
    #[error("the measurements have no register")]
    None,
}

impl ImageMeasurements {
    /// Reads `{"Measurements": {"HashAlgorithm": "SHA384 { ... }", "PCR4": "…", "PCR7": "…", "PCR12": …}}`. A register that is `null` was not computed.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_json(json: &[u8]) -> Result<Self, ImageError> {
        let syntax = |e: &dyn ToString| ImageError::Syntax(e.to_string());
        let Members(file): Members<Value> = serde_json::from_slice(json).map_err(|e| syntax(&e))?;
        let measurements = file.into_iter().find(|(name, _)| name == "Measurements").ok_or_else(|| syntax(&"no Measurements"))?.1;
        let Members(members) = Members::<Value>::deserialize(measurements).map_err(|e| syntax(&e))?;
        let (mut pcrs, mut hash) = (Pcrs::new(), None);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("HashAlgorithm", Value::String(name)) => hash = Some(name),
                (_, Value::Null) => {}
                (_, Value::String(value)) if name.starts_with("PCR") => {
                    let register = pcr_number(&name).zip(pcr_value(&value)).ok_or_else(|| ImageError::Register(name.clone()))?;
                    pcrs.insert(register.0, register.1);
                }
                _ => return Err(ImageError::Register(name)),
            }
        }
        let hash = hash.ok_or_else(|| syntax(&"no HashAlgorithm"))?;
        // The tool writes the name of the hash as its library shows it, with or without its parts in braces.
        if hash.split([' ', '{']).next() != Some("SHA384") {
            return Err(ImageError::Hash(hash));
        }
        if pcrs.is_empty() { Err(ImageError::None) } else { Ok(Self { pcrs }) }
    }

    /// The registers.
    #[must_use]
    pub fn pcrs(&self) -> &Pcrs {
        &self.pcrs
    }

    /// As one of the allowed states ([`States`](super::States)), under this name.
    #[must_use]
    pub fn to_state(&self, name: &str) -> Value {
        let registers = self.pcrs.iter().map(|(number, value)| (format!("PCR{number}"), Value::String(hex(value)))).collect();
        Value::Object([(name.to_owned(), Value::Object(registers))].into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nitro::States;

    fn read(members: &str) -> Result<ImageMeasurements, ImageError> {
        ImageMeasurements::from_json(format!(r#"{{"Measurements": {{{members}}}}}"#).as_bytes())
    }

    #[test]
    fn what_the_tool_writes_becomes_a_state() {
        let value = "ab".repeat(48);
        for hash in ["SHA384", "SHA384 { ... }", "SHA384{}"] {
            let json = format!(r#"{{"Measurements": {{"HashAlgorithm": "{hash}", "PCR4": "{value}", "PCR7": "{value}", "PCR12": null}}}}"#);
            let image = ImageMeasurements::from_json(json.as_bytes()).expect("measurements");
            assert_eq!(image.pcrs().keys().copied().collect::<Vec<_>>(), [4, 7]);
            let states = States::from_json(image.to_state("release 1").to_string().as_bytes()).expect("a state");
            assert_eq!(states.matching(image.pcrs()), ["release 1"]);
        }
    }

    #[test]
    fn other_hashes_and_values_are_named() {
        let value = "ab".repeat(48);
        let hash = |hash: &str| format!(r#""HashAlgorithm": "{hash}", "PCR4": "{value}""#);
        assert_eq!(read(&hash("SHA256")), Err(ImageError::Hash("SHA256".to_owned())));
        assert_eq!(read(&hash("SHA3842")), Err(ImageError::Hash("SHA3842".to_owned())));
        assert!(matches!(read(r#""PCR4": "00""#), Err(ImageError::Register(_))));
        assert!(matches!(read(r#""HashAlgorithm": "SHA384""#), Err(ImageError::None)));
        assert!(matches!(read(r#""HashAlgorithm": "SHA384", "Other": "x""#), Err(ImageError::Register(_))));
        assert!(matches!(ImageMeasurements::from_json(b"{}"), Err(ImageError::Syntax(_))));
    }
}
