//! A policy as it is asked for, before the TPM has told the values of the registers that are taken as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::command_code::CommandCode;
use super::tree::{Authorize, Branch, Policy, PolicyCommand, Secret, Signed};
use super::verifying_key::VerifyingKey;
use crate::object::name::hex;
use crate::object::pcr::{PcrBank, PcrCommand, PcrSelection, PcrSelectionError};

/// What each register holds.
pub(crate) type Values = BTreeMap<(PcrBank, u8), Vec<u8>>;

/// One step of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One TPM2_PolicyPCR over registers, bank by bank.
    Pcrs(Vec<PcrSelection>),
    /// TPM2_PolicyOR, with the names of its branches.
    Or(Vec<(Option<String>, PolicyPlan)>),
    /// All else, of which the TPM need not be asked anything.
    Command(PolicyCommand),
}

/// What must be fulfilled to use a key: registers (PCR), with values or as they are, its password, and all else that a policy can ask for. Made in code,
/// as here, read from the TSS policy language ([`from_json`](Self::from_json)), or of registers alone, by [`From`] and [`FromStr`].
///
/// ```
/// # use ekm_otp_tpm::{PcrSelectionError, PolicyPlan};
/// let value = "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b";
/// let boot = PolicyPlan::new().pcrs(format!("sha256:23={value}").parse()?);
/// let recovery = PolicyPlan::new().password();
/// let plan = PolicyPlan::new().or([("boot", boot), ("recovery", recovery)]);
/// assert!(plan.given().is_some_and(|policy| policy.needs_password()));
/// # Ok::<(), PcrSelectionError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPlan {
    steps: Vec<Step>,
    /// Whether it leaves open what [`From`] does.
    is_open: bool,
    /// What it comes to, where nothing else is known of it.
    digest: Option<[u8; 32]>,
}

impl PolicyPlan {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A policy of which its digest is known and nothing else, as tpm2-tools keep it in a file: a key can be made under it, and whoever uses the key
    /// states what it asks for.
    #[must_use]
    pub fn of_digest(digest: [u8; 32]) -> Self {
        Self { digest: Some(digest), ..Self::default() }
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.digest.is_none()
    }

    /// Adds one TPM2_PolicyPCR over these registers. One for each register names the one that has changed; one for all is what others make.
    #[must_use]
    pub fn pcrs(self, registers: PcrSelection) -> Self {
        self.and(Step::Pcrs(vec![registers]))
    }

    /// Adds TPM2_PolicyAuthValue: the key's password.
    #[must_use]
    pub fn password(self) -> Self {
        self.command(PolicyCommand::AuthValue)
    }

