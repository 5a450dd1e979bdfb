//! Policies, fulfilled anew for each command (TCG part 1, 19.7).

use sha2::Digest as _;
use tss_esapi::attributes::LocalityAttributes;
use tss_esapi::constants::CommandCode;
use tss_esapi::handles::{AuthHandle, ObjectHandle};
use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::{Digest, DigestList, Name, Nonce};

use super::live::{EMPTY_PASSWORD, Live};
use super::loaded::Loaded;
use super::route::{Act, Route};
use crate::TpmError;
use crate::error::Protected;
use crate::object::pcr::{PcrCommand, is_empty};
use crate::object::policy::{PolicyCommand, Secret, Signed};

/// With the four bytes of the expiration still shorter than a policy's digest.
const MAX_SIGNED_REF: usize = 27;

impl Live {
    pub(crate) fn restart(&mut self, session: PolicySession) -> Result<(), TpmError> {
        self.context.execute_without_session(|c| c.policy_restart(session)).map_err(|e| TpmError::of("TPM2_PolicyRestart", e))
    }

    /// Fulfils the key's policy anew: a policy session is good for one command.
    pub(crate) fn follow(&mut self, session: PolicySession, key: &Loaded, route: Route) -> Result<(), TpmError> {
        self.restart(session)?;
        for act in route.0 {
            match act {
                Act::Command(command) => self.run_command(session, key, &command)?,
                Act::Or(digests) => {
                    let done = self.context.execute_without_session(|c| {
                        let mut list = DigestList::new();
                        for digest in digests {
                            list.add(Digest::try_from(digest.to_vec())?)?;
                        }
                        c.policy_or(session, list)
                    });
                    done.map_err(|e| TpmError::of("TPM2_PolicyOR", e))?;
                }
                Act::Authorize { key, policy_ref, approved, ticket } => {
                    let done = self.context.execute_without_session(|c| {
                        let (approved, policy_ref) = (Digest::try_from(approved.to_vec())?, Nonce::try_from(policy_ref)?);
                        c.policy_authorize(session, approved, policy_ref, &Name::try_from(key.name().to_vec())?, ticket)
                    });
                    done.map_err(|e| TpmError::of("TPM2_PolicyAuthorize", e))?;
                }
            }
        }
        Ok(())
    }

    fn run_command(&mut self, session: PolicySession, key: &Loaded, command: &PolicyCommand) -> Result<(), TpmError> {
        match command {
            PolicyCommand::Secret(secret) => return self.show_secret(session, secret),
            PolicyCommand::Signed(signed) => return self.sign_use(session, key, signed),
            _ => {}
        }
        let operation = match command {
            PolicyCommand::Pcr(_) => "TPM2_PolicyPCR",
            PolicyCommand::CommandCode(_) => "TPM2_PolicyCommandCode",
            PolicyCommand::Locality(_) => "TPM2_PolicyLocality",
            PolicyCommand::NameHash(_) => "TPM2_PolicyNameHash",
            PolicyCommand::DuplicationSelect { .. } => "TPM2_PolicyDuplicationSelect",
            PolicyCommand::NvWritten(_) => "TPM2_PolicyNvWritten",
            _ => "TPM2_PolicyAuthValue",
        };
        let done = self.context.execute_without_session(|c| match command {
            PolicyCommand::Pcr(pcr) => c.policy_pcr(session, Digest::try_from(pcr.digest.clone())?, pcr.list()?),
            PolicyCommand::CommandCode(code) => c.policy_command_code(session, CommandCode::try_from(code.0)?),
            PolicyCommand::Locality(bits) => c.policy_locality(session, LocalityAttributes(*bits)),
            PolicyCommand::NameHash(names) => c.policy_name_hash(session, Digest::try_from(names.to_vec())?),
            PolicyCommand::DuplicationSelect { object, new_parent, includes_object } => {
                let (object, new_parent) = (Name::try_from(object.clone())?, Name::try_from(new_parent.clone())?);
                c.policy_duplication_select(session, object, new_parent, *includes_object)
            }
            PolicyCommand::NvWritten(is_written) => c.policy_nv_written(session, *is_written),
            _ => c.policy_auth_value(session),
        });
        done.map_err(|e| match (TpmError::of(operation, e), command) {
            // TPM_RC_VALUE: the registers do not hash to the digest.
            (TpmError::Command { code, .. }, PolicyCommand::Pcr(_)) if code & 0xbf == 0x84 => self.changed(key),
            (other, _) => other,
        })
    }

