//! Policies in JSON (TCG "TSS 2.0 JSON Data Types and Policy Language Specification", version 0.7): what of it can be fulfilled here. Names of
//! members, types and algorithms are taken in any case, as tpm2-tss takes them. What is not known is refused: it would change the meaning.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::name::unhex;
use super::policy_plan::Step;
use super::{PcrBank, PcrSelection, PolicyPlan};

impl PolicyPlan {
    /// Reads a policy in the TSS policy language: `POLICYPCR` with `pcrs` (registers and their values) or `currentPCRandBanks` (as they are),
    /// `POLICYAUTHVALUE` and `POLICYPASSWORD`.
    ///
    /// ```
    /// # use ekm_otp_tpm::{PolicyJsonError, PolicyPlan};
    /// let plan = PolicyPlan::from_json(r#"{"description": "a password", "policy": [{"type": "POLICYAUTHVALUE"}]}"#)?;
    /// assert_eq!(plan, PolicyPlan::new().password());
    /// # Ok::<(), PolicyJsonError>(())
    /// ```
    ///
    /// # Errors
    /// As [`PolicyJsonError`] tells: whatever is not taken is named.
    pub fn from_json(text: &str) -> Result<Self, PolicyJsonError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root: Json = serde_json::from_str(text).map_err(|e| PolicyJsonError::Syntax(e.to_string()))?;
        let mut root = Object::of(root, "the policy")?;
        let mut plan = Self::new();
        for mut element in objects(root.need("policy")?, "policy")? {
            plan = plan.and(step(&mut element)?);
            if let Some(digests) = element.take("policyDigests") {
                must_come_to(&plan, digests, &element.at)?;
            }
            element.finish()?;
        }
        let registers = plan.registers().filter_map(|(bank, register, value)| value.map(|value| ((bank, register), value)));
        let mut given = BTreeMap::new();
        for ((bank, register), value) in registers {
            if given.insert((bank, register), value).is_some_and(|before| before != value) {
                return Err(PolicyJsonError::TwoValues(format!("{bank}:{register}")));
            }
        }
        if let Some(digests) = root.take("policyDigests") {
            must_come_to(&plan, digests, &root.at)?;
        }
        if root.take("policyAuthorizations").is_some() {
            return Err(PolicyJsonError::Signed);
        }
        root.finish()?;
        Ok(plan)
    }
}

/// TPMT_POLICYELEMENT. What is fulfilled besides gets its line here, and its command in [`PolicyCommand`](super::policy::PolicyCommand).
fn step(element: &mut Object) -> Result<Step, PolicyJsonError> {
    let named = element.need("type")?.text(&element.at, "type")?;
    let upper = named.to_ascii_uppercase();
    match upper.strip_prefix("POLICY").unwrap_or(&upper) {
        "PCR" => pcrs(element).map(Step::Pcrs),
        "AUTHVALUE" => Ok(Step::AuthValue),
        "PASSWORD" => Ok(Step::Password),
        _ => Err(PolicyJsonError::Type { at: element.at.clone(), named }),
    }
}

/// TPMS_POLICYPCR: one command, whose banks stand in the order in which they are first named, as tpm2-tss has them.
fn pcrs(element: &mut Object) -> Result<Vec<PcrSelection>, PolicyJsonError> {
    match (element.take("pcrs"), element.take("currentPCRandBanks"), element.take("currentPCRs")) {
        (Some(pcrs), None, None) => {
            let mut banks = Vec::new();
            for mut pcr in objects(pcrs, &format!("{}.pcrs", element.at))? {
                let (register, bank) = (register(pcr.need("pcr")?, &pcr.at)?, bank(&mut pcr, "hashAlg")?);
                let digest = digest(&mut pcr, bank)?;
                add(&mut banks, bank, register, Some(digest))?;
                pcr.finish()?;
            }
            Ok(selections(banks))
        }
        (None, Some(current), None) => {
            let mut banks = Vec::new();
            for mut one in objects(current, &format!("{}.currentPCRandBanks", element.at))? {
                let bank = bank(&mut one, "hash")?;
                let at = format!("{}.pcrSelect", one.at);
                for number in list(one.need("pcrSelect")?, &at)? {
                    add(&mut banks, bank, register(number, &at)?, None)?;
                }
                one.finish()?;
            }
            Ok(selections(banks))
        }
        (None, None, Some(_)) => Err(PolicyJsonError::NoBank(element.at.clone())),
        _ => Err(PolicyJsonError::Registers(element.at.clone())),
    }
}