    /// Adds TPM2_PolicyOR: one of these policies, two to eight of them, by names for people. Each goes on from what stands before.
    #[must_use]
    pub fn or<'a>(self, branches: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let named = |(name, plan): (&str, Self)| (Some(name.to_owned()).filter(|name| !name.is_empty()), plan);
        self.and(Step::Or(branches.into_iter().map(named).collect()))
    }

    /// Adds TPM2_PolicyCommandCode: for this command only.
    #[must_use]
    pub fn command_code(self, command: CommandCode) -> Self {
        self.command(PolicyCommand::CommandCode(command))
    }

    /// Adds TPM2_PolicyLocality: from these localities only (TPMA_LOCALITY: a bit each for 0 to 4, or a number from 32 on).
    #[must_use]
    pub fn locality(self, localities: u8) -> Self {
        self.command(PolicyCommand::Locality(localities))
    }

    /// Adds TPM2_PolicySecret: the password of a hierarchy (TPM_RH) or, with its name, of what is at a persistent handle.
    #[must_use]
    pub fn secret(self, handle: u32, name: Option<Vec<u8>>, policy_ref: Vec<u8>) -> Self {
        let name = name.unwrap_or_else(|| handle.to_be_bytes().to_vec());
        self.command(PolicyCommand::Secret(Secret { handle: Some(handle), name, policy_ref }))
    }

    /// Adds TPM2_PolicySigned: whoever has this key's private part signs each use.
    #[must_use]
    pub fn signed(self, key: VerifyingKey, policy_ref: Vec<u8>) -> Self {
        self.command(PolicyCommand::Signed(Signed { key, policy_ref }))
    }

    /// TPM2_PolicyAuthorize: any policy that this key has signed, today's and later ones. It stands first, since it begins anew.
    #[must_use]
    pub fn authorized_by(key: VerifyingKey, policy_ref: Vec<u8>) -> Self {
        Self::new().command(PolicyCommand::Authorize(Authorize { key, policy_ref, approved: Vec::new() }))
    }

    /// Registers in one step where that is left open, as tpm2-tools make it, and no password.
    #[must_use]
    pub fn together(mut self) -> Self {
        self.is_open = false;
        self
    }

    /// Adds all steps of another plan.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        other.read_steps(false).into_iter().fold(self, Self::and)
    }

    pub(super) fn command(self, command: PolicyCommand) -> Self {
        self.and(Step::Command(command))
    }

    pub(super) fn and(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What it comes to, where nothing else is known of it ([`of_digest`](Self::of_digest)).
    #[must_use]
    pub fn digest_alone(&self) -> Option<[u8; 32]> {
        self.digest
    }

    /// The policy, where the TPM need not be asked for it: every register has a value, and nothing is left open.
    #[must_use]
    pub fn given(&self) -> Option<Policy> {
        let is_given = self.registers().iter().all(|(_, _, value)| value.is_some());
        (is_given && !self.is_open && self.digest.is_none()).then(|| policy(&self.steps, &Values::new()))
    }

    /// All registers that are named, in all branches.
    pub(crate) fn registers(&self) -> Vec<(PcrBank, u8, Option<&[u8]>)> {
        let mut registers = self.common_registers();
        for step in &self.steps {
            if let Step::Or(branches) = step {
                registers.extend(branches.iter().flat_map(|(_, plan)| plan.registers()));
            }
        }
        registers
    }

    /// Those that every way through it names.
    pub(super) fn common_registers(&self) -> Vec<(PcrBank, u8, Option<&[u8]>)> {
        let selections = self.steps.iter().filter_map(|step| match step {
            Step::Pcrs(selections) => Some(selections),
            Step::Or(_) | Step::Command(_) => None,
        });
        selections.flatten().flat_map(|one| one.registers().map(|(register, value)| (one.bank(), register, value))).collect()
    }

    /// The policy of these values. What is left open: one command for each register, so that the one that changes can be named, and
    /// the password where there is one.
    pub(crate) fn policy(&self, needs_password: bool, values: &Values) -> Policy {
        policy(&self.read_steps(needs_password), values)
    }

    /// The policies that it may mean.
    pub(crate) fn policies(&self, values: &Values) -> Vec<Policy> {
        if !self.is_open {
            return vec![policy(&self.steps, values)];
        }
        let readings = [(false, false), (true, false), (false, true), (true, true)];
        readings.map(|(needs_password, is_joint)| policy(&self.reading(needs_password, is_joint), values)).into()
    }

    /// The steps, as they are read where a new key is made.
    pub(super) fn read_steps(&self, needs_password: bool) -> Vec<Step> {
        if self.is_open { self.reading(needs_password, false) } else { self.steps.clone() }
    }

    fn reading(&self, needs_password: bool, is_joint: bool) -> Vec<Step> {
        let one_by_one = |step: &Step| match step {
            Step::Pcrs(selections) if !is_joint => {
                selections.iter().flat_map(PcrSelection::one_by_one).map(|one| Step::Pcrs(vec![one])).collect()
            }
            other => vec![other.clone()],
        };
        let password = needs_password.then_some(Step::Command(PolicyCommand::AuthValue));
        self.steps.iter().flat_map(one_by_one).chain(password).collect()
    }

    /// The registers of which a value is given, and another is there, in whatever branch is taken.
    pub(crate) fn differing(&self, values: &Values) -> Vec<String> {
        let given = self.common_registers().into_iter().filter_map(|(bank, register, value)| value.map(|value| (bank, register, value)));
        let differing = given.filter(|(bank, register, value)| values.get(&(*bank, *register)).is_none_or(|there| there != value));
        differing.map(|(bank, register, _)| format!("{bank}:{register}")).collect()
    }

    /// Whether any register has a value.
    pub(crate) fn gives_values(&self) -> bool {
        self.registers().iter().any(|(_, _, value)| value.is_some())
    }
}

