//! A document as JSON, for people and programs: byte strings in hexadecimal digits, whatever they hold.

use serde_json::{Map, Value as Json, json};

use super::document::Document;
use crate::cbor::Value;
use crate::hex::hex;

impl Document {
    /// All its fields, with the names that they have in the document; those that are not known here are `other_fields`. Not proven by being shown.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let bytes = |bytes: Option<&[u8]>| bytes.map_or(Json::Null, |bytes| Json::String(hex(bytes)));
        let pcrs: Map<String, Json> = self.pcrs().iter().map(|(number, value)| (number.to_string(), Json::String(hex(value)))).collect();
        let mut document = Map::new();
        let mut put = |name: &str, value: Json| document.insert(name.to_owned(), value);
        put("module_id", json!(self.module_id()));
        put("digest", json!(self.digest()));
        put("timestamp", json!(self.timestamp()));
        put(self.pcrs_field(), Json::Object(pcrs));
        put("certificate", json!(hex(self.certificate())));
        put("cabundle", self.cabundle().iter().map(|certificate| hex(certificate)).collect());
        put("public_key", bytes(self.public_key()));
        put("user_data", bytes(self.user_data()));
        put("nonce", bytes(self.nonce()));
        if !self.others().is_empty() {
            put("other_fields", Json::Object(self.others().iter().map(|(name, value)| (name.clone(), value.to_json())).collect()));
        }
        document.insert("signature".to_owned(), json!(hex(&self.envelope.signature)));
        Json::Object(document)
    }
}

impl Value {
    /// As JSON; byte strings in hexadecimal digits. What JSON has no word for is a text, as CBOR's diagnostic notation has it (RFC 8949 §8).
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Unsigned(n) => json!(n),
            Self::Negative(n) => i64::try_from(*n).map_or_else(|_| json!((-1 - i128::from(*n)).to_string()), |n| json!(-1 - n)),
            Self::Bytes(bytes) => json!(hex(bytes)),
            Self::Text(text) => json!(text),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                let named =
                    |(key, value): &(Self, Self)| if let Self::Text(name) = key { Some((name.clone(), value.to_json())) } else { None };
                let members: Option<Map<String, Json>> = entries.iter().map(named).collect();
                // JSON has names alone as keys: others are shown as pairs.
                members.map_or_else(|| entries.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect(), Json::Object)
            }
            Self::Bool(is_true) => json!(is_true),
            Self::Null => Json::Null,
            Self::Undefined => json!("undefined"),
            Self::Float(n) if n.is_finite() => json!(n),
            Self::Float(n) => json!(n.to_string()),
        }
    }
}
