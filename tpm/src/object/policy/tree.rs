//! What must be fulfilled to use a key, as a tree (TCG part 1, 19.7): commands one after the other, of which some have branches.

use sha2::{Digest as _, Sha256};
use tss_esapi::structures::Signature;

use super::command_code::CommandCode;
use super::verifying_key::VerifyingKey;
use crate::object::pcr::PcrCommand;

/// TPM_CC (TCG part 2, 6.5.2)
pub(super) mod code {
    pub(crate) const NV: u32 = 0x149;
    pub(crate) const DUPLICATE: u32 = 0x14b;
    pub(crate) const SECRET: u32 = 0x151;
    pub(crate) const SIGNED: u32 = 0x160;
    pub(crate) const AUTHORIZE: u32 = 0x16a;
    pub(crate) const AUTH_VALUE: u32 = 0x16b;
    pub(crate) const COMMAND_CODE: u32 = 0x16c;
    pub(crate) const LOCALITY: u32 = 0x16f;
    pub(crate) const NAME_HASH: u32 = 0x170;
    pub(crate) const OR: u32 = 0x171;
    pub(crate) const PCR: u32 = 0x17f;
    pub(crate) const DUPLICATION_SELECT: u32 = 0x188;
    pub(crate) const PASSWORD: u32 = 0x18c;
    pub(crate) const NV_WRITTEN: u32 = 0x18f;
}

/// What must be fulfilled to use a key, command by command. Empty: nothing but its password, if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(pub(crate) Vec<PolicyCommand>);

/// One command of a policy (TCG part 3, 23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyCommand {
    /// TPM2_PolicyPCR: the registers must hash to this digest.
    Pcr(PcrCommand),
    /// TPM2_PolicyAuthValue: the key's password must be shown.
    AuthValue,
    /// TPM2_PolicyPassword: the same, in clear. Shown as an HMAC here all the same: both commands make the same digest.
    Password,
    /// TPM2_PolicyCommandCode: for this command only.
    CommandCode(CommandCode),
    /// TPM2_PolicyLocality: from these localities (TPMA_LOCALITY) only.
    Locality(u8),
    /// TPM2_PolicyNameHash: with the objects whose names hash to this only.
    NameHash([u8; 32]),
    /// TPM2_PolicyDuplicationSelect: to be moved to this new parent only.
    DuplicationSelect { object: Vec<u8>, new_parent: Vec<u8>, includes_object: bool },
    /// TPM2_PolicyNvWritten: of an NV index that was, or was not, written.
    NvWritten(bool),
    /// TPM2_PolicySecret: the password of something else.
    Secret(Secret),
    /// TPM2_PolicySigned: whoever has a private key must sign for this use.
    Signed(Signed),
    /// TPM2_PolicyNV: what an NV index holds.
    Nv(NvComparison),
    /// TPM2_PolicyAuthorize: any policy that a private key has signed. What came before it is what was signed.
    Authorize(Authorize),
    /// TPM2_PolicyOR: one of these, each of which goes on from what came before.
    Or(Vec<Branch>),
}

/// Whose password TPM2_PolicySecret asks for: a hierarchy's, or that of a persistent object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    /// Where it is: a hierarchy, or a persistent handle. A policy holds the name only.
    pub(crate) handle: Option<u32>,
    pub(crate) name: Vec<u8>,
    pub(crate) policy_ref: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) key: VerifyingKey,
    pub(crate) policy_ref: Vec<u8>,
}

/// TPM2_PolicyNV: `operation` (TPM_EO) compares the index' contents from `offset` on with `operand`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NvComparison {
    pub(crate) index: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) operand: Vec<u8>,
    pub(crate) offset: u16,
    pub(crate) operation: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorize {
    pub(crate) key: VerifyingKey,
    pub(crate) policy_ref: Vec<u8>,
    /// Those that are known to be signed, or said to be.
    pub(crate) approved: Vec<Approved>,
}

/// A policy, and the signature over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approved {
    pub(crate) policy: Policy,
    pub(crate) signature: Signature,
}

/// One branch of a TPM2_PolicyOR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    Known {
        name: Option<String>,
        policy: Policy,
    },
    /// What it comes to is known, not what it asks for.
    Unknown([u8; 32]),
}

impl Branch {
    /// What a session comes to in this branch, from what it had come to before.
    pub(crate) fn digest(&self, before: [u8; 32]) -> [u8; 32] {
        match self {
            Self::Known { policy, .. } => policy.extend(before),
            Self::Unknown(digest) => *digest,
        }
    }
}

impl Authorize {
    /// What is signed for a policy that comes to this digest (TCG part 3, 23.16: aHash).
    pub(crate) fn signed_digest(&self, approved: [u8; 32]) -> [u8; 32] {
        Sha256::new().chain_update(approved).chain_update(&self.policy_ref).finalize().into()
    }
}