/// The commands, with the values that are given and otherwise those that are there.
fn policy(steps: &[Step], values: &Values) -> Policy {
    let of_bank = |selection: &PcrSelection| {
        let bank = selection.bank();
        let value = |(register, given): (u8, Option<&[u8]>)| {
            let there = || values.get(&(bank, register)).cloned().unwrap_or_default();
            (register, given.map_or_else(there, <[u8]>::to_vec))
        };
        (bank, selection.registers().map(value).collect())
    };
    let branch = |(name, plan): &(Option<String>, PolicyPlan)| match plan.digest {
        Some(digest) => Branch::Unknown(digest),
        None => Branch::Known { name: name.clone(), policy: plan.policy(false, values) },
    };
    let command = |step: &Step| match step {
        Step::Pcrs(selections) => PolicyCommand::Pcr(PcrCommand::of_all(selections.iter().map(of_bank).collect())),
        Step::Or(branches) => PolicyCommand::Or(branches.iter().map(branch).collect()),
        Step::Command(command) => command.clone(),
    };
    Policy(steps.iter().map(command).collect())
}

/// A policy as it stands.
impl From<Policy> for PolicyPlan {
    fn from(policy: Policy) -> Self {
        policy.0.into_iter().fold(Self::new(), Self::command)
    }
}

/// Registers alone, one by one or, as tpm2-tools make it, all together, with the key's password or without: for a new key one by one, and
/// with the password where it has one.
impl From<PcrSelection> for PolicyPlan {
    fn from(registers: PcrSelection) -> Self {
        Self { steps: vec![Step::Pcrs(vec![registers])], is_open: true, digest: None }
    }
}

/// Registers alone, as [`PcrSelection`] reads them, and of several banks as tpm2-tools write them: `sha256:0,7+sha1:3`.
impl FromStr for PolicyPlan {
    type Err = PcrSelectionError;

    fn from_str(text: &str) -> Result<Self, PcrSelectionError> {
        let mut selections: Vec<PcrSelection> = Vec::new();
        // A plus stands before a bank, or for a comma.
        let mut banks: Vec<String> = Vec::new();
        for part in text.split('+') {
            match banks.last_mut() {
                Some(bank) if !part.contains(':') => *bank += &format!("+{part}"),
                _ => banks.push(part.to_owned()),
            }
        }
        for bank in banks {
            let selection: PcrSelection = bank.parse()?;
            if selections.iter().any(|known| known.bank() == selection.bank()) {
                return Err(PcrSelectionError::BankTwice(selection.bank()));
            }
            selections.push(selection);
        }
        Ok(Self { steps: vec![Step::Pcrs(selections)], is_open: true, digest: None })
    }
}

/// In words.
impl fmt::Display for PolicyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(digest) = self.digest {
            return write!(f, "what comes to {}", hex(&digest));
        }
        if self.steps.is_empty() {
            return f.write_str("none");
        }
        let words: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        f.write_str(&words.join(", and "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcrs(selections) => f.write_str(&selections.iter().map(PcrSelection::to_string).collect::<Vec<_>>().join("+")),
            Self::Or(branches) => {
                let branch = |(name, plan): &(Option<String>, PolicyPlan)| match name {
                    Some(name) => format!("({}: {plan})", name.escape_debug()),
                    None => format!("({plan})"),
                };
                write!(f, "one of {}", branches.iter().map(branch).collect::<Vec<_>>().join(" or "))
            }
            Self::Command(command) => command.fmt(f),
        }
    }
}