type Banks = Vec<(PcrBank, BTreeMap<u8, Option<Vec<u8>>>)>;

fn add(banks: &mut Banks, bank: PcrBank, register: u8, value: Option<Vec<u8>>) -> Result<(), PolicyJsonError> {
    let place = banks.iter().position(|(named, _)| *named == bank).unwrap_or_else(|| {
        banks.push((bank, BTreeMap::new()));
        banks.len() - 1
    });
    match banks[place].1.insert(register, value) {
        None => Ok(()),
        Some(_) => Err(PolicyJsonError::Twice(format!("{bank}:{register}"))),
    }
}

fn selections(banks: Banks) -> Vec<PcrSelection> {
    banks.into_iter().map(|(bank, registers)| PcrSelection::new(bank, registers)).collect()
}

fn register(number: Json, at: &str) -> Result<u8, PolicyJsonError> {
    match number {
        Json::Number(number @ 0..24) => Ok(u8::try_from(number).unwrap_or_default()),
        _ => Err(PolicyJsonError::Register(at.to_owned())),
    }
}

/// TPM2_ALG_ID, with and without its prefix: `TPM2_ALG_SHA256`, `sha256`.
fn bank(object: &mut Object, member: &'static str) -> Result<PcrBank, PolicyJsonError> {
    let named = object.need(member)?.text(&object.at, member)?;
    known_bank(&named).ok_or_else(|| PolicyJsonError::Bank { at: object.at.clone(), named })
}

fn known_bank(named: &str) -> Option<PcrBank> {
    let name = named.to_ascii_lowercase();
    let name = name.strip_prefix("tpm2_").or(name.strip_prefix("tpm_")).unwrap_or(&name);
    match name.strip_prefix("alg_").unwrap_or(name) {
        "sha" => Some(PcrBank::Sha1),
        name => PcrBank::ALL.into_iter().find(|bank| bank.to_string() == name),
    }
}

fn digest(object: &mut Object, bank: PcrBank) -> Result<Vec<u8>, PolicyJsonError> {
    let text = object.need("digest")?.text(&object.at, "digest")?;
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(&text);
    let digest = unhex(hex).filter(|digest| digest.len() == bank.len());
    digest.ok_or_else(|| PolicyJsonError::Digest { at: object.at.clone(), len: bank.len(), bank })
}

/// TPML_DIGEST_VALUES: what the policy so far comes to. Those of other hashes than SHA-256 are for keys that are named by them.
fn must_come_to(plan: &PolicyPlan, digests: Json, at: &str) -> Result<(), PolicyJsonError> {
    for mut digest_value in objects(digests, &format!("{at}.policyDigests"))? {
        let named = digest_value.need("hashAlg")?.text(&digest_value.at, "hashAlg")?;
        if known_bank(&named) == Some(PcrBank::Sha256) {
            let stated = digest(&mut digest_value, PcrBank::Sha256)?;
            if plan.given().is_none_or(|policy| policy.digest()[..] != stated) {
                return Err(PolicyJsonError::PolicyDigest(digest_value.at));
            }
        }
    }
    Ok(())
}

fn list(json: Json, at: &str) -> Result<Vec<Json>, PolicyJsonError> {
    match json {
        Json::List(items) if items.is_empty() => Err(PolicyJsonError::Empty(at.to_owned())),
        Json::List(items) => Ok(items),
        _ => Err(PolicyJsonError::Kind { at: at.to_owned(), wanted: "a list" }),
    }
}

fn objects(json: Json, at: &str) -> Result<Vec<Object>, PolicyJsonError> {
    list(json, at)?.into_iter().enumerate().map(|(i, json)| Object::of(json, &format!("{at}[{i}]"))).collect()
}

/// An object, of which each member is taken once.
struct Object {
    /// Where it stands, for people.
    at: String,
    members: Vec<(String, Json)>,
}

impl Object {
    /// For people: they change nothing.
    const REMARKS: [&str; 3] = ["description", "name", "$schema"];

