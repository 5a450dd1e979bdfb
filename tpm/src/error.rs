//! What can go wrong with a TPM, split by what to do about it. The TPM's code stands in brackets, never alone.

use crate::response_code::{TCTI, in_words, layer, of_tpm};
use crate::{KeyFileError, Tcti};

/// Why a TPM operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// The TPM is not there: start it, or correct the TCTI.
    #[error("cannot reach the TPM at {tcti}: {why}")]
    Unreachable {
        /// Where it was looked for.
        tcti: Tcti,
        /// What happened and what to do.
        why: String,
    },
    /// This user may not open the device.
    #[error(
        "no permission to open {path}: add this user to the group that owns it (usually `tss`: usermod -aG tss USER, then log in again)"
    )]
    NotPermitted {
        /// The device node.
        path: String,
    },
    /// The TPM did not answer in time. It may be frozen, or busy with another program's command.
    #[error("the TPM did not answer within {0:?}")]
    Deadline(std::time::Duration),
    /// The TPM tests itself, starts up, or spares its memory (TPM_RC_RETRY, TPM_RC_TESTING, TPM_RC_NV_RATE, …), and went on saying so.
    #[error("{words} [0x{code:x}]", words = in_words(*.0).unwrap_or("the TPM is not ready: try again in a moment"), code = .0)]
    NotReady(u32),
    /// The connection broke while a password was shown that is not known to be right. Were it wrong, showing it again would count again.
    #[error(
        "the connection to the TPM broke while a password was shown to it, which is not shown twice by itself, since a wrong one counts each \
         time: try again [0x{0:x}]"
    )]
    Interrupted(u32),
    /// More requests wait for the TPM than the queue takes.
    #[error("the TPM is busy: {0} requests wait for it already")]
    Busy(usize),
    /// As many processes use the software TPM as can see each other there.
    #[error("16 processes use this software TPM already")]
    Crowded,
    /// The TPM has no room for another key or session.
    #[error(
        "the TPM has no free slot for another key or session: close other programs that use it, or flush what they left \
         (tpm2_flushcontext -t, -l, -s) [0x{0:x}]"
    )]
    Full(u32),
    /// The private part does not belong to this TPM.
    #[error("the key file does not belong to this TPM and parent, or the TPM was cleared since it was made [0x{0:x}]")]
    OtherTpm(u32),
    /// The private part does not belong to the primary that it was tried under.
    #[error(
        "the key file does not belong to this TPM, or the TPM was cleared since it was made, or it was made under another primary template (that \
         of tpm2_createprimary: --parent-template rsa or ecc; an endorsement key: ek-rsa or ek-ecc) [0x{0:x}]"
    )]
    OtherPrimary(u32),
    /// A password is wanted that was not given, or another one.
    #[error("{}", password_message(*what, *was_given, *tries_left, *code))]
    Auth {
        /// Whose password.
        what: Protected,
        /// Whether one was given.
        was_given: bool,
        /// Whether the TPM counts wrong ones.
        is_counted: bool,
        /// How many more wrong ones lock the TPM; `None` where they are not counted, or the TPM did not tell.
        tries_left: Option<u32>,
        /// The TPM's answer.
        code: u32,
    },
    /// The TPM is in dictionary-attack lockout: it refuses right passwords, too, of every object that is protected against guessing.
    #[error(
        "the TPM is locked out after too many wrong passwords, and refuses right ones too: {} [0x{code:x}]",
        lockout_message(*seconds)
    )]
    Lockout {
        /// After how many seconds it forgets one wrong password, so that the next try is possible; `None` where it does not tell.
        seconds: Option<u32>,
        /// The TPM's answer.
        code: u32,
    },
    /// Registers have other values than when the key was made: firmware, boot loader or configuration changed.
    #[error(
        "the key is bound to registers (PCR) that have changed since it was made: {0}. Firmware, boot loader or their configuration is not \
         what it was; if that is right, make the key, or seal the data, anew"
    )]
    PcrChanged(String),
    /// What was stated is not what the key asks for.
    #[error("{}", other_policy_message(plan, differing.as_deref()))]
    OtherPolicy {
        /// What was stated.
        plan: String,
        /// The registers whose stated value they do not have now; `None` where no value was stated.
        differing: Option<Vec<String>>,
    },
    /// A password that the policy does not ask for would guard nothing; one that it asks for must be there.
    #[error("{}", if *is_given {
        "the policy does not ask for the key's password, which would guard nothing: add POLICYAUTHVALUE to it, or leave the password out"
    } else {
        "the policy asks for the key's password, and none is given: give one, or leave POLICYAUTHVALUE out of it"
    })]
    PolicyPassword {
        /// Whether one is given.
        is_given: bool,
    },
    /// None of a policy's branches is open, or a step of it cannot be done here.
    #[error("the key's policy cannot be fulfilled now: {0}")]
    PolicyClosed(String),
    /// A digest says what a policy comes to, and not what it asks for.
    #[error("of this policy its digest alone is known, and what it asks for is wanted here: give the policy itself (JSON)")]
    PolicyUnknown,
    /// A policy has more branches, or lies deeper, than a key file holds.
    #[error("the policy has more than 64 ways through it, which no key file holds: make it smaller")]
    PolicySize,
    /// The policy was replayed and does not come to what the key asks for.
    #[error(
        "the key's policy is not fulfilled by what its file says (or --pcrs, --policy): it was made with other registers, or a password is part of \
         it [0x{0:x}]"
    )]
    Policy(u32),
    /// The key that the session was to be salted with is another one than was pinned.
    #[error(
        "the TPM's endorsement key is not the pinned one: its name is {found}. This is another TPM, or something sits between it and this \
         program; nothing secret was sent"
    )]
    SessionKey {
        /// The name of the key that the TPM showed, in hexadecimal digits.
        found: String,
    },
    /// What the TPM says about a key in one answer is not what it says in another, or what it was asked for.
    #[error(
        "the TPM's answers about {0} contradict each other, or what was asked for: something sits between it and this program; nothing secret \
         was sent"
    )]
    Contradiction(&'static str),
    /// Another key is at the persistent handle than the one whose name is pinned.
    #[error("the key at the persistent handle 0x{handle:08x} is not the pinned one: its name is {found}")]
    OtherKey {
        /// The persistent handle.
        handle: u32,
        /// The name of the key that is there, in hexadecimal digits.
        found: String,
    },
    /// A key that was named as a parent is none.
    #[error("the key at the persistent handle 0x{0:08x} is no storage key of this TPM (fixedtpm|restricted|decrypt): name another parent")]
    NotAParent(u32),
    /// The TPM has no such bank of registers, or it is switched off.
    #[error("the TPM has no PCR bank {0}, or it is switched off in the firmware")]
    NoBank(crate::PcrBank),
    /// The register is not for programs to change.
    #[error(
        "register (PCR) {register} cannot be {done} from here: only firmware or the processor may do that (their locality). Those that programs may \
         have {done} are {}",
        list_of(allowed)
    )]
    PcrNotAllowed {
        /// The register.
        register: u8,
        /// What was to be done to it.
        done: &'static str,
        /// Those that it may be done to; none where the TPM did not tell.
        allowed: Vec<u8>,
    },
    /// The key cannot do what was asked.
    #[error("{kind}: this cannot {operation}")]
    NotForThis {
        /// What the key is.
        kind: String,
        /// What was asked.
        operation: &'static str,
    },
    /// What was to be decrypted was not encrypted to this key, or not so.
    #[error(
        "the ciphertext was not made for this key (RSA-OAEP, with SHA-256 in both places and no label), or it is damaged: name the key that it was \
         encrypted to [0x{0:x}]"
    )]
    NotDecrypted(u32),
    /// A credential that another key, or the endorsement key of another TPM, opens.
    #[error("the credential was not made for this key and this TPM's endorsement key, or it is damaged [0x{0:x}]")]
    OtherCredential(u32),
    /// Registers changed each time between a quote and the reading of their values.
    #[error("the registers (PCR) change all the time: leave those out that programs extend (10 is Linux's IMA), or try again")]
    RestlessPcrs,
    /// A NitroTPM gave no attestation document.
    #[error(transparent)]
    Nitro(#[from] crate::NitroError),
    /// A key that no file holds is gone.
    #[error("the key that was made for this one use was lost, with the connection to the TPM or in its restart: begin again")]
    Ephemeral,
    /// The key stays in its TPM.
    #[error("the key cannot be moved to another TPM: {0}")]
    NotMovable(&'static str),
    /// What a key was to be encrypted to cannot be that.
    #[error("the key cannot be encrypted to that new parent: {0}")]
    NewParent(&'static str),
    /// A key on its way to a TPM does not arrive.
    #[error(
        "the moving key was encrypted to another TPM or parent than this, with one more key (an inner wrapper), or it is damaged [0x{0:x}]"
    )]
    Duplicate(u32),
    /// The owner may not put keys at this handle.
    #[error("the handle 0x{0:08x} is not in the owner's range of persistent handles: use 0x81000000 to 0x817fffff")]
    HandleRange(u32),
    /// There is no key at a persistent handle.
    #[error("there is no key at the persistent handle 0x{handle:08x}, or its hierarchy is switched off [0x{code:x}]")]
    NoKey {
        /// The persistent handle.
        handle: u32,
        /// The TPM's answer.
        code: u32,
    },
    /// The TPM keeps no more persistent keys.
    #[error("the TPM has no room for one more persistent key: evict one that is not needed [0x{0:x}]")]
    NvFull(u32),
    /// A parent has a policy that is not known here.
    #[error(
        "the parent at 0x{0:08x} may only be used under a policy that cannot be fulfilled here (only an endorsement key's can): \
         name another parent"
    )]
    ParentPolicy(u32),
    /// A persistent handle is taken already.
    #[error("the persistent handle 0x{0:08x} is taken: evict what is there, or use another one")]
    HandleTaken(u32),
    /// The persistent handle of a key, or of the parent that a key file names, is empty.
    #[error("there is no usable parent key at the persistent handle 0x{handle:08x} [0x{code:x}]")]
    NoParent {
        /// The persistent handle.
        handle: u32,
        /// The TPM's answer.
        code: u32,
    },
    /// Nobody started the TPM up after it got power.
    #[error("the TPM was not started up: firmware does that for hardware, `--flags startup-clear` for swtpm [0x{0:x}]")]
    NotStarted(u32),
    /// The key file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The TPM does not work now: failure mode, or it waits for a restart or the end of its firmware's update.
    #[error("{words} [0x{code:x}]", words = in_words(*.0).unwrap_or("the TPM does not work"), code = .0)]
    OutOfOrder(u32),
    /// Anything else the TPM or its library answered.
    #[error("{operation} failed{} [0x{code:x}]", in_words(*code).map_or_else(String::new, |words| format!(": {words}")))]
    Command {
        /// What was tried.
        operation: &'static str,
        /// The TSS response code; 0 where the library made the error itself.
        code: u32,
    },
    /// The thread that owns the TPM has ended: a fault of this program.
    #[error("the TPM thread has ended")]
    ThreadEnded,
}