impl Policy {
    /// Whether there is nothing to fulfil.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key's password is part of it, in one of its branches at least.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.any(&|command| matches!(command, PolicyCommand::AuthValue | PolicyCommand::Password))
    }

    /// Whether there may be a way through it without the key's password, beside one with it.
    #[must_use]
    pub fn may_do_without_password(&self) -> bool {
        let asks = |command: &PolicyCommand| match command {
            PolicyCommand::AuthValue | PolicyCommand::Password => true,
            PolicyCommand::Or(branches) => branches.iter().all(|branch| match branch {
                Branch::Known { policy, .. } => !policy.may_do_without_password(),
                Branch::Unknown(_) => false,
            }),
            _ => false,
        };
        !self.0.iter().any(asks)
    }

    /// Whether registers are part of it, in one of its branches at least.
    #[must_use]
    pub fn pcrs_are_needed(&self) -> bool {
        self.any(&|command| matches!(command, PolicyCommand::Pcr(_)))
    }

    /// Whether it leaves nothing to choose: no branches, nothing that others sign.
    pub(crate) fn is_linear(&self) -> bool {
        !self.any(&|command| matches!(command, PolicyCommand::Or(_) | PolicyCommand::Authorize(_)))
    }

    /// The branch of this name, where the policy is nothing but branches.
    #[must_use]
    pub fn branch(&self, wanted: &str) -> Option<&Self> {
        let [PolicyCommand::Or(branches)] = self.0.as_slice() else { return None };
        branches.iter().find_map(|branch| match branch {
            Branch::Known { name: Some(name), policy } if name == wanted => Some(policy),
            _ => None,
        })
    }

    fn any(&self, wanted: &impl Fn(&PolicyCommand) -> bool) -> bool {
        self.0.iter().any(|command| {
            wanted(command)
                || match command {
                    PolicyCommand::Or(branches) => branches.iter().any(|branch| match branch {
                        Branch::Known { policy, .. } => policy.any(wanted),
                        Branch::Unknown(_) => false,
                    }),
                    PolicyCommand::Authorize(authorize) => authorize.approved.iter().any(|approved| approved.policy.any(wanted)),
                    _ => false,
                }
        })
    }

    /// The registers that must be as they are said to be whatever branch is taken.
    pub(crate) fn pcrs(&self) -> impl Iterator<Item = &PcrCommand> {
        self.0.iter().filter_map(|command| match command {
            PolicyCommand::Pcr(pcr) => Some(pcr),
            _ => None,
        })
    }

    /// The policy digest (TCG part 3, 23): what a SHA-256 policy session comes to, and the key's `authPolicy`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.extend([0; 32])
    }

    /// What a session comes to that had come to `digest` before.
    pub(crate) fn extend(&self, digest: [u8; 32]) -> [u8; 32] {
        self.0.iter().fold(digest, |digest, command| command.extend(digest))
    }
}

impl PolicyCommand {
    /// What the command makes of a session's digest.
    pub(crate) fn extend(&self, digest: [u8; 32]) -> [u8; 32] {
        let hash = |code: u32| Sha256::new().chain_update(digest).chain_update(code.to_be_bytes());
        let hash = match self {
            Self::Pcr(pcr) => hash(code::PCR).chain_update(pcr.marshalled_selection()).chain_update(&pcr.digest),
            // TPM2_PolicyPassword makes the digest of TPM2_PolicyAuthValue.
            Self::AuthValue | Self::Password => hash(code::AUTH_VALUE),
            Self::CommandCode(command) => hash(code::COMMAND_CODE).chain_update(command.0.to_be_bytes()),
            Self::Locality(locality) => hash(code::LOCALITY).chain_update([*locality]),
            Self::NameHash(names) => hash(code::NAME_HASH).chain_update(names),
            Self::DuplicationSelect { object, new_parent, includes_object } => {
                let object = if *includes_object { object.as_slice() } else { &[] };
                hash(code::DUPLICATION_SELECT).chain_update(object).chain_update(new_parent).chain_update([u8::from(*includes_object)])
            }
            Self::NvWritten(is_written) => hash(code::NV_WRITTEN).chain_update([u8::from(*is_written)]),
            Self::Secret(secret) => return named(code::SECRET, digest, &secret.name, &secret.policy_ref),
            Self::Signed(signed) => return named(code::SIGNED, digest, signed.key.name(), &signed.policy_ref),
            Self::Nv(nv) => {
                let (offset, operation) = (nv.offset.to_be_bytes(), nv.operation.to_be_bytes());
                let args = Sha256::new().chain_update(&nv.operand).chain_update(offset).chain_update(operation).finalize();
                hash(code::NV).chain_update(args).chain_update(&nv.name)
            }
            // These two begin anew.
            Self::Authorize(authorize) => return named(code::AUTHORIZE, [0; 32], authorize.key.name(), &authorize.policy_ref),
            Self::Or(branches) => return or(branches.iter().map(|branch| branch.digest(digest))),
        };
        hash.finalize().into()
    }
}

/// TPM2_PolicyOR over what its branches come to.
pub(super) fn or(digests: impl Iterator<Item = [u8; 32]>) -> [u8; 32] {
    let hash = Sha256::new().chain_update([0; 32]).chain_update(code::OR.to_be_bytes());
    digests.fold(hash, |hash, digest| hash.chain_update(digest)).finalize().into()
}

/// PolicyUpdate() (TCG part 3, 23.2.3)
fn named(code: u32, digest: [u8; 32], name: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    let named = Sha256::new().chain_update(digest).chain_update(code.to_be_bytes()).chain_update(name).finalize();
    Sha256::new().chain_update(named).chain_update(policy_ref).finalize().into()
}

/// The policy under which a key may be moved: TPM2_PolicyCommandCode(TPM2_Duplicate). Ours ask for TPM2_PolicyAuthValue before: TPM2_Duplicate by
/// itself takes no password, so that who has the file and the TPM could take a password's key out without it.
pub(crate) fn duplication(with_auth_value: bool) -> Policy {
    let asks = with_auth_value.then_some(PolicyCommand::AuthValue);
    Policy(asks.into_iter().chain([PolicyCommand::CommandCode(CommandCode(code::DUPLICATE))]).collect())
}
