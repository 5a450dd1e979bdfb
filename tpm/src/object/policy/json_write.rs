//! Policies into JSON (TSS policy language): what [`from_json`](PolicyPlan::from_json) reads, with the digest that it comes to.

use serde_json::{Value, json};

use super::plan::{PolicyPlan, Step, Values};
use super::signed::SignedPolicy;
use super::tree::{PolicyCommand, Secret};
use super::verifying_key::VerifyingKey;
use crate::SignatureScheme;
use crate::object::name::hex;
use crate::object::pcr::PcrSelection;

impl PolicyPlan {
    /// The policy in the TSS policy language, with the signatures over it. `None` where it cannot be said so: a register has no value, or its digest alone is
    /// known, or it compares an NV index, of which a policy holds the name and the language wants its public area.
    ///
    /// Keys stand there with their name, since tpm2-tss' feature API would otherwise give them another than tpm2-tools and systemd do.
    #[must_use]
    pub fn to_json(&self, description: &str, signed: &[SignedPolicy]) -> Option<String> {
        let policy = self.given()?;
        let mut document = json!({
            "description": description,
            "policyDigests": [{"hashAlg": "SHA256", "digest": hex(&policy.digest())}],
            "policy": elements(self)?,
        });
        if !signed.is_empty() {
            document["policyAuthorizations"] = signed.iter().map(authorization).collect::<Option<Vec<_>>>()?.into();
        }
        Some(format!("{document:#}\n"))
    }

    /// The same with these values where none is given.
    pub(crate) fn with_values(&self, needs_password: bool, values: &Values) -> Self {
        let filled = |one: &PcrSelection| {
            let value = |(register, value): (u8, Option<&[u8]>)| {
                (register, value.map(<[u8]>::to_vec).or_else(|| values.get(&(one.bank(), register)).cloned()))
            };
            PcrSelection::new(one.bank(), one.registers().map(value).collect())
        };
        let step = |step: &Step| match step {
            Step::Pcrs(selections) => Step::Pcrs(selections.iter().map(filled).collect()),
            Step::Or(branches) => Step::Or(branches.iter().map(|(name, plan)| (name.clone(), plan.with_values(false, values))).collect()),
            command => command.clone(),
        };
        self.read_steps(needs_password).iter().map(step).fold(Self::new(), Self::and)
    }
}

fn elements(plan: &PolicyPlan) -> Option<Vec<Value>> {
    plan.steps().iter().map(element).collect()
}

fn element(step: &Step) -> Option<Value> {
    match step {
        Step::Pcrs(selections) => {
            let mut pcrs = Vec::new();
            for one in selections {
                let hash = format!("TPM2_ALG_{}", one.bank().to_string().to_ascii_uppercase());
                for (register, value) in one.registers() {
                    pcrs.push(json!({"pcr": register, "hashAlg": hash, "digest": hex(value?)}));
                }
            }
            Some(json!({"type": "POLICYPCR", "pcrs": pcrs}))
        }
        Step::Or(branches) => {
            let branch = |(at, (name, plan)): (usize, &(Option<String>, PolicyPlan))| {
                // Both are wanted by tpm2-tss.
                let name = name.clone().unwrap_or_else(|| format!("branch{at}"));
                Some(json!({"name": name, "description": plan.to_string(), "policy": elements(plan)?}))
            };
            let branches: Vec<Value> = branches.iter().enumerate().map(branch).collect::<Option<_>>()?;
            Some(json!({"type": "POLICYOR", "branches": branches}))
        }
        Step::Command(command) => self::command(command),
    }
}

fn command(command: &PolicyCommand) -> Option<Value> {
    Some(match command {
        PolicyCommand::AuthValue => json!({"type": "POLICYAUTHVALUE"}),
        PolicyCommand::Password => json!({"type": "POLICYPASSWORD"}),
        PolicyCommand::CommandCode(code) => json!({"type": "POLICYCOMMANDCODE", "code": code.0}),
        PolicyCommand::Locality(locality) => json!({"type": "POLICYLOCALITY", "locality": localities(*locality)}),
        PolicyCommand::NameHash(names) => json!({"type": "POLICYNAMEHASH", "nameHash": hex(names)}),
        PolicyCommand::DuplicationSelect { object, new_parent, includes_object } => json!({
            "type": "POLICYDUPLICATIONSELECT", "objectName": hex(object), "newParentName": hex(new_parent),
            "includeObject": if *includes_object { "YES" } else { "NO" },
        }),
        PolicyCommand::NvWritten(is_written) => {
            json!({"type": "POLICYNVWRITTEN", "writtenSet": if *is_written { "YES" } else { "NO" }})
        }
        PolicyCommand::Secret(Secret { name, policy_ref, .. }) => {
            json!({"type": "POLICYSECRET", "objectName": hex(name), "policyRef": hex(policy_ref)})
        }
        PolicyCommand::Signed(signed) => key("POLICYSIGNED", "publicKey", &signed.key, &signed.policy_ref),
        PolicyCommand::Authorize(authorize) => key("POLICYAUTHORIZE", "keyName", &authorize.key, &authorize.policy_ref),
        PolicyCommand::Nv(_) | PolicyCommand::Or(_) | PolicyCommand::Pcr(_) => return None,
    })
}

fn key(kind: &str, name: &str, key: &VerifyingKey, policy_ref: &[u8]) -> Value {
    let mut element = json!({"type": kind, "keyPEM": key.pem(), "policyRef": hex(policy_ref)});
    element[name] = hex(key.name()).into();
    if key.scheme() == SignatureScheme::RsaSsa && !key.is_plain() {
        element["rsaScheme"] = rsa_ssa();
    }
    element
}

fn rsa_ssa() -> Value {
    json!({"scheme": "RSASSA", "details": {"hashAlg": "SHA256"}})
}

/// TPMS_POLICYAUTHORIZATION
fn authorization(signed: &SignedPolicy) -> Option<Value> {
    let (key, policy_ref, scheme, signature) = signed.parts()?;
    let mut authorization =
        json!({"type": "pem", "key": key, "policyRef": hex(policy_ref), "hashAlg": "SHA256", "signature": hex(signature)});
    if scheme == SignatureScheme::RsaSsa {
        authorization["rsaScheme"] = rsa_ssa();
    }
    Some(authorization)
}

/// TPMA_LOCALITY
fn localities(bits: u8) -> Value {
    if bits >= 32 {
        return bits.into();
    }
    let names = ["ZERO", "ONE", "TWO", "THREE", "FOUR"].iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    names.map(|(_, name)| Value::from(format!("TPM2_LOC_{name}"))).collect::<Vec<_>>().into()
}