impl TpmError {
    pub(crate) fn of(operation: &'static str, error: tss_esapi::Error) -> Self {
        let code = code_of(error);
        match of_tpm(code) {
            Some(0x901..=0x906) => Self::Full(code),
            Some(0x100) => Self::NotStarted(code),
            Some(0x921) => Self::Lockout { seconds: None, code },
            Some(0x908 | 0x909 | 0x90a | 0x920 | 0x922 | 0x923) => Self::NotReady(code),
            Some(0x101 | 0x12d | 0x130) => Self::OutOfOrder(code),
            Some(0x8e | 0xa2) => Self::Auth { what: Protected::Key, was_given: false, is_counted: false, tries_left: None, code },
            // TPM_RC_POLICY_FAIL; TPM_RC_AUTH_UNAVAILABLE: a policy is wanted where none was replayed.
            Some(0x9d | 0x12f) => Self::Policy(code),
            Some(0x9f) => Self::OtherTpm(code),
            _ => Self::Command { operation, code },
        }
    }

    /// Whether the connection to the TPM may be at fault, so that making it anew is worth a try.
    pub(crate) fn is_worth_a_new_connection(&self) -> bool {
        // A key that was made without a password and is refused for want of one: its handle names another object now. What is protected
        // against guessing is not tried twice: each try may count.
        matches!(self, Self::Command { .. } | Self::NotReady(_) | Self::Full(_) | Self::Auth { was_given: false, is_counted: false, .. })
    }

