//! `ekm-otp-client`: authenticated requests with a key in the TPM, and the keys themselves.

// Both panic where the output is closed or full: `cli::output` shows things.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::plaintext::Ending;
use crate::cli::{CliError, doctor, enroll, keys, manual, output, policies, prompt, request, reseal, rotate, seal, sidecar, unseal};

/// EKM-OTP client: requests with a password that fits one TLS connection, derived by a key that never leaves the TPM.
///
/// Exit codes: 0 success, 64 wrong usage, 69 something is unavailable, 77 not permitted or not proven, 130 and 143 ended by SIGINT or
/// SIGTERM (129 and 131 by SIGHUP or SIGQUIT), 1 otherwise.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Send a request, as curl does; the answer's body goes to standard output. `get`, `head`, `post` … are requests with that method.
    ///
    /// Flags mean what they mean to curl, with few exceptions: only https; redirects (-L) within the same origin only, since the credential is for no
    /// other; no proxies; and the exit code tells what the status says (--no-fail turns that off).
    ///
    /// Exit codes: 0 an answer of 2xx or 304; 1 any other status, a broken connection, a body that is cut or cannot be written; 64 wrong usage; 69 not
    /// reachable, too late, 429, 503; 77 not permitted (401, 403, 421), not proven, a certificate that is refused, a redirect to another origin.
    #[command(
        visible_aliases = request::NAMES,
        after_help = "Examples:\n  ekm-otp-client get https://api.example.test/ --kid client1 --key client1.pem\n  ekm-otp-client get https://localhost:8443/whoami --ca server.pem \\\n      --kid client1 --key client1.pem --credential jws --claim role=admin\n  ekm-otp-client get https://127.0.0.1:8443/get --server-name localhost \\\n      --kid client1 --key handle:0x81008001\n  ekm-otp-client post https://api.example.test/orders --json @order.json\n  ekm-otp-client request -F photo=@cat.jpg https://api.example.test/photos\n  ekm-otp-client put -T backup.tar https://api.example.test/backups/\n  ekm-otp-client get https://api.example.test/ --repeat 1000 --concurrency 16"
    )]
    Request(Box<request::RequestArgs>),
    /// Carry standard input and output to a database, an sshd or another TCP service behind the server.
    ///
    /// To what the server's configuration lists for this key. It ends when both sides have ended; what was cut is told, and exits with 69.
    ///
    /// Exit codes: 0 both sides have ended, 77 refused or not proven, 69 not reachable or cut, 64 wrong usage, 1 otherwise.
    #[command(
        after_help = "Examples:\n  ekm-otp-client connect db.internal:5432 \\\n      --via https://gateway.example.test --kid client1 --key client1.pem\n  ekm-otp-client connect bastion:22 -P work\n\nIn ~/.ssh/config:\n\nHost *.internal\n ProxyCommand ekm-otp-client connect [%h]:%p"
    )]
    Connect(Box<cli::connect::TunnelArgs>),
    /// Serve local programs that know nothing of keys: they speak plain HTTP to it, and come out authenticated (a sidecar).
    ///
    /// Every program of this user may use it on a Unix socket, every program of this machine on a TCP port. Pages of other sites that are open in a
    /// browser may not. SIGHUP lets it read its settings again, SIGTERM ends it when what is under way has ended.
    #[command(
        after_help = "Examples:\n  ekm-otp-client proxy --listen 127.0.0.1:8080 --to https://api.example.com \\\n      --kid client1 --key client1.pem\n  ekm-otp-client proxy --listen unix:/run/user/1000/api.sock -P work\n  ekm-otp-client proxy --config proxy.toml --admin 127.0.0.1:9110\n  ekm-otp-client proxy --listen 127.0.0.1:8080 -P work --install-user-units"
    )]
    Proxy(Box<sidecar::ProxyArgs>),
    /// Take in a bundle that the server made: its key goes into this machine's TPM, and a profile is written, in one step or not at all.
    #[command(
        after_help = "Examples:\n  ekm-otp-client enroll laptop.bundle\n  ekm-otp-client enroll laptop.bundle -P work --pcrs sha256:0,2,7\n  ekm-otp-client enroll laptop.bundle --replace"
    )]
    Enroll(Box<enroll::EnrollArgs>),
    /// Give a profile's key a successor: a new secret in the TPM, the server told of it over a post-quantum connection, the profile switched.
    #[command(after_help = "Examples:\n  ekm-otp-client rotate\n  ekm-otp-client rotate --profile-name work")]
    Rotate(Box<rotate::RotateArgs>),
    /// Make, import, look at, use and guard keys.
    #[command(subcommand)]
    Key(Box<keys::KeyCommand>),
    /// Seal standard input to this TPM: it opens nowhere else, and only while what is asked for is there.
    #[command(
        after_help = "Examples:\n  ekm-otp-client seal --pcrs sha256:0,1,2,7 --out secret.pem < secret\n  ekm-otp-client seal --policy either.json --ask-password \\\n      --out secret.pem < secret\n  ekm-otp-client seal --pcrs sha256:7 --in backup.tar --out backup.sealed"
    )]
    Seal(Box<seal::SealArgs>),
    /// Open what was sealed.
    #[command(
        after_help = "Examples:\n  ekm-otp-client unseal --key secret.pem\n  ekm-otp-client unseal --key secret.pem --out /run/app/secret\n  ekm-otp-client unseal --key secret.pem --env DB_PASSWORD \\\n      --exec ./app --port 80"
    )]
    Unseal(Box<unseal::UnsealArgs>),
    /// Seal the same for a new state of the machine. The old one opens it, too, until the new one is there and confirmed.
    #[command(
        after_help = "Examples:\n  ekm-otp-client reseal --key secret.pem --new-policy updated.json\n  ekm-otp-client reseal --key secret.pem --confirm"
    )]
    Reseal(Box<reseal::ResealArgs>),
    /// Make, show and sign policies: what must be fulfilled to use a key.
    #[command(subcommand)]
    Policy(Box<policies::PolicyCommand>),
    /// The TPM's registers (PCR): read, change and compare them.
    #[command(subcommand)]
    Pcr(Box<cli::pcr::PcrCommand>),
    /// The TPM's endorsement key: its certificates, its public part, and credentials that it opens.
    #[command(subcommand)]
    Ek(Box<cli::ek::EkCommand>),
    /// Credentials of AWS from keys in the TPM.
    #[cfg(feature = "cloud")]
    #[command(subcommand)]
    Aws(cli::aws::AwsCommand),
    /// Secrets that AWS KMS keeps, for this machine alone where its TPM can prove what it runs.
    #[cfg(feature = "cloud")]
    #[command(subcommand)]
    Kms(cli::kms::KmsCommand),
    /// Encrypt to a key, as KMS does for a recipient, and decrypt with one in the TPM or in a file.
    #[command(subcommand)]
    Cms(cli::cms::CmsCommand),
    /// Tokens of Entra ID (Azure) from keys in the TPM.
    #[cfg(feature = "cloud")]
    #[command(subcommand)]
    Azure(cli::azure::AzureCommand),
    /// Tokens of Google Cloud from keys in the TPM.
    #[cfg(feature = "cloud")]
    #[command(subcommand)]
    Gcp(cli::gcp::GcpCommand),
    /// Attestation documents of AWS NitroTPM: what a machine has booted, said by AWS.
    #[command(subcommand)]
    Nitro(cli::nitro::NitroCommand),
    /// Quotes: what a TPM says of its registers, signed.
    #[command(subcommand)]
    Quote(cli::quote::QuoteCommand),
    /// Look for what is wrong: the TPM; with --key, that key; with --url, the server and the way to it.
    ///
    /// One line for each check: ok, warning or problem, the check's name, what was found; below it, what to do. Nothing is changed, nothing
    /// is left in the TPM, and no password is asked for or tried that was not given. The server sees requests without a right credential,
    /// and one with it where --kid and --key (or --secret-file) are given.
    ///
    /// Exit codes: 0 no problem (warnings are none), 69 TPM or server cannot be reached, 77 not permitted or not proven, 1 any other
    /// problem, 64 wrong usage.
    #[command(
        after_help = "Examples:\n  ekm-otp-client doctor\n  ekm-otp-client doctor --kid client1 --key client1.pem \\\n      --url https://api.example.test"
    )]
    Doctor(Box<doctor::DoctorArgs>),
    /// Look at the profiles of the configuration file: which key is shown to which server.
    #[command(subcommand)]
    Profile(cli::profiles::ProfileCommand),
    /// Write the completions of a shell to standard output.
    #[command(
        after_help = "Examples:\n  ekm-otp-client completions bash \\\n      > ~/.local/share/bash-completion/completions/ekm-otp-client"
    )]
    Completions(manual::CompletionsArgs),
    /// Write a manual page for each command into a folder.
    #[command(after_help = "Examples:\n  ekm-otp-client man --out ~/.local/share/man/man1")]
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    output::keep_out_of_cores();
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(e) => return output::of_clap(&e),
    };
    if !cli.wants_library_log() {
        // It would write what it encrypts and decrypts into a file of its own.
        if std::env::var_os("TSS2_LOG").is_some() && std::env::var_os("TSS2_LOGFILE").is_some() {
            return output::of_error(&CliError::Usage(
                "TSS2_LOGFILE: the TPM's library would write secrets into that file: unset it for this command".into(),
            ));
        }
        output::silence_libraries();
    }
    match run(cli) {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        // Everything of ours is gone but for this process.
        Ok(Ending::Become(program)) => output::of_error(&program.become_it()),
        Err(e) => output::of_error(&e),
    }
}

