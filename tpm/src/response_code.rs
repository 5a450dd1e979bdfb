//! What a TPM's response code says, and what to do about it (TCG "TPM 2.0 Library", part 2, 6.6: tables 16 to 20).

/// The layer that made a code (TCG TSS 2.0 Overview, "Response codes"): 0 is the TPM itself.
pub(crate) fn layer(code: u32) -> u32 {
    (code >> 16) & 0xff
}

/// The TCTI, which carries commands to the TPM: only its codes tell that the connection broke.
pub(crate) const TCTI: u32 = 0xa;
/// A resource manager in user space, which hands the TPM's codes on under its own layer.
const RESOURCE_MANAGER_TPM: u32 = 0xb;

/// The code as the TPM made it, format-one codes without the number of the parameter, handle or session at fault; `None` for codes of other
/// layers.
pub(crate) fn of_tpm(code: u32) -> Option<u32> {
    let own = code & 0xffff;
    match layer(code) {
        0 | RESOURCE_MANAGER_TPM if own != 0 => Some(if own & 0x80 != 0 { own & 0xbf } else { own }),
        _ => None,
    }
}

/// What happened and what to do, to stand behind what was tried. `None` where the number is all that is known.
pub(crate) fn in_words(code: u32) -> Option<&'static str> {
    let Some(own) = of_tpm(code) else {
        return Some(match layer(code) {
            0 => return None,
            TCTI => "the connection to the TPM broke",
            _ => "the TSS library refused it, not the TPM: an answer that was not authentic, or a fault of this program",
        });
    };
    Some(match own {
        // Format zero (table 17)
        0x101 => "the TPM is in failure mode: it failed its self-test. Restart the machine; if that does not help, it is broken",
        0x103 => "the TPM was used in a wrong order, or restarted in between: try again",
        0x120 => "the TPM has this switched off, in the firmware's setup or by its owner",
        0x124 | 0x125 => "another kind of authorisation is wanted for it",
        0x126 | 0x127 => "the policy names registers or commands that the TPM does not have",
        0x128 => "a register changed while the policy was being fulfilled: try again",
        0x12d => "the TPM's firmware is being updated: finish that first",
        0x130 => "the TPM wants a restart of the machine: it was reconfigured, or its firmware was updated",
        0x131 | 0x142 | 0x144 | 0x145 => "the command arrived damaged: something changes it on its way, or it is a fault of this program",
        0x143 => "the TPM does not have this command",
        0x146 | 0x147 => "it does not fit into the NV index",
        0x148 => "the NV index is locked until the TPM restarts",
        0x149 => "the NV index does not allow it with this authorisation",
        0x14a => "the NV index was never written",
        0x14b => "there is no room in the TPM's memory: evict a persistent key that is not needed",
        0x14c => "the handle is taken already",
        0x152 => "the parent is not a key that can be that",
        0x153 | 0x154 => "the TPM has not tested this yet: try again in a moment",
        0x155 => "the secret part does not fit its public part, or is all zeros",
        // Format one (table 18)
        0x81 => "the TPM does not have this algorithm for keys",
        0x82 => "the key's attributes do not allow it, or contradict each other",
        0x83 => "the TPM does not have this hash, or the key wants another",
        0x84 => "a value is out of range, or not what the key's algorithm takes",
        0x85 => "the hierarchy is switched off (TPM2_HierarchyControl, or in the firmware's setup)",
        0x87 => "the TPM does not have keys of this size",
        0x89 | 0x96 => "the TPM does not have this cipher or mode",
        0x8a => "the key is of another type than is wanted for it",
        0x8b => "there is nothing at this handle any more: another program flushed it, or the TPM restarted",
        0x8c | 0x8d | 0x97 | 0x98 | 0x9a | 0xa1 => "what was sent is not of the form that the TPM wants",
        0x8f | 0xa5 => "the session is not for this",
        0x92 => "the key has another scheme, or one that the TPM does not have",
        0x95 => "what was sent is of the wrong size: a digest, key or structure",
        0x9b => "the signature is wrong",
        0x9c => "the key does not fit its scheme or attributes",
        0x9d => "the policy is not fulfilled",
        0x9f => "it does not belong to this TPM and parent, or is damaged",
        0xa0 => "the ticket is not valid: it is of another TPM, or the TPM restarted since",
        0xa3 => "the authorisation has expired",
        0xa4 => "the policy allows another command only",
        0xa6 => "the TPM does not have this curve",
        0xa7 => "the point is not on the curve",
        // Warnings (table 19)
        0x901 => "too many sessions were started since an old one: flush sessions that are not needed (tpm2_flushcontext -s)",
        0x902..=0x906 => "the TPM has no free slot for another key or session: flush what is not needed (tpm2_flushcontext -t, -l, -s)",
        0x907 => "it is not allowed from this locality",
        0x908 | 0x90a | 0x922 => "the TPM is not ready: it is testing itself or starting up; try again in a moment",
        0x909 => "the command was cancelled by another program: try again",
        0x910..=0x91e => "a key or session that was named is not loaded any more: another program flushed it, or the TPM restarted",
        0x920 => "the TPM slows writes to its memory down, to protect it: try again in a while",
        0x921 => "the TPM is locked out after too many wrong passwords",
        0x923 => "the TPM's memory cannot be written now: try again in a while",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_can_meet_is_told_in_words() {
        for (code, words) in [
            (0x101, "failure mode"),
            (0x12d, "firmware is being updated"),
            (0x130, "wants a restart"),
            (0x143, "does not have this command"),
            (0x1d5, "wrong size"),
            (0x1df, "does not belong to this TPM"),
            (0x1e6, "does not have this curve"),
            (0x182, "attributes do not allow it"),
            (0x2c4, "out of range"),
            (0x2ca, "another type"),
            (0x2d2, "another scheme"),
            (0x3e0, "ticket is not valid"),
            (0x185, "hierarchy is switched off"),
            (0x18b, "nothing at this handle"),
            (0x901, "too many sessions"),
            (0x904, "no free slot"),
            (0x905, "no free slot"),
            (0x906, "no free slot"),
            (0x907, "locality"),
            (0x909, "cancelled"),
            (0x910, "not loaded any more"),
            (0x918, "not loaded any more"),
            (0x920, "slows writes"),
            (0x923, "cannot be written now"),
            (0xb0143, "does not have this command"),
            (0x000a_000a, "connection to the TPM broke"),
            (0x0007_0018, "TSS library"),
        ] {
            let told = in_words(code).unwrap_or_else(|| panic!("0x{code:x} is a number only"));
            assert!(told.contains(words), "0x{code:x}: {told}");
        }
        assert_eq!(in_words(0), None);
    }

    #[test]
    fn the_number_of_the_parameter_handle_or_session_is_not_part_of_what_happened() {
        // TPM_RC_VALUE of a parameter, a handle and a session.
        for code in [0x1c4, 0x2c4, 0xfc4, 0x184, 0x784, 0x984, 0xf84] {
            assert_eq!(of_tpm(code), Some(0x84), "0x{code:x}");
        }
        assert_eq!(of_tpm(0x000a_000a), None);
    }
}