    /// Whether the connection broke.
    pub(crate) fn is_break(&self) -> bool {
        matches!(self, Self::Command { code, .. } if layer(*code) == TCTI)
    }

    /// The same, where a password was shown that may be wrong: it must not be shown again.
    pub(crate) fn with_unproven_password(self) -> Self {
        match self {
            Self::Command { code, .. } if layer(code) != 0 => Self::Interrupted(code),
            other => other,
        }
    }
}

/// What a password protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// The key itself.
    Key,
    /// The key that it lies under.
    Parent,
    /// The owner hierarchy.
    Owner,
    /// The endorsement hierarchy. Its password cannot be given to this crate, but for a policy that asks for it.
    Endorsement,
    /// What a policy names by its handle.
    Other(u32),
}

fn password_message(what: Protected, was_given: bool, tries_left: Option<u32>, code: u32) -> String {
    let (what, sources) = match what {
        Protected::Key => ("the key", "--password-file or TPM_KEY_AUTH"),
        Protected::Parent => ("the key's parent", "--parent-password-file or TPM_PARENT_AUTH"),
        Protected::Owner => ("the owner hierarchy", "--owner-password-file or TPM_OWNER_AUTH"),
        Protected::Other(handle) => {
            let state = if was_given { "is wrong" } else { "is wanted" };
            return format!(
                "the password of 0x{handle:08x}, which the policy asks for, {state}: --policy-secret 0x{handle:08x}=FILE [0x{code:x}]"
            );
        }
        Protected::Endorsement => {
            return format!(
                "the endorsement hierarchy has a password, which cannot be given here: take it away (tpm2_changeauth -c endorsement) \
                 [0x{code:x}]"
            );
        }
    };
    let wrong =
        if was_given { format!("the password of {what} is wrong") } else { format!("{what} has a password, give it with {sources}") };
    let left = match tries_left {
        None => String::new(),
        Some(0) => ". The TPM is locked now".to_owned(),
        Some(1) => ". The next wrong one locks the TPM".to_owned(),
        Some(n) => format!(". {n} more wrong ones lock the TPM"),
    };
    format!("{wrong}{left} [0x{code:x}]")
}