    /// TPM2_PolicySecret. A password travels in no clear session.
    fn show_secret(&mut self, session: PolicySession, secret: &Secret) -> Result<(), TpmError> {
        let handle = self.secret_handle(secret)?;
        let handle =
            handle.ok_or_else(|| TpmError::PolicyClosed("the object whose password is wanted is at no persistent handle".into()))?;
        let password = self.secret_password(handle);
        let (object, protected, is_persistent) = match handle {
            0x4000_0001 => (ObjectHandle::Owner, Protected::Owner, false),
            0x4000_000b => (ObjectHandle::Endorsement, Protected::Endorsement, false),
            0x4000_000a => (ObjectHandle::Lockout, Protected::Other(handle), false),
            0x4000_000c => (ObjectHandle::Platform, Protected::Other(handle), false),
            0x4000_0007 => (ObjectHandle::Null, Protected::Other(handle), false),
            _ => (self.persistent(handle)?, Protected::Other(handle), true),
        };
        let shown = self.show(session, object, password.as_ref(), &secret.policy_ref);
        let mut object = object;
        if is_persistent {
            self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing a persistent key", e))?;
        }
        shown.map_err(|e| self.explain(protected, password.is_some(), is_persistent, e))
    }

    fn show(
        &mut self,
        session: PolicySession,
        object: ObjectHandle,
        password: Option<&crate::Password>,
        policy_ref: &[u8],
    ) -> Result<(), TpmError> {
        let authorisation = match password {
            None => EMPTY_PASSWORD,
            Some(password) => {
                self.set_auth(object, password)?;
                Some(self.session_without_parent()?)
            }
        };
        let shown = self.context.execute_with_session(authorisation, |c| {
            c.policy_secret(
                session,
                AuthHandle::from(object),
                Nonce::default(),
                Digest::default(),
                Nonce::try_from(policy_ref.to_vec())?,
                None,
            )
        });
        shown.map(|_| ()).map_err(|e| TpmError::of("TPM2_PolicySecret", e))
    }

    /// TPM2_PolicySigned, without the session's nonce (TCG part 3, 23.3: aHash of no nonce, no expiration, no cpHash, and the reference).
    fn sign_use(&mut self, session: PolicySession, key: &Loaded, signed: &Signed) -> Result<(), TpmError> {
        // A longer one, which whoever writes the key's file chooses, could make of this signature one over a policy (TPM2_PolicyAuthorize signs 32 bytes and a reference).
        if signed.policy_ref.len() > MAX_SIGNED_REF {
            return Err(TpmError::PolicyClosed(format!(
                "its use must be signed for a reference of more than {MAX_SIGNED_REF} bytes, which is not done"
            )));
        }
        let signers = self.settings.policy_signers.clone();
        let signer = signers.iter().find(|signer| signer.public_pem().trim() == signed.key.pem().trim());
        let signer = signer.ok_or_else(|| TpmError::PolicyClosed("its use must be signed, and the private key is not given".into()))?;
        let digest: [u8; 32] = sha2::Sha256::new().chain_update([0; 4]).chain_update(&signed.policy_ref).finalize().into();
        let signature =
            signer.sign(signed.key.scheme(), &digest).map_err(|why| TpmError::PolicyClosed(format!("its use cannot be signed: {why}")))?;
        let signature =
            signed.key.signature(&signature).ok_or_else(|| TpmError::PolicyClosed("what signs its use makes no such signature".into()))?;
        let encrypting = self.session_for(key.parent)?;
        let handle = self.load_verifying(&signed.key)?;
        let shown = self.context.execute_with_session(Some(encrypting), |c| {
            let policy_ref = Nonce::try_from(signed.policy_ref.clone())?;
            c.policy_signed(session, handle.into(), Nonce::default(), Digest::default(), policy_ref, None, signature)
        });
        self.flush(handle.into())?;
        shown.map(|_| ()).map_err(|e| TpmError::of("TPM2_PolicySigned", e))
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
                // Of registers in one step it is not known which.
                let several = pcr.selection.iter().map(|(_, registers)| registers.len()).sum::<usize>() > 1;
                let named = if several { format!("one or more of {pcr}") } else { pcr.to_string() };
                changed.push(if are_empty { format!("{named} (nothing is measured into it now)") } else { named });
            }
        }
        TpmError::PcrChanged(changed.join(", "))
    }

    pub(crate) fn is_fulfilled(&mut self, pcr: &PcrCommand) -> bool {
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
