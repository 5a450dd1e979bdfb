//! The states that are allowed, by name: a document is in one where each register that the state names has its value.

use super::{PCR_LEN, Pcrs};
use crate::hex::unhex;
use crate::json::Members;
use crate::same::same;

/// Named states, in order.
///
/// As JSON: an object from names to objects from registers to values in hexadecimal digits. A register is `"4"` or `"PCR4"`.
///
/// ```json
/// { "release 41": { "PCR4": "1a1f…", "PCR7": "9844…" },
///   "release 42": { "PCR4": "0c5e…", "PCR7": "9844…" } }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States(Vec<(String, Pcrs)>);

/// Why a file holds no states.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatesError {
    /// Not JSON, or no object of objects.
    #[error("the file of states is no JSON object from names to registers: {0}")]
    Syntax(String),
    /// None: nothing would ever match.
    #[error("the file of states holds none")]
    None,
    /// A state without registers would match everything.
    #[error("the state {0:?} names no register, so that everything would be in it")]
    Empty(String),
    /// A register twice, in two spellings.
    #[error("the state {state:?} names register {register} twice")]
    Twice {
        /// The state.
        state: String,
        /// Its register.
        register: u8,
    },
    /// Not a register.
    #[error("the state {state:?} has the register {register:?}: a number from 0 to 31 is wanted, or PCR and that number")]
    Register {
        /// The state.
        state: String,
        /// What stands there.
        register: String,
    },
    /// Not a value.
    #[error("the state {state:?} has a value of register {register} that is not {} hexadecimal digits (SHA-384)", 2 * PCR_LEN)]
    Value {
        /// The state.
        state: String,
        /// Its register.
        register: u8,
    },
}

impl States {
    /// From JSON.
    ///
    /// # Errors
    /// When it is not what [`States`] says, or has something twice.
    pub fn from_json(json: &[u8]) -> Result<Self, StatesError> {
        let named: Members<Members<String>> = serde_json::from_slice(json).map_err(|e| StatesError::Syntax(e.to_string()))?;
        let mut states = Vec::new();
        for (name, Members(registers)) in named.0 {
            let pcrs = pcrs_of(&name, registers)?;
            states.push((name, pcrs));
        }
        if states.is_empty() { Err(StatesError::None) } else { Ok(Self(states)) }
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The names of all that these registers are in. A register that a state names and that is missing here is not in it.
    #[must_use]
    pub fn matching(&self, pcrs: &Pcrs) -> Vec<&str> {
        // Each register of each state, whether the one before differed or not.
        let is_in =
            |state: &Pcrs| state.iter().fold(true, |all, (number, wanted)| all & pcrs.get(number).is_some_and(|value| same(value, wanted)));
        self.0.iter().filter(|(_, state)| is_in(state)).map(|(name, _)| name.as_str()).collect()
    }
}

fn pcrs_of(state: &str, registers: Vec<(String, String)>) -> Result<Pcrs, StatesError> {
    let mut pcrs = Pcrs::new();
    for (register, value) in registers {
        let number = pcr_number(&register).ok_or_else(|| StatesError::Register { state: state.to_owned(), register: register.clone() })?;
        let value = pcr_value(&value).ok_or_else(|| StatesError::Value { state: state.to_owned(), register: number })?;
        if pcrs.insert(number, value).is_some() {
            return Err(StatesError::Twice { state: state.to_owned(), register: number });
        }
    }
    if pcrs.is_empty() { Err(StatesError::Empty(state.to_owned())) } else { Ok(pcrs) }
}

/// `4` or `PCR4`.
pub(super) fn pcr_number(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("PCR").unwrap_or(text);
    let number = digits.parse().ok().filter(|number| *number < 32)?;
    // No sign, no leading zero: one register has one name.
    (digits == format!("{number}")).then_some(number)
}

pub(super) fn pcr_value(text: &str) -> Option<Vec<u8>> {
    unhex(text).filter(|value| value.len() == PCR_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(json: &str) -> Result<States, StatesError> {
        States::from_json(json.replace("A", &"aa".repeat(48)).replace("B", &"BB".repeat(48)).as_bytes())
    }

    #[test]
    fn a_document_is_in_each_state_whose_registers_it_has() {
        let states = states(r#"{"old": {"4": "A", "PCR7": "A"}, "new": {"4": "B"}, "both": {"7": "A"}}"#).expect("states");
        let pcrs = |four: u8, seven: u8| Pcrs::from([(4, vec![four; 48]), (7, vec![seven; 48]), (9, vec![0; 48])]);
        assert_eq!(states.matching(&pcrs(0xaa, 0xaa)), ["old", "both"]);
        assert_eq!(states.matching(&pcrs(0xbb, 0)), ["new"]);
        assert!(states.matching(&pcrs(0, 0)).is_empty());
        assert!(states.matching(&Pcrs::from([(9, vec![0xaa; 48])])).is_empty(), "a register that is missing is in no state");
        assert!(states.matching(&Pcrs::from([(4, vec![0xaa; 32])])).is_empty());
        assert_eq!(states.names().collect::<Vec<_>>(), ["old", "new", "both"]);
    }

    #[test]
    fn a_file_that_could_match_more_than_it_says_is_refused() {
        use StatesError as E;
        let state = || "s".to_owned();
        assert_eq!(states("{}"), Err(E::None));
        assert_eq!(states(r#"{"s": {}}"#), Err(E::Empty(state())));
        assert_eq!(states(r#"{"s": {"4": "A", "PCR4": "B"}}"#), Err(E::Twice { state: state(), register: 4 }));
        assert_eq!(states(r#"{"s": {"4": "aa"}}"#), Err(E::Value { state: state(), register: 4 }));
        for register in ["32", "04", "+4", "pcr4", "hash", ""] {
            assert_eq!(
                states(&format!(r#"{{"s": {{"{register}": "A"}}}}"#)),
                Err(E::Register { state: state(), register: register.to_owned() })
            );
        }
        for syntax in [
            r#"{"s": {"4": "A"}, "s": {"4": "B"}}"#,
            r#"{"s": {"4": "A", "4": "B"}}"#,
            r#"{"s": "A"}"#,
            "[]",
            r#"{"s": {"4": null}}"#,
            "{} {}",
        ] {
            assert!(matches!(states(syntax), Err(E::Syntax(_))), "{syntax}");
        }
    }
}