fn list_of(registers: &[u8]) -> String {
    if registers.is_empty() {
        return "not told by this TPM (16 and 23 on a PC)".to_owned();
    }
    registers.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

fn other_policy_message(plan: &str, differing: Option<&[String]>) -> String {
    match differing {
        None => format!(
            "the key is not bound to {plan} as they are now: it was made with other registers, or they have changed since. If firmware or boot \
             loader were changed, make the key anew"
        ),
        Some([]) => format!(
            "the key is not bound to {plan}: the registers have the values that are stated, so it was made with other values, registers or \
             steps, or with these in another order"
        ),
        Some(differing) => format!(
            "the key is not bound to {plan} with the values that are stated, and the TPM has others now: {}. It was made with other values, \
             registers or steps",
            differing.join(", ")
        ),
    }
}

fn lockout_message(seconds: Option<u32>) -> String {
    match seconds {
        Some(seconds) => format!("one more try is possible after {seconds} s, or reset it (tpm2_dictionarylockout --clear-lockout)"),
        None => "wait, or reset it (tpm2_dictionarylockout --clear-lockout)".to_owned(),
    }
}

/// tss-esapi 7.7 keeps the number private; only its `Debug` shows it, as `.0: 479`. 0 where the wrapper made the error itself.
pub(crate) fn code_of(error: tss_esapi::Error) -> u32 {
    let text = format!("{error:?}");
    let digits = text.split_once(".0: ").map_or("", |(_, rest)| rest);
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
