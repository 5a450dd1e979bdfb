//! `ekm-otp-server`: serves HTTP to clients that prove, on each TLS connection, that they hold their key.

// What documents a flag is its help as well, where a link would show its brackets.
#![allow(rustdoc::bare_urls)]
// Both panic where the output is closed or full: `output` shows things.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allow;
mod certificates;
mod check;
mod cli;
mod config;
mod confinement;
mod dial;
mod doors;
mod enrolment;
mod error;
mod key;
mod limits;
mod live;
mod log_file;
mod log_lines;
mod log_queue;
mod logging;
mod manual;
mod observed;
mod operations;
mod output;
mod pattern;
mod proxy;
mod registry;
mod reload;
mod run;
mod serving;
mod settings;
mod signals;
mod tcp;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};

/// Of this program and, since it has malloc's own names, of the C code in it. An idle connection takes a fifth less than with glibc's, which
/// gives nothing back when many have left.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return output::of_clap(&e),
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => return check::check(&args),
        Command::Key(args) => key::run(*args),
        Command::Completions(args) => return manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::complain(&e.to_string());
            ExitCode::from(e.exit_code())
        }
    }
}
