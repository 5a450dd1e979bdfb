//! The commands that a policy may be limited to, by name (TCG part 2, 6.5.2: TPM_CC).

use std::fmt;
use std::str::FromStr;

/// Of the commands that use an object's auth value or policy, the code of each.
const CODES: [(&str, u32); 17] = [
    ("TPM2_ActivateCredential", 0x147),
    ("TPM2_Certify", 0x148),
    ("TPM2_CertifyCreation", 0x14a),
    ("TPM2_Duplicate", 0x14b),
    ("TPM2_GetTime", 0x14c),
    ("TPM2_ObjectChangeAuth", 0x150),
    ("TPM2_Create", 0x153),
    ("TPM2_ECDH_ZGen", 0x154),
    ("TPM2_HMAC", 0x155),
    ("TPM2_Import", 0x156),
    ("TPM2_Load", 0x157),
    ("TPM2_Quote", 0x158),
    ("TPM2_RSA_Decrypt", 0x159),
    ("TPM2_HMAC_Start", 0x15b),
    ("TPM2_Sign", 0x15d),
    ("TPM2_Unseal", 0x15e),
    ("TPM2_EncryptDecrypt", 0x164),
];

/// A command, by its code (TPM_CC): shown by its name where that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandCode(pub u32);

impl fmt::Display for CommandCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CODES.into_iter().find(|(_, code)| *code == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "the command 0x{:x}", self.0),
        }
    }
}

impl FromStr for CommandCode {
    type Err = UnknownCommand;

    /// A name, with or without `TPM2_` or `TPM2_CC_`, in any case, or a number (`0x15d`).
    fn from_str(text: &str) -> Result<Self, UnknownCommand> {
        let lower = text.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("0x") {
            return u32::from_str_radix(digits, 16).map(Self).map_err(|_| UnknownCommand);
        }
        let bare = lower.strip_prefix("tpm2_").or(lower.strip_prefix("tpm_")).unwrap_or(&lower);
        let bare = bare.strip_prefix("cc_").unwrap_or(bare);
        let known = CODES.into_iter().find(|(name, _)| name.trim_start_matches("TPM2_").eq_ignore_ascii_case(bare));
        known.map(|(_, code)| Self(code)).or(lower.parse().ok().map(Self)).ok_or(UnknownCommand)
    }
}

/// A text names no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no command that uses an object is named so: write TPM2_Sign, TPM2_HMAC, TPM2_Unseal, TPM2_Duplicate …, or its code (0x15d)")]
pub struct UnknownCommand;

/// The code of a command that is run here.
pub(crate) fn command_code(name: &str) -> Option<u32> {
    CODES.into_iter().find(|(known, _)| *known == name).map(|(_, code)| code)
}