/// Those of the command line; in our own words where the program is called by the name of another.
fn arguments() -> Vec<OsString> {
    let mut given: Vec<OsString> = std::env::args_os().collect();
    #[cfg(feature = "cloud")]
    if given.first().is_some_and(|program| cli::aws::is_drop_in(std::path::Path::new(program))) {
        return cli::aws::drop_in_arguments(given.into_iter());
    }
    // Behind the command's name: before anything that a flag could take for its value.
    if let Some(flag) = given.get(1).and_then(|name| request::called(name.to_str()?)) {
        given.insert(2, flag.into());
    }
    given
}

impl Cli {
    /// Whether the lines of the TPM's C library are wanted: by the variable that it has for that, or by `request -vv`. Its trace shows what it encrypts and decrypts, so
    /// never where that is a secret of some worth.
    fn wants_library_log(&self) -> bool {
        let is_secret = match &self.command {
            Command::Request(_) => false,
            Command::Key(command) => {
                matches!(**command, keys::KeyCommand::Create(_) | keys::KeyCommand::Import(_) | keys::KeyCommand::Passwd(_))
            }
            _ => true,
        };
        !is_secret && std::env::var_os("TSS2_LOG").is_some() || matches!(&self.command, Command::Request(args) if args.is_very_verbose())
    }
}

