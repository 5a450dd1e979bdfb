//! `ekm-otp-server`: serves HTTP to clients that prove, on each TLS connection, that they hold their key.

// Both panic where the output is closed or full: `output` shows things.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod certificates;
mod check;
mod config;
mod doors;
mod error;
mod file_watch;
mod key;
mod limits;
mod live;
mod log_file;
mod log_lines;
mod log_queue;
mod logging;
mod observed;
mod operations;
mod output;
mod proxy;
#[expect(dead_code, unused_imports, reason = "the configuration, operations and key commands that use the rest are on their way")]
mod registry;
mod reload;
mod run;
mod service_manager;
mod serving;
mod settings;
mod signals;
mod workers;

use std::process::ExitCode;

use clap::Parser;

use crate::check::CheckArgs;
use crate::config::RunArgs;

/// Of this program and, since it has malloc's own names, of the C code in it. An idle connection takes a fifth less than with glibc's, which
/// gives nothing back when many have left.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// EKM-OTP server: one-time passwords that are worth nothing outside one TLS connection.
///
/// Exit codes: 0 after SIGTERM or SIGINT, 64 wrong usage or configuration, 69 something is unavailable, 77 not permitted, 1 otherwise.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Serve: authenticate each request, and hand it to an upstream.
    #[command(
        after_help = "Examples:\n  ekm-otp-server run --config server.toml\n  ekm-otp-server run --certificate server.pem --private-key server.key \\\n      --secrets secrets.toml --server-name localhost --upstream demo"
    )]
    Run(Box<RunArgs>),
    Key(Box<key::Args>),
    /// Look at a configuration and at what it names (certificates, registry, addresses), and tell all that is wrong; 0 if a server would start
    #[command(
        after_help = "Examples:\n  ekm-otp-server check --config server.toml\n  ekm-otp-server check --config server.toml --json | jq .errors"
    )]
    Check(Box<CheckArgs>),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return output::of_clap(&e),
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => return check::check(&args),
        Command::Key(args) => key::run(*args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::complain(&e.to_string());
            ExitCode::from(e.exit_code())
        }
    }
}
