//! What the pair costs that carries plain HTTP through an authenticated connection, beside pairs that do it by mutual TLS.
//!
//! `cargo bench -p ekm-otp-client --bench pair -- [--smoke] [--only NAME,…] [--rounds N] [--connections N] [--requests N] [--mib N]`
//!
//! All [`Pair`](pair::Pair)s stand between the same client and the same small HTTP server, and are measured in turn, round after round, so that
//! whatever else the machine does meets all alike. Both ends of a pair work on one processor, the client and the server behind on another. What is
//! compared is what a pair adds to the way without one; ratios are taken within a round, their median is reported with the quartiles.

mod forward;
mod load;
mod measure;
mod options;
mod pair;
mod pki;
mod process;
#[path = "../../../middleware/benches/load/quantile.rs"]
mod quantile;
mod report;
mod upstream;

use std::error::Error;
use std::process::ExitCode;

use options::Role;

type AnyError = Box<dyn Error + Send + Sync>;

/// sysexits.h: the command was used wrongly.
const EX_USAGE: u8 = 64;

fn run(role: Role) -> Result<(), AnyError> {
    match role {
        Role::Upstream { addr } => upstream::run(addr),
        Role::Forward { end, addr, to, folder } => forward::run(end, addr, to, &folder),
        Role::Load(options) => {
            println!("{options}\n");
            process::leave_the_pairs_processor()?;
            print!("{}", report::of(&measure::costs(&options)?));
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    let role = match Role::from_args(std::env::args().skip(1)) {
        Ok(role) => role,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EX_USAGE);
        }
    };
    match run(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
