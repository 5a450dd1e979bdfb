//! The commands.

use clap::{Parser, Subcommand};

use crate::check::CheckArgs;
use crate::config::RunArgs;
use crate::key;
use crate::manual::{CompletionsArgs, ManArgs};

/// EKM-OTP server: one-time passwords that are worth nothing outside one TLS connection.
///
/// Exit codes: 0 after SIGTERM or SIGINT, 64 wrong usage or configuration, 69 something is unavailable, 77 not permitted, 1 otherwise.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
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
    /// Write the completions of a shell to standard output
    #[command(after_help = "Example:\n  ekm-otp-server completions bash > /usr/share/bash-completion/completions/ekm-otp-server")]
    Completions(CompletionsArgs),
    /// Write the man pages, one for each command, into a folder
    #[command(after_help = "Example:\n  ekm-otp-server man --out /usr/share/man/man1")]
    Man(ManArgs),
}