    fn of(json: Json, at: &str) -> Result<Self, PolicyJsonError> {
        match json {
            Json::Members(members) => Ok(Self { at: at.to_owned(), members }),
            _ => Err(PolicyJsonError::Kind { at: at.to_owned(), wanted: "an object" }),
        }
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        let place = self.members.iter().position(|(member, _)| member.eq_ignore_ascii_case(name))?;
        Some(self.members.remove(place).1)
    }

    fn need(&mut self, name: &'static str) -> Result<Json, PolicyJsonError> {
        self.take(name).ok_or_else(|| PolicyJsonError::Missing { at: self.at.clone(), member: name })
    }

    /// Nothing is left but remarks.
    fn finish(self) -> Result<(), PolicyJsonError> {
        let is_remark = |member: &str| Self::REMARKS.iter().any(|remark| remark.eq_ignore_ascii_case(member));
        match self.members.into_iter().find(|(member, _)| !is_remark(member)) {
            None => Ok(()),
            Some((member, _)) => Err(PolicyJsonError::Member { at: self.at, member }),
        }
    }
}

/// What is told apart of JSON. Unlike serde_json's own, it refuses a member that stands twice.
enum Json {
    Text(String),
    Number(u64),
    List(Vec<Json>),
    Members(Vec<(String, Json)>),
    Other,
}

impl Json {
    fn text(self, at: &str, member: &'static str) -> Result<String, PolicyJsonError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(PolicyJsonError::Kind { at: format!("{at}.{member}"), wanted: "a text" }),
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

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
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

/// Why a text is no policy that can be fulfilled here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyJsonError {
    /// No JSON, more than one value, or a member that stands twice.
    #[error("this is not JSON as the policy language wants it: {0}")]
    Syntax(String),
    /// Of another kind.
    #[error("{at} is not {wanted}")]
    Kind {
        /// Where.
        at: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A member is not there.
    #[error("{at} has no {member:?}")]
    Missing {
        /// Where.
        at: String,
        /// Its name.
        member: &'static str,
    },
    /// A member that is not known here, and might change what is asked for.
    #[error("{at} has {member:?}, which is not known here and may change what the policy asks for: leave it out if it does not")]
    Member {
        /// Where.
        at: String,
        /// Its name.
        member: String,
    },
    /// A list without items.
    #[error("{0} is an empty list, and asks for nothing: name what must be fulfilled")]
    Empty(String),
    /// Another policy command.
    #[error("{at} is of the type {named:?}, which cannot be fulfilled here: only POLICYPCR, POLICYAUTHVALUE and POLICYPASSWORD can")]
    Type {
        /// Where.
        at: String,
        /// The type.
        named: String,
    },
    /// None, or two, of the ways to name registers.
    #[error("{0} names registers in no way, or in two: with \"pcrs\" (and their values), or with \"currentPCRandBanks\" (as they are)")]
    Registers(String),
    /// `currentPCRs`, whose bank stands in a profile of the feature API.
    #[error("{0} has \"currentPCRs\", which name no bank: write \"currentPCRandBanks\": [{{\"hash\": \"sha256\", \"pcrSelect\": [0, 7]}}]")]
    NoBank(String),
    /// Not a register's number.
    #[error("{0} names no register: write its number, 0 to 23, without quotes")]
    Register(String),
    /// Not a bank that is known here.
    #[error("{at} names the bank {named:?}: use TPM2_ALG_SHA1, TPM2_ALG_SHA256, TPM2_ALG_SHA384 or TPM2_ALG_SHA512")]
    Bank {
        /// Where.
        at: String,
        /// The bank.
        named: String,
    },
    /// A value is not hexadecimal, or of another length than the bank's.
    #[error("the digest of {at} is not {len} bytes of hexadecimal digits, as {bank} wants it")]
    Digest {
        /// Where.
        at: String,
        /// How many bytes it should have.
        len: usize,
        /// The bank.
        bank: PcrBank,
    },
    /// A register is named twice in one step.
    #[error("the register {0} stands twice in one step: name it once")]
    Twice(String),
    /// Two steps want one register to have two values.
    #[error("the register {0} is to have two values: no TPM can fulfil that")]
    TwoValues(String),
    /// The policy comes to another digest than the text says.
    #[error(
        "{0} is not what the policy comes to: it was changed, or lacks its registers' values; leave \"policyDigests\" out if it is right"
    )]
    PolicyDigest(String),
    /// Signed policies.
    #[error("the policy has \"policyAuthorizations\": signed policies cannot be fulfilled here")]
    Signed,
}
