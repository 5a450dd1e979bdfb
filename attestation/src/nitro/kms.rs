//! The key policy by which KMS gives a secret to one machine image and to nobody else (AWS KMS Developer Guide, "Condition keys for NitroTPM", "Condition keys
//! for Nitro Enclaves").

use serde_json::{Map, Value, json};

use super::{Kind, PCR_LEN, Pcrs};
use crate::hex::hex;

/// What may be asked for with a document. `kms:Decrypt` as a rule.
const ACTIONS: [&str; 5] =
    ["kms:Decrypt", "kms:DeriveSharedSecret", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:GenerateRandom"];

/// One statement of a key policy.
#[derive(Clone, Debug)]
pub struct KmsPolicy {
    kind: Kind,
    pcrs: Pcrs,
    principal: Option<String>,
    actions: Vec<String>,
}

/// Why there is no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KmsPolicyError {
    /// A statement without a condition would let everyone in.
    #[error("no register is given: the statement would have no condition, and let the principal in from anywhere")]
    NoPcr,
    /// Not SHA-384.
    #[error("register {0} has a value that is not of {PCR_LEN} bytes (SHA-384)")]
    Length(u8),
    /// KMS has no condition key of this register.
    #[error("a {kind} has no register {register} that KMS can look at")]
    Register {
        /// Whose.
        kind: Kind,
        /// Which.
        register: u8,
    },
    /// KMS looks at no document there.
    #[error("{0:?} is no action that KMS takes a document for: {known}", known = ACTIONS.join(", "))]
    Action(String),
}

impl KmsPolicy {
    /// For documents of this kind with these registers; the action is `kms:Decrypt`.
    ///
    /// # Errors
    /// Without a register, or with one that KMS cannot look at.
    pub fn new(kind: Kind, pcrs: Pcrs) -> Result<Self, KmsPolicyError> {
        let registers = match kind {
            Kind::NitroTpm => 24,
            Kind::Enclave => 32,
        };
        for (register, value) in &pcrs {
            if value.len() != PCR_LEN {
                return Err(KmsPolicyError::Length(*register));
            }
            if *register >= registers {
                return Err(KmsPolicyError::Register { kind, register: *register });
            }
        }
        if pcrs.is_empty() {
            return Err(KmsPolicyError::NoPcr);
        }
        Ok(Self { kind, pcrs, principal: None, actions: vec![ACTIONS[0].to_owned()] })
    }

    /// Who may ask: the ARN of a role.
    #[must_use]
    pub fn principal(self, arn: &str) -> Self {
        Self { principal: Some(arn.to_owned()), ..self }
    }

    /// For these actions.
    ///
    /// # Errors
    /// When KMS takes no document for one of them, so that the condition would never hold.
    pub fn actions(self, actions: &[String]) -> Result<Self, KmsPolicyError> {
        match actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
            Some(other) => Err(KmsPolicyError::Action(other.clone())),
            None => Ok(Self { actions: actions.to_vec(), ..self }),
        }
    }

    /// The condition alone: `StringEqualsIgnoreCase`, and a condition key for each register.
    #[must_use]
    pub fn condition(&self) -> Value {
        let prefix = match self.kind {
            Kind::NitroTpm => "kms:RecipientAttestation:NitroTPMPCR",
            Kind::Enclave => "kms:RecipientAttestation:PCR",
        };
        let keys: Map<String, Value> =
            self.pcrs.iter().map(|(register, value)| (format!("{prefix}{register}"), Value::String(hex(value)))).collect();
        json!({ "StringEqualsIgnoreCase": keys })
    }

    /// The statement. Without a principal it has a mark in its place, which no policy can be installed with.
    #[must_use]
    pub fn statement(&self) -> Value {
        let principal = self.principal.as_deref().unwrap_or("arn:aws:iam::ACCOUNT:role/ROLE");
        json!({
            "Sid": "AttestedDecryption",
            "Effect": "Allow",
            "Principal": { "AWS": principal },
            "Action": match &self.actions[..] {
                [one] => json!(one),
                more => json!(more),
            },
            "Resource": "*",
            "Condition": self.condition(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcrs() -> Pcrs {
        Pcrs::from([(4, vec![0xAB; 48]), (7, vec![0; 48])])
    }

    #[test]
    fn each_register_has_the_condition_key_that_kms_knows() {
        let policy = KmsPolicy::new(Kind::NitroTpm, pcrs()).expect("a policy").principal("arn:aws:iam::111122223333:role/data-processing");
        let condition = json!({ "StringEqualsIgnoreCase": {
            "kms:RecipientAttestation:NitroTPMPCR4": "ab".repeat(48),
            "kms:RecipientAttestation:NitroTPMPCR7": "00".repeat(48),
        }});
        assert_eq!(policy.condition(), condition);
        let statement = policy.statement();
        assert_eq!(statement["Condition"], condition);
        assert_eq!(statement["Action"], "kms:Decrypt");
        assert_eq!(statement["Principal"]["AWS"], "arn:aws:iam::111122223333:role/data-processing");
        let enclave = KmsPolicy::new(Kind::Enclave, pcrs()).expect("a policy").condition();
        assert_eq!(enclave["StringEqualsIgnoreCase"]["kms:RecipientAttestation:PCR4"], "ab".repeat(48));
    }

    #[test]
    fn a_statement_without_a_condition_that_holds_is_refused() {
        use KmsPolicyError as E;
        let refused = |kind, pcrs| KmsPolicy::new(kind, pcrs).expect_err("refused");
        assert_eq!(refused(Kind::NitroTpm, Pcrs::new()), E::NoPcr);
        assert_eq!(refused(Kind::NitroTpm, Pcrs::from([(4, vec![0; 32])])), E::Length(4));
        assert_eq!(refused(Kind::NitroTpm, Pcrs::from([(24, vec![0; 48])])), E::Register { kind: Kind::NitroTpm, register: 24 });
        assert_eq!(refused(Kind::Enclave, Pcrs::from([(32, vec![0; 48])])), E::Register { kind: Kind::Enclave, register: 32 });
        let policy = KmsPolicy::new(Kind::NitroTpm, pcrs()).expect("a policy");
        assert_eq!(policy.actions(&["kms:Encrypt".to_owned()]).expect_err("refused"), E::Action("kms:Encrypt".to_owned()));
    }
}
