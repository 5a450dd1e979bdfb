//! Policies: of registers as they are now, and what a key's policy must come to.

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::object::kind::is_sealed;
use crate::object::pcr::is_empty;
use crate::object::policy::{Branch, PolicyCommand, Values, duplication, paths_of};
use crate::object::template::AuthPolicy;
use crate::{KeyKind, PcrBank, Policy, PolicyPlan, TpmError, TpmHandle, TpmKey};

impl TpmHandle {
    /// The policy of a plan: the registers as they are now where it gives no value. Where it leaves that open, the key's password is a part
    /// of it if `needs_password`.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn policy(&self, plan: impl Into<PolicyPlan>, needs_password: bool) -> Result<Policy, TpmError> {
        let plan = known(plan.into())?;
        self.run(move |device| device.run(|live| Ok(plan.policy(needs_password, &values_of(live, &plan, false)?)))).await
    }

    /// The plan with the registers' values as they are now where it gives none, and in which nothing is left open.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn with_values(&self, plan: impl Into<PolicyPlan>, needs_password: bool) -> Result<PolicyPlan, TpmError> {
        let plan = known(plan.into())?;
        self.run(move |device| device.run(|live| Ok(plan.with_values(needs_password, &values_of(live, &plan, false)?)))).await
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
        let (plan, auth_policy) = (known(plan.into())?, auth_policy.to_vec());
        self.run(move |device| device.policy_for(&plan, &auth_policy)).await
    }
}

/// What is asked for must be known, or it would be taken for nothing.
fn known(plan: PolicyPlan) -> Result<PolicyPlan, TpmError> {
    if plan.digest_alone().is_some() { Err(TpmError::PolicyUnknown) } else { Ok(plan) }
}

impl TpmKey {
    /// Whether its policy can be fulfilled now without its password, for what such a key is there for: to be unsealed, to make HMACs, to decrypt or to sign.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn opens_without_password(&self) -> Result<bool, TpmError> {
        self.run(|device, slot, source| {
            device.run(|live| {
                let key = live.loaded(slot, source)?;
                let operation = match KeyKind::of(&key.public) {
                    _ if is_sealed(&key.public) => "TPM2_Unseal",
                    Some(KeyKind::HmacSha256) => "TPM2_HMAC",
                    Some(KeyKind::RsaDecrypt2048) => "TPM2_RSA_Decrypt",
                    _ => "TPM2_Sign",
                };
                match live.route(&key, operation) {
                    Ok(route) => Ok(!route.needs_password()),
                    Err(TpmError::PolicyClosed(_)) => Ok(false),
                    Err(other) => Err(other),
                }
            })
        })
        .await
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

/// The policy of a new object, and what that makes of its authPolicy.
pub(super) fn policy_of(
    live: &mut Live,
    plan: Option<&PolicyPlan>,
    has_password: bool,
    is_movable: bool,
) -> Result<(Policy, AuthPolicy), TpmError> {
    match plan.filter(|plan| !plan.is_empty()) {
        None if is_movable => Ok((Policy::default(), AuthPolicy::Duplicate(duplication(true).digest()))),
        None => Ok((Policy::default(), AuthPolicy::None)),
        Some(plan) => {
            if let Some(digest) = plan.digest_alone() {
                return match is_movable {
                    false => Ok((Policy::default(), AuthPolicy::Use(digest))),
                    true => Err(TpmError::NotForThis {
                        kind: "a movable key".into(),
                        operation: "be made under a policy of which the digest alone is known",
                    }),
                };
            }
            let policy = plan.policy(has_password, &values_of(live, plan, false)?);
            if policy.needs_password() != has_password {
                return Err(TpmError::PolicyPassword { is_given: has_password });
            }
            if paths_of(&policy).is_none() {
                return Err(TpmError::PolicySize);
            }
            if !is_movable {
                let digest = policy.digest();
                return Ok((policy, AuthPolicy::Use(digest)));
            }
            // The one authPolicy is for both.
            // To be moved it takes what it takes to be used, and its password: else whoever boots anything took it out, and the registers bound nothing.
            let asks = (has_password && policy.may_do_without_password()).then_some(PolicyCommand::AuthValue);
            let moving = policy.0.iter().cloned().chain(asks).chain(duplication(false).0).collect();
            let branch = |name: &str, policy| Branch::Known { name: Some(name.to_owned()), policy };
            let branches = vec![branch("use", policy), branch("move", Policy(moving))];
            let policy = Policy(vec![PolicyCommand::Or(branches)]);
            let digest = policy.digest();
            Ok((policy, AuthPolicy::UseOrDuplicate(digest)))
        }
    }
}

/// What the registers hold now: those of which no value is given, or all.
fn values_of(live: &mut Live, plan: &PolicyPlan, with_given: bool) -> Result<Values, TpmError> {
    let asked = plan.registers().into_iter().filter(|(_, _, value)| with_given || value.is_none());
    asked.map(|(bank, register, _)| live.read_pcr(bank, register).map(|value| ((bank, register), value))).collect()
}
