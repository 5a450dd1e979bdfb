//! What authentication costs a server: CPU per operation and memory per idle connection, beside the same server without it.
//!
//! `cargo bench -p ekm-otp-tower --features jose --bench load -- [--proxies] [--classical] [--smoke] [--only NAME,…] [--rounds N] [--connections N]
//! [--requests N] [--idle N]`, or `-- --instructions`, or `-- --timing N`
//!
//! The program starts a server per [`Mode`](mode::Mode), itself, the server's binary or nginx, each on one processor, and is the client of all of
//! them in turn, round after round, so that whatever else the machine does meets all modes alike. Only the servers' CPU time is
//! counted. Ratios are taken within a round; their median is reported, and the quartiles say how far to trust it.

mod client;
mod command;
mod instructions;
mod measure;
mod mode;
mod options;
mod pki;
mod process;
mod quantile;
mod report;
mod server;
mod timing;

use std::error::Error;
use std::process::ExitCode;

use options::{Options, Role};

type AnyError = Box<dyn Error + Send + Sync>;

/// sysexits.h: the command was used wrongly.
const EX_USAGE: u8 = 64;

fn run(role: Role) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match role {
        Role::Server { server, addr, folder, upstream } => runtime.block_on(server::run(server, addr, &folder, upstream)),
        Role::Timing { tries } => timing::compare(tries),
        Role::Instructions => runtime.block_on(instructions::compare()),
        Role::Load(options) => runtime.block_on(load(&options)),
    }
}

async fn load(options: &Options) -> Result<(), AnyError> {
    println!("{options}\n");
    let binary = command::build_binary()?;
    process::leave_the_servers_processor()?;
    let costs = measure::costs(options, &binary).await?;
    let table = |operation, rounds| if options.proxies { report::proxies(operation, rounds) } else { report::costs(operation, rounds) };
    print!("{}", table("new connection + GET", &costs.connection));
    print!("{}", table("keep-alive GET", &costs.request));
    print!("{}", table("a GET's time, median", &costs.latency[0]));
    print!("{}", table("a GET's time, p99", &costs.latency[1]));
    print!("{}", report::memory(&measure::idle_memory(options, &binary).await?, options.proxies));
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