fn run(cli: Cli) -> Result<Ending, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| CliError::Other(e.to_string()))?;
    let result = runtime.block_on(async {
        // Before any file is made: a signal that came earlier would end the process at once and leave it.
        let mut interrupt = signals(SignalKind::interrupt())?;
        let mut terminate = signals(SignalKind::terminate())?;
        let mut hang_up = signals(SignalKind::hangup())?;
        let mut quit = signals(SignalKind::quit())?;
        // It has its own way with them.
        let is_service = matches!(cli.command, Command::Proxy(_));
        let is_tunnel = matches!(cli.command, Command::Connect(_));
        let command = async {
            match cli.command {
                Command::Proxy(args) => sidecar::run(*args).await.map(Ending::of),
                Command::Request(args) => request::run(*args).await.map(Ending::of),
                Command::Connect(args) => cli::connect::run(*args).await.map(Ending::of),
                Command::Enroll(args) => enroll::run(*args).await.map(Ending::of),
                Command::Rotate(args) => rotate::run(*args).await.map(Ending::of),
                Command::Key(command) => keys::run(*command).await.map(Ending::of),
                Command::Seal(args) => seal::run(*args).await.map(Ending::of),
                Command::Unseal(args) => unseal::run(*args).await,
                Command::Reseal(args) => reseal::run(*args).await.map(Ending::of),
                Command::Policy(command) => policies::run(*command).await.map(Ending::of),
                Command::Pcr(command) => cli::pcr::run(*command).await.map(Ending::of),
                Command::Ek(command) => cli::ek::run(*command).await,
                #[cfg(feature = "cloud")]
                Command::Aws(command) => cli::aws::run(command).await.map(Ending::of),
                #[cfg(feature = "cloud")]
                Command::Kms(command) => cli::kms::run(command).await,
                Command::Cms(command) => cli::cms::run(command).await,
                #[cfg(feature = "cloud")]
                Command::Azure(command) => cli::azure::run(command).await.map(Ending::of),
                #[cfg(feature = "cloud")]
                Command::Gcp(command) => cli::gcp::run(command).await.map(Ending::of),
                Command::Nitro(command) => cli::nitro::run(command).await.map(Ending::of),
                Command::Quote(command) => cli::quote::run(command).await.map(Ending::of),
                Command::Doctor(args) => doctor::run(*args).await.map(Ending::of),
                Command::Profile(command) => cli::profiles::run(command).map(Ending::of),
                Command::Completions(args) => manual::completions(&args, Cli::command()).map(Ending::of),
                Command::Man(args) => manual::man(&args, Cli::command()).map(Ending::of),
            }
        };
        // Ended by a signal, the work is dropped rather than cut: what is loaded in the TPM is flushed.
        tokio::select! {
            result = command => result,
            _ = interrupt.recv(), if !is_service => Err(CliError::Signal(2)),
            _ = terminate.recv(), if !is_service => Err(CliError::Signal(15)),
            _ = hang_up.recv(), if !is_service => {
                // That is how ssh ends its ProxyCommand, each time.
                if is_tunnel {
                    output::be(output::Quiet::All);
                }
                Err(CliError::Signal(1))
            }
            _ = quit.recv() => Err(CliError::Signal(3)),
        }
    });
    // A name look-up or a write to a stalled pipe goes on in a thread of its own: nobody waits for it.
    runtime.shutdown_background();
    prompt::restore();
    result
}

fn signals(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|e| CliError::Other(format!("cannot wait for signals: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(command: &clap::Command) -> Vec<String> {
        let own = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(own.lines().all(|line| line.len() < 80), "a terminal breaks it: {own}");
        let own = own.replace("\\\n", "");
        let own = own.lines().filter_map(|line| line.strip_prefix("  ").map(str::to_owned)).collect::<Vec<_>>();
        command.get_subcommands().flat_map(examples).chain(own).collect()
    }

    #[test]
    fn the_examples_of_the_help_are_right_usage() {
        let examples = examples(&Cli::command());
        assert!(examples.len() > 15, "{examples:?}");
        for example in examples {
            // A register's value, of the shell's.
            let value = "0".repeat(if example.contains(" nitro ") { 96 } else { 64 });
            let example = ["\"$PCR4\"", "\"$PCR7\""].iter().fold(example, |example, variable| example.replace(variable, &value));
            let words = example.split(['<', '>']).next().unwrap_or_default().split_whitespace();
            if let Err(e) = Cli::try_parse_from(words) {
                panic!("{example}: {e}");
            }
        }
    }
}
