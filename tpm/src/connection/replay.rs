//! Policies, fulfilled anew for each command (TCG part 1, 19.7).

use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::Digest;

use super::live::Live;
use super::loaded::Loaded;
use crate::TpmError;
use crate::object::pcr::{PcrCommand, is_empty};
use crate::object::policy::PolicyCommand;

impl Live {
    pub(crate) fn restart(&mut self, session: PolicySession) -> Result<(), TpmError> {
        self.context.execute_without_session(|c| c.policy_restart(session)).map_err(|e| TpmError::of("TPM2_PolicyRestart", e))
    }

    /// Fulfils the key's policy anew: a policy session is good for one command.
    pub(super) fn replay(&mut self, session: PolicySession, key: &Loaded) -> Result<(), TpmError> {
        self.restart(session)?;
        for command in &key.policy.0 {
            let done = self.context.execute_without_session(|c| match command {
                PolicyCommand::Pcr(pcr) => c.policy_pcr(session, Digest::try_from(pcr.digest.clone())?, pcr.list()?),
                PolicyCommand::AuthValue | PolicyCommand::Password => c.policy_auth_value(session),
            });
            done.map_err(|e| match (TpmError::of("TPM2_PolicyPCR", e), command) {
                // TPM_RC_VALUE: the registers do not hash to the digest.
                (TpmError::Command { code, .. }, PolicyCommand::Pcr(_)) if code & 0xbf == 0x84 => self.changed(key),
                (other, _) => other,
            })?;
        }
        Ok(())
    }

    /// Which registers are not as the policy wants them, as far as that can be known: one by one where they were asked for one by one.
    fn changed(&mut self, key: &Loaded) -> TpmError {
        let mut changed = Vec::new();
        for pcr in key.policy.pcrs() {
            let mut are_empty = true;
            for (bank, register) in pcr.selection.iter().flat_map(|(bank, registers)| registers.iter().map(|register| (*bank, *register))) {
                match self.read_pcr(bank, register) {
                    Ok(value) => are_empty &= is_empty(&value),
                    Err(error @ TpmError::NoBank(_)) => return error,
                    Err(_) => are_empty = false,
                }
            }
            if !self.is_fulfilled(pcr) {
                changed.push(if are_empty { format!("{pcr} (nothing is measured into it now)") } else { pcr.to_string() });
            }
        }
        TpmError::PcrChanged(changed.join(", "))
    }

    pub(crate) fn is_fulfilled(&mut self, pcr: &PcrCommand) -> bool {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for (bank, registers) in &pcr.selection {
            for register in registers {
                match self.read_pcr(*bank, *register) {
                    Ok(value) => hash.update(&value),
                    Err(_) => return false,
                }
            }
        }
        hash.finalize()[..] == pcr.digest
    }
}
