//! Why a text in the policy language is no policy.

use super::verifying_key::VerifyingKeyError;
use crate::object::pcr::PcrBank;

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
    #[error("{at} is of the type {named:?}, which cannot be fulfilled here")]
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
    /// Branches in branches.
    #[error("its branches lie in each other more than {0} deep")]
    Depth(usize),
    /// TPM2_PolicyAuthorize behind something else.
    #[error("{0} is POLICYAUTHORIZE behind other steps, which it would undo: put it first")]
    NotFirst(String),
    /// None, one, or more than eight.
    #[error("{0} are not two to eight: nest one POLICYOR in another for more")]
    Branches(String),
    /// None, or two, of the ways to say whose password.
    #[error("{0} says whose password in no way, or in two: with \"objectName\" (hexadecimal digits; a hierarchy's handle is its name)")]
    Secret(String),
    /// What is named by a path in a store of the feature API.
    #[error("{at} names {path:?}, a path in a store of the feature API: write the key itself (\"keyPEM\"), or the name (\"objectName\")")]
    Path {
        /// Where.
        at: String,
        /// The path.
        path: String,
    },
    /// The PEM is no public key that is taken here.
    #[error("the key of {at}: {why}")]
    Key {
        /// Where.
        at: String,
        /// What is wrong with it.
        why: VerifyingKeyError,
    },
    /// The key has another name.
    #[error("the key of {at} has none of its possible names as {member:?}: it is another key, or has other attributes")]
    KeyName {
        /// Where.
        at: String,
        /// The member that states the name.
        member: &'static str,
    },
    /// An NV index without what its name is made of.
    #[error("{0} is not an NV index' public area: nvIndex, nameAlg (SHA256), attributes, authPolicy and dataSize are wanted")]
    NvPublic(String),
    /// Nothing is signed there.
    #[error("nobody has signed this policy: it has no \"policyAuthorizations\" (`policy sign` makes them), and no signatures of systemd's")]
    NotSigned,
    /// What is signed must be known by its values.
    #[error("registers stand in it without their values: what is signed must state them (\"pcrs\")")]
    NoValues,
}
