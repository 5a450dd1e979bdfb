//! For tests: a software TPM of one's own ([`Swtpm`]), a tap on its bus ([`Tap`]), and one that makes attestation documents ([`NitroTpm`]).
//!
//! swtpm is no protection for a key: whoever reads its state directory has the key. It stands in for a TPM in tests and in the demo.

mod child;
mod nitro;
mod ports;
mod swtpm;
mod tap;

pub use child::command;
pub use nitro::NitroTpm;
pub use ports::two_listeners;
pub use swtpm::Swtpm;
pub use tap::{Recording, Tap};
