//! Who may use a key: the policy that its file holds and that is replayed for each use (TCG part 1, 19.7; "ASN.1 Specification for TPM
//! 2.0 Key Files", policy). And the policy under which one may be moved.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::pcr::PcrCommand;

/// TPM_CC_PolicyPCR, TPM_CC_PolicyAuthValue, TPM_CC_PolicyPassword, TPM_CC_PolicyCommandCode, TPM_CC_Duplicate (TCG part 2, 6.5.2)
const CC_POLICY_PCR: u32 = 0x17f;
const CC_POLICY_AUTH_VALUE: u32 = 0x16b;
const CC_POLICY_PASSWORD: u32 = 0x18c;
const CC_POLICY_COMMAND_CODE: u32 = 0x16c;
const CC_DUPLICATE: u32 = 0x14b;

/// One command of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyCommand {
    /// TPM2_PolicyPCR: the registers must hash to this digest.
    Pcr(PcrCommand),
    /// TPM2_PolicyAuthValue: the key's password must be shown.
    AuthValue,
    /// TPM2_PolicyPassword: the same, in clear. Shown as an HMAC here all the same: both commands make the same digest.
    Password,
}

/// What must be fulfilled to use a key, command by command. Empty: nothing but its password, if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(pub(crate) Vec<PolicyCommand>);

impl Policy {
    /// Whether there is nothing to fulfil.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key's password is part of it.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.0.iter().any(|command| matches!(command, PolicyCommand::AuthValue | PolicyCommand::Password))
    }

    /// Whether registers are part of it.
    #[must_use]
    pub fn pcrs_are_needed(&self) -> bool {
        self.pcrs().next().is_some()
    }

    pub(crate) fn pcrs(&self) -> impl Iterator<Item = &PcrCommand> {
        self.0.iter().filter_map(|command| match command {
            PolicyCommand::Pcr(pcr) => Some(pcr),
            _ => None,
        })
    }

    /// The policy digest (TCG part 3, 23): what a SHA-256 policy session comes to, and the key's `authPolicy`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for command in &self.0 {
            let hash = Sha256::new().chain_update(digest);
            digest = match command {
                PolicyCommand::Pcr(pcr) => {
                    hash.chain_update(CC_POLICY_PCR.to_be_bytes()).chain_update(pcr.marshalled_selection()).chain_update(&pcr.digest)
                }
                // TPM2_PolicyPassword makes the digest of TPM2_PolicyAuthValue.
                PolicyCommand::AuthValue | PolicyCommand::Password => hash.chain_update(CC_POLICY_AUTH_VALUE.to_be_bytes()),
            }
            .finalize()
            .into();
        }
        digest
    }

    /// The commands as a key file holds them: code and parameters.
    pub(crate) fn to_commands(&self) -> Vec<(u32, Vec<u8>)> {
        let command = |command: &PolicyCommand| match command {
            PolicyCommand::Pcr(pcr) => {
                let size = u16::try_from(pcr.digest.len()).unwrap_or_default();
                (CC_POLICY_PCR, [&size.to_be_bytes()[..], &pcr.digest, &pcr.marshalled_selection()].concat())
            }
            PolicyCommand::AuthValue => (CC_POLICY_AUTH_VALUE, Vec::new()),
            PolicyCommand::Password => (CC_POLICY_PASSWORD, Vec::new()),
        };
        self.0.iter().map(command).collect()
    }

    /// `None` names the command that cannot be replayed here.
    pub(crate) fn from_commands<'a>(commands: impl IntoIterator<Item = (u32, &'a [u8])>) -> Result<Self, u32> {
        let command = |(code, parameters): (u32, &[u8])| match code {
            CC_POLICY_PCR => PcrCommand::parse(parameters).map(PolicyCommand::Pcr).ok_or(code),
            CC_POLICY_AUTH_VALUE => Ok(PolicyCommand::AuthValue),
            CC_POLICY_PASSWORD => Ok(PolicyCommand::Password),
            other => Err(other),
        };
        commands.into_iter().map(command).collect::<Result<_, _>>().map(Self)
    }
}

/// In words.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let words = self.0.iter().map(|command| match command {
            PolicyCommand::Pcr(pcr) => format!("PCR {pcr} as when the key was made"),
            PolicyCommand::AuthValue | PolicyCommand::Password => "the key's password".to_owned(),
        });
        f.write_str(&words.collect::<Vec<_>>().join(", and "))
    }
}

/// The authPolicy of a movable key: TPM2_PolicyCommandCode(TPM2_Duplicate). Ours ask for TPM2_PolicyAuthValue before: TPM2_Duplicate by
/// itself takes no password, so that who has the file and the TPM could take a password's key out without it. Key files do not
/// state it: what they state is replayed for each use, which this policy forbids.
pub(crate) fn duplication_digest(with_auth_value: bool) -> [u8; 32] {
    let mut digest = [0; 32];
    if with_auth_value {
        digest = Sha256::new().chain_update(digest).chain_update(CC_POLICY_AUTH_VALUE.to_be_bytes()).finalize().into();
    }
    let command = Sha256::new().chain_update(digest).chain_update(CC_POLICY_COMMAND_CODE.to_be_bytes());
    command.chain_update(CC_DUPLICATE.to_be_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PcrBank;

    #[test]
    fn a_policy_survives_its_file() {
        let policy = Policy(vec![
            PolicyCommand::Pcr(PcrCommand::of_all(vec![(PcrBank::Sha256, vec![(7, vec![1; 32])])])),
            PolicyCommand::Pcr(PcrCommand {
                digest: vec![2; 32],
                selection: vec![(PcrBank::Sha1, vec![0, 23]), (PcrBank::Sha384, vec![8])],
            }),
            PolicyCommand::AuthValue,
        ]);
        let commands = policy.to_commands();
        let read = Policy::from_commands(commands.iter().map(|(code, parameters)| (*code, parameters.as_slice())));
        assert_eq!(read, Ok(policy));
    }
}
