//! The policies that new and foreign keys ask for, from the registers' values.

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::object::pcr::is_empty;
use crate::object::policy::duplication_digest;
use crate::object::template::AuthPolicy;
use crate::{NewKey, PcrSelection, Policy, TpmError, TpmHandle};

impl TpmHandle {
    /// The policy that asks for these registers, as they are now where no value is given, and for the key's password where `needs_password`.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn policy(&self, pcrs: PcrSelection, needs_password: bool) -> Result<Policy, TpmError> {
        self.run(move |device| device.policy_now(&pcrs, needs_password)).await
    }

    /// Those of the registers, of which no value is given, that nothing was measured into: whoever boots anything has them so.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn empty_registers(&self, pcrs: PcrSelection) -> Result<Vec<u8>, TpmError> {
        self.run(move |device| device.empty_registers(&pcrs)).await
    }

    /// The policy that a key asks for, if it consists of these registers as they are now (or as they are given), one by one or, as
    /// tpm2-tools make it, all together, with the key's password or without: for keys whose file does not state their policy. `auth_policy` is the key's
    /// ([`KeyDescription::auth_policy`](crate::KeyDescription::auth_policy)).
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`OtherPolicy`](TpmError::OtherPolicy) where it asks for something else.
    pub async fn policy_for(&self, pcrs: PcrSelection, auth_policy: &[u8]) -> Result<Policy, TpmError> {
        let auth_policy = auth_policy.to_vec();
        self.run(move |device| device.policy_for(&pcrs, &auth_policy)).await
    }
}

impl Device {
    fn empty_registers(&mut self, selection: &PcrSelection) -> Result<Vec<u8>, TpmError> {
        self.run(|live| {
            let as_they_are = selection.registers().filter(|(_, value)| value.is_none());
            let read = |(register, _)| live.read_pcr(selection.bank(), register).map(|value| (register, value));
            let values = as_they_are.map(read).collect::<Result<Vec<_>, _>>()?;
            Ok(values.into_iter().filter(|(_, value)| is_empty(value)).map(|(register, _)| register).collect())
        })
    }

    fn policy_for(&mut self, selection: &PcrSelection, auth_policy: &[u8]) -> Result<Policy, TpmError> {
        let values = self.run(|live| values_of(live, selection))?;
        let candidates = [(false, false), (true, false), (false, true), (true, true)];
        let mut policies =
            candidates.map(|(needs_password, is_joint)| Policy::over(selection, &values, needs_password, is_joint)).into_iter();
        policies.find(|policy| policy.digest() == *auth_policy).ok_or_else(|| TpmError::OtherPolicy(selection.to_string()))
    }

    /// The values of registers now.
    fn policy_now(&mut self, selection: &PcrSelection, needs_password: bool) -> Result<Policy, TpmError> {
        self.run(|live| Ok(Policy::over(selection, &values_of(live, selection)?, needs_password, false)))
    }
}

pub(super) fn policy_of(live: &mut Live, new: &NewKey) -> Result<(Policy, AuthPolicy), TpmError> {
    match &new.pcrs {
        None if new.movable => Ok((Policy::default(), AuthPolicy::Duplicate(duplication_digest(true)))),
        None => Ok((Policy::default(), AuthPolicy::None)),
        // Either needs the one authPolicy; both would take a TPM2_PolicyOR.
        Some(_) if new.movable => {
            Err(TpmError::NotForThis { kind: "movable".into(), operation: "be bound to registers (PCR): leave one of the two out" })
        }
        Some(selection) => {
            let policy = Policy::over(selection, &values_of(live, selection)?, new.password.is_some(), false);
            let digest = policy.digest();
            Ok((policy, AuthPolicy::Use(digest)))
        }
    }
}

/// The registers' values: those that are given, and the others as they are now.
fn values_of(live: &mut Live, selection: &PcrSelection) -> Result<Vec<(u8, Vec<u8>)>, TpmError> {
    let value = |(register, value): (u8, Option<&[u8]>)| match value {
        Some(value) => Ok((register, value.to_vec())),
        None => live.read_pcr(selection.bank(), register).map(|value| (register, value)),
    };
    selection.registers().map(value).collect()
}
