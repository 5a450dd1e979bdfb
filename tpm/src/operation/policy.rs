//! Policies: of registers as they are now, and what a key's policy must come to.

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::object::pcr::is_empty;
use crate::object::policy::duplication_digest;
use crate::object::policy_plan::Values;
use crate::object::template::AuthPolicy;
use crate::{NewKey, PcrBank, Policy, PolicyPlan, TpmError, TpmHandle};

impl TpmHandle {
    /// The policy of a plan: the registers as they are now where it gives no value. Where it leaves that open, the key's password is a part
    /// of it if `needs_password`.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn policy(&self, plan: impl Into<PolicyPlan>, needs_password: bool) -> Result<Policy, TpmError> {
        let plan = plan.into();
        self.run(move |device| device.run(|live| Ok(plan.policy(needs_password, &values_of(live, &plan, false)?)))).await
    }

    /// Those of the registers, of which no value is given, that nothing was measured into: whoever boots anything has them so.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn empty_registers(&self, plan: impl Into<PolicyPlan>) -> Result<Vec<(PcrBank, u8)>, TpmError> {
        let plan = plan.into();
        self.run(move |device| {
            let values = device.run(|live| values_of(live, &plan, false))?;
            Ok(values.into_iter().filter(|(_, value)| is_empty(value)).map(|(register, _)| register).collect())
        })
        .await
    }

    /// The policy that a key asks for, if it is this plan's: for keys whose file does not state their policy. `auth_policy` is the key's
    /// ([`KeyDescription::auth_policy`](crate::KeyDescription::auth_policy)).
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`OtherPolicy`](TpmError::OtherPolicy) where it asks for something else, [`PcrChanged`](TpmError::PcrChanged) where
    /// it asks for values that the registers do not have.
    pub async fn policy_for(&self, plan: impl Into<PolicyPlan>, auth_policy: &[u8]) -> Result<Policy, TpmError> {
        let (plan, auth_policy) = (plan.into(), auth_policy.to_vec());
        self.run(move |device| device.policy_for(&plan, &auth_policy)).await
    }
}

impl Device {
    fn policy_for(&mut self, plan: &PolicyPlan, auth_policy: &[u8]) -> Result<Policy, TpmError> {
        let now = self.run(|live| values_of(live, plan, true))?;
        let differing = plan.differing(&now);
        match plan.policies(&now).into_iter().find(|policy| policy.digest() == *auth_policy) {
            Some(policy) if differing.is_empty() => Ok(policy),
            Some(_) => Err(TpmError::PcrChanged(differing.join(", "))),
            None => Err(TpmError::OtherPolicy { plan: plan.to_string(), differing: plan.gives_values().then_some(differing) }),
        }
    }
}

pub(super) fn policy_of(live: &mut Live, new: &NewKey) -> Result<(Policy, AuthPolicy), TpmError> {
    match new.policy.as_ref().filter(|plan| !plan.is_empty()) {
        None if new.movable => Ok((Policy::default(), AuthPolicy::Duplicate(duplication_digest(true)))),
        None => Ok((Policy::default(), AuthPolicy::None)),
        // Either needs the one authPolicy; both would take a TPM2_PolicyOR.
        Some(_) if new.movable => {
            Err(TpmError::NotForThis { kind: "movable".into(), operation: "be bound to registers (PCR): leave one of the two out" })
        }
        Some(plan) => {
            let policy = plan.policy(new.password.is_some(), &values_of(live, plan, false)?);
            if policy.needs_password() != new.password.is_some() {
                return Err(TpmError::PolicyPassword { is_given: new.password.is_some() });
            }
            let digest = policy.digest();
            Ok((policy, AuthPolicy::Use(digest)))
        }
    }
}

/// What the registers hold now: those of which no value is given, or all.
fn values_of(live: &mut Live, plan: &PolicyPlan, with_given: bool) -> Result<Values, TpmError> {
    let asked = plan.registers().filter(|(_, _, value)| with_given || value.is_none());
    asked.map(|(bank, register, _)| live.read_pcr(bank, register).map(|value| ((bank, register), value))).collect()
}
