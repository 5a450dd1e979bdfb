//! Policies in words.

use std::fmt;

use super::tree::{Branch, Policy, PolicyCommand};
use crate::object::name::hex;

/// TPM_EO (TCG part 2, 6.8), in its order.
const COMPARISONS: [&str; 12] = [
    "is",
    "is not",
    "is, as a signed number, above",
    "is above",
    "is, as a signed number, below",
    "is below",
    "is, as a signed number, at least",
    "is at least",
    "is, as a signed number, at most",
    "is at most",
    "has all bits of",
    "has no bit of",
];

/// On one line: what must be fulfilled one after the other, branches in brackets.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let words: Vec<String> = self.0.iter().map(PolicyCommand::to_string).collect();
        f.write_str(&words.join(", and "))
    }
}

impl fmt::Display for PolicyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(pcr) => write!(f, "PCR {pcr} as when the key was made"),
            Self::AuthValue | Self::Password => f.write_str("the key's password"),
            Self::CommandCode(code) => write!(f, "for {code} only"),
            Self::Locality(locality) => write!(f, "from {} only", localities(*locality)),
            Self::NameHash(names) => write!(f, "with the objects only whose names hash to {}", hex(names)),
            Self::DuplicationSelect { new_parent, includes_object, .. } => {
                let what = if *includes_object { "this very key" } else { "it" };
                write!(f, "to move {what} to the new parent named {}", hex(new_parent))
            }
            Self::NvWritten(is_written) => {
                write!(f, "for an NV index that was {} only", if *is_written { "written" } else { "never written" })
            }
            Self::Secret(secret) => {
                let whose = match (secret.handle, secret.name.as_slice()) {
                    (_, [0x40, 0, 0, 0x01]) => "the owner hierarchy".to_owned(),
                    (_, [0x40, 0, 0, 0x0b]) => "the endorsement hierarchy".to_owned(),
                    (_, [0x40, 0, 0, 0x0a]) => "the lockout hierarchy".to_owned(),
                    (_, [0x40, 0, 0, 0x0c]) => "the platform hierarchy".to_owned(),
                    (Some(handle), _) => format!("0x{handle:08x}"),
                    (None, name) => format!("the object named {}", hex(name)),
                };
                write!(f, "the password of {whose}{}", reference(&secret.policy_ref))
            }
            Self::Signed(signed) => {
                write!(f, "a signature for this use by the key named {}{}", hex(signed.key.name()), reference(&signed.policy_ref))
            }
            Self::Nv(nv) => {
                let comparison = COMPARISONS.get(usize::from(nv.operation)).copied().unwrap_or("is compared in an unknown way with");
                write!(f, "the NV index 0x{:08x}, whose contents from byte {} on {comparison} {}", nv.index, nv.offset, hex(&nv.operand))
            }
            Self::Authorize(authorize) => {
                let reference = reference(&authorize.policy_ref);
                write!(f, "a policy that is signed by the key named {}{reference}", hex(authorize.key.name()))?;
                let known: Vec<String> = authorize.approved.iter().map(|approved| format!("({})", approved.policy)).collect();
                if known.is_empty() { Ok(()) } else { write!(f, ", such as {}", known.join(" or ")) }
            }
            Self::Or(branches) => {
                let words: Vec<String> = branches.iter().map(Branch::to_string).collect();
                write!(f, "one of {}", words.join(" or "))
            }
        }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { name: Some(name), policy } => write!(f, "({}: {policy})", name.escape_debug()),
            Self::Known { name: None, policy } => write!(f, "({policy})"),
            Self::Unknown(digest) => write!(f, "(something that is not told, {})", hex(digest)),
        }
    }
}

/// TPMA_LOCALITY (TCG part 2, 8.5): a bit each for 0 to 4, or a number from 32 on.
fn localities(bits: u8) -> String {
    if bits >= 32 {
        return format!("locality {bits}");
    }
    let numbers: Vec<String> = (0..5).filter(|n| bits & (1 << n) != 0).map(|n: u8| n.to_string()).collect();
    format!("locality {}", numbers.join(" or "))
}

fn reference(policy_ref: &[u8]) -> String {
    if policy_ref.is_empty() { String::new() } else { format!(" (for {})", hex(policy_ref)) }
}
