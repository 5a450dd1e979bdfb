//! JSON as the policy language has it: objects of which each member is taken once, and what is left over is refused.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::json_error::PolicyJsonError;
use crate::object::name::unhex;

pub(super) fn list(json: Json, at: &str) -> Result<Vec<Json>, PolicyJsonError> {
    match json {
        Json::List(items) if items.is_empty() => Err(PolicyJsonError::Empty(at.to_owned())),
        Json::List(items) => Ok(items),
        _ => Err(PolicyJsonError::Kind { at: at.to_owned(), wanted: "a list" }),
    }
}

pub(super) fn objects(json: Json, at: &str) -> Result<Vec<Object>, PolicyJsonError> {
    list(json, at)?.into_iter().enumerate().map(|(i, json)| Object::of(json, &format!("{at}[{i}]"))).collect()
}

/// An object, of which each member is taken once.
pub(super) struct Object {
    /// Where it stands, for people.
    pub(super) at: String,
    members: Vec<(String, Json)>,
}

impl Object {
    /// For people: they change nothing.
    const REMARKS: [&str; 3] = ["description", "name", "$schema"];

    pub(super) fn of(json: Json, at: &str) -> Result<Self, PolicyJsonError> {
        match json {
            Json::Members(members) => Ok(Self { at: at.to_owned(), members }),
            _ => Err(PolicyJsonError::Kind { at: at.to_owned(), wanted: "an object" }),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member.eq_ignore_ascii_case(name))
    }

    pub(super) fn into_members(self) -> Vec<(String, Json)> {
        self.members
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let place = self.members.iter().position(|(member, _)| member.eq_ignore_ascii_case(name))?;
        Some(self.members.remove(place).1)
    }

    pub(super) fn need(&mut self, name: &'static str) -> Result<Json, PolicyJsonError> {
        self.take(name).ok_or_else(|| PolicyJsonError::Missing { at: self.at.clone(), member: name })
    }

    /// Nothing is left but remarks.
    pub(super) fn finish(self) -> Result<(), PolicyJsonError> {
        let is_remark = |member: &str| Self::REMARKS.iter().any(|remark| remark.eq_ignore_ascii_case(member));
        match self.members.into_iter().find(|(member, _)| !is_remark(member)) {
            None => Ok(()),
            Some((member, _)) => Err(PolicyJsonError::Member { at: self.at, member }),
        }
    }
}

/// What is told apart of JSON. Unlike serde_json's own, it refuses a member that stands twice.
pub(super) enum Json {
    Text(String),
    Number(u64),
    Truth(bool),
    List(Vec<Json>),
    Members(Vec<(String, Json)>),
    Other,
}

impl Json {
    pub(super) fn text(self, at: &str, member: &'static str) -> Result<String, PolicyJsonError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(PolicyJsonError::Kind { at: format!("{at}.{member}"), wanted: "a text" }),
        }
    }

    /// Bytes: hexadecimal digits, or a list of numbers, as both are written.
    pub(super) fn bytes(self, at: &str, member: &'static str) -> Result<Vec<u8>, PolicyJsonError> {
        let bytes = match self {
            Self::Text(text) => unhex(text.strip_prefix("0x").unwrap_or(&text)),
            Self::List(items) => {
                let byte = |item| if let Self::Number(number) = item { u8::try_from(number).ok() } else { None };
                items.into_iter().map(byte).collect()
            }
            _ => None,
        };
        bytes.ok_or_else(|| PolicyJsonError::Kind {
            at: format!("{at}.{member}"),
            wanted: "bytes: hexadecimal digits, or a list of numbers",
        })
    }

    /// A number, also as text, in digits or hexadecimal ones.
    pub(super) fn number(self, at: &str, member: &'static str) -> Result<u64, PolicyJsonError> {
        let number = match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
            _ => None,
        };
        number.ok_or_else(|| PolicyJsonError::Kind { at: format!("{at}.{member}"), wanted: "a number" })
    }

    /// TPMI_YES_NO
    pub(super) fn truth(self, at: &str, member: &'static str) -> Result<bool, PolicyJsonError> {
        match self {
            Self::Truth(truth) => Ok(truth),
            Self::Number(0) => Ok(false),
            Self::Number(1) => Ok(true),
            Self::Text(text) if ["yes", "true"].contains(&text.to_ascii_lowercase().as_str()) => Ok(true),
            Self::Text(text) if ["no", "false"].contains(&text.to_ascii_lowercase().as_str()) => Ok(false),
            _ => Err(PolicyJsonError::Kind { at: format!("{at}.{member}"), wanted: "YES or NO" }),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Truth(truth))
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(name) = items.next_key::<String>()? {
            if members.iter().any(|(member, _)| member.eq_ignore_ascii_case(&name)) {
                items.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom(format!("the member {name:?} stands twice")));
            }
            members.push((name, items.next_value()?));
        }
        Ok(Json::Members(members))
    }
}
