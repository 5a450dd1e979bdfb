//! A policy as it is asked for, before the TPM has told the values of the registers that are taken as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::pcr::PcrCommand;
use super::policy::PolicyCommand;
use super::{PcrBank, PcrSelection, PcrSelectionError, Policy};

/// What each register holds.
pub(crate) type Values = BTreeMap<(PcrBank, u8), Vec<u8>>;

/// One step of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One TPM2_PolicyPCR over registers, bank by bank.
    Pcrs(Vec<PcrSelection>),
    /// TPM2_PolicyAuthValue
    AuthValue,
    /// TPM2_PolicyPassword
    Password,
}

/// What must be fulfilled to use a key: registers (PCR), with values or as they are, and its password. Made in code, as here, read from the TSS
/// policy language ([`from_json`](Self::from_json)), or of registers alone, by [`From`] and [`FromStr`].
///
/// ```
/// # use ekm_otp_tpm::{PcrSelectionError, PolicyPlan};
/// let value = "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b";
/// let plan = PolicyPlan::new().pcrs(format!("sha256:23={value}").parse()?).password();
/// assert!(plan.given().is_some_and(|policy| policy.needs_password()));
/// # Ok::<(), PcrSelectionError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPlan {
    steps: Vec<Step>,
    /// Whether it leaves open what [`From`] does.
    is_open: bool,
}

impl PolicyPlan {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds one TPM2_PolicyPCR over these registers. One for each register names the one that has changed; one for all is what others make.
    #[must_use]
    pub fn pcrs(self, registers: PcrSelection) -> Self {
        self.and(Step::Pcrs(vec![registers]))
    }

    /// Adds TPM2_PolicyAuthValue: the key's password.
    #[must_use]
    pub fn password(self) -> Self {
        self.and(Step::AuthValue)
    }

    pub(super) fn and(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The policy, where the TPM need not be asked for it: every register has a value, and nothing is left open.
    #[must_use]
    pub fn given(&self) -> Option<Policy> {
        let is_given = self.registers().all(|(_, _, value)| value.is_some());
        (is_given && !self.is_open).then(|| policy(&self.steps, &Values::new()))
    }

    pub(crate) fn registers(&self) -> impl Iterator<Item = (PcrBank, u8, Option<&[u8]>)> {
        let selections = self.steps.iter().filter_map(|step| match step {
            Step::Pcrs(selections) => Some(selections),
            Step::AuthValue | Step::Password => None,
        });
        let of_bank = |one: &'_ PcrSelection| one.bank();
        selections.flatten().flat_map(move |one| one.registers().map(move |(register, value)| (of_bank(one), register, value)))
    }

    /// The policy of these values. What is left open: one command for each register, so that the one that changes can be named, and
    /// the password where there is one.
    pub(crate) fn policy(&self, needs_password: bool, values: &Values) -> Policy {
        match self.is_open {
            true => policy(&self.reading(needs_password, false), values),
            false => policy(&self.steps, values),
        }
    }

    /// The policies that it may mean.
    pub(crate) fn policies(&self, values: &Values) -> Vec<Policy> {
        if !self.is_open {
            return vec![policy(&self.steps, values)];
        }
        let readings = [(false, false), (true, false), (false, true), (true, true)];
        readings.map(|(needs_password, is_joint)| policy(&self.reading(needs_password, is_joint), values)).into()
    }

    fn reading(&self, needs_password: bool, is_joint: bool) -> Vec<Step> {
        let one_by_one = |step: &Step| match step {
            Step::Pcrs(selections) if !is_joint => {
                selections.iter().flat_map(PcrSelection::one_by_one).map(|one| Step::Pcrs(vec![one])).collect()
            }
            other => vec![other.clone()],
        };
        self.steps.iter().flat_map(one_by_one).chain(needs_password.then_some(Step::AuthValue)).collect()
    }

    /// The registers of which a value is given, and another is there.
    pub(crate) fn differing(&self, values: &Values) -> Vec<String> {
        let given = self.registers().filter_map(|(bank, register, value)| value.map(|value| (bank, register, value)));
        let differing = given.filter(|(bank, register, value)| values.get(&(*bank, *register)).is_none_or(|there| there != value));
        differing.map(|(bank, register, _)| format!("{bank}:{register}")).collect()
    }

    /// Whether any register has a value.
    pub(crate) fn gives_values(&self) -> bool {
        self.registers().any(|(_, _, value)| value.is_some())
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
    let command = |step: &Step| match step {
        Step::Pcrs(selections) => PolicyCommand::Pcr(PcrCommand::of_all(selections.iter().map(of_bank).collect())),
        Step::AuthValue => PolicyCommand::AuthValue,
        Step::Password => PolicyCommand::Password,
    };
    Policy(steps.iter().map(command).collect())
}

/// Registers alone, one by one or, as tpm2-tools make it, all together, with the key's password or without: for a new key one by one, and
/// with the password where it has one.
impl From<PcrSelection> for PolicyPlan {
    fn from(registers: PcrSelection) -> Self {
        Self { steps: vec![Step::Pcrs(vec![registers])], is_open: true }
    }
}

/// Registers alone, as [`PcrSelection`] reads them.
impl FromStr for PolicyPlan {
    type Err = PcrSelectionError;

    fn from_str(text: &str) -> Result<Self, PcrSelectionError> {
        text.parse().map(PcrSelection::into)
    }
}

/// In words.
impl fmt::Display for PolicyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.steps.iter().map(|step| match step {
            Step::Pcrs(selections) => selections.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"),
            Step::AuthValue | Step::Password => "the key's password".to_owned(),
        });
        f.write_str(&words.collect::<Vec<_>>().join(", and "))
    }
}
