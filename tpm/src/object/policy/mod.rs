//! Who may use a key, and for what (TCG part 1, 19.7; part 3, 23): policies as values, as files, as text.

mod command_code;
mod json;
mod json_error;
mod json_nv;
mod json_pcr;
mod json_value;
mod json_write;
mod path;
mod path_read;
mod plan;
mod signed;
mod text;
mod tree;
mod verifying_key;

pub(crate) use command_code::command_code;
pub use command_code::{CommandCode, UnknownCommand};
pub use json_error::PolicyJsonError;
pub(crate) use path::{PathError, Paths, Raw, paths_of};
pub(crate) use path_read::paths_from;
pub use plan::PolicyPlan;
pub(crate) use plan::Values;
pub use signed::SignedPolicy;
pub use tree::Policy;
pub(crate) use tree::{Authorize, Branch, PolicyCommand, Secret, Signed, duplication};
pub use verifying_key::{VerifyingKey, VerifyingKeyError};
