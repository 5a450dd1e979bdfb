//! What authentication costs a server: CPU per operation and memory per idle connection, beside the same server without it.
//!
//! `cargo bench -p ekm-otp-tower --bench load -- [--classical] [--smoke] [--rounds N] [--connections N] [--requests N] [--idle N]`
//!
//! The program starts itself once per [`Mode`](mode::Mode) as a server with one thread, and is the client of all of them in turn, round
//! after round, so that whatever else the machine does meets all modes alike. Only the servers' CPU time is counted. Ratios are taken
//! within a round; their median is reported, and the quartiles say how far to trust it.

mod client;
mod measure;
mod mode;
mod options;
mod pki;
mod process;
mod report;
mod server;

use std::error::Error;
use std::process::ExitCode;

use options::{Options, Role};

type AnyError = Box<dyn Error + Send + Sync>;

/// sysexits.h: the command was used wrongly.
const EX_USAGE: u8 = 64;

fn run(role: Role) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match role {
        Role::Server { mode, key_exchange } => runtime.block_on(server::run(mode, key_exchange)),
        Role::Load(options) => runtime.block_on(load(&options)),
    }
}

async fn load(options: &Options) -> Result<(), AnyError> {
    println!("{options}\n");
    let costs = measure::costs(options).await?;
    print!("{}", report::costs("new connection + GET", &costs.connection));
    print!("{}", report::costs("keep-alive GET", &costs.request));
    print!("{}", report::memory(&measure::idle_memory(options).await?));
    Ok(())
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
