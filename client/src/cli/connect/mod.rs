//! `connect HOST:PORT`: standard input and output through a tunnel, and what other commands carry through one.
//!
//! `tunnel` asks the server for it; here the command joins it with `standard` input and output; `local` joins it with a connection of a local program.

mod local;
mod standard;
mod tunnel;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use ekm_otp::Authority;
use ekm_otp::tunnel::Target;
use ekm_otp_client::ConnectionInfo;
use ekm_otp_relay::joined::{Ended, Moved, Side, joined};

use super::credential::ConnectArgs;
use super::error::CliError;
use super::origin::origin_alone;
use super::output::note;
use super::profiles::{self, ConfigFile};
use super::proxy;
use standard::Standard;

pub(crate) use local::{Local, serve};

/// The server ends tunnels that are silent for long; here nobody knows better.
const EVER: Duration = Duration::from_secs(366 * 24 * 3600);
/// How long the end may take once both sides have said that they are done.
const CLOSING: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct TunnelArgs {
    /// What to connect to, as the server's configuration calls it: HOST:PORT, [ADDRESS]:PORT
    #[arg(value_name = "HOST:PORT", value_parser = target)]
    target: Target,
    /// The server to go through, https://HOST[:PORT] [default: that of the profile]
    #[arg(long, value_name = "URL", value_parser = origin_alone, help_heading = "Tunnel")]
    via: Option<Authority>,
    /// How long each phase may take until the tunnel stands, in seconds. After that it may be silent for as long as it likes
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Tunnel")]
    timeout: u64,
    /// Speak HTTP/1.1 to the server
    #[arg(long = "http1.1", help_heading = "Tunnel")]
    http1: bool,
    /// Tell on standard error what happened
    #[arg(long, short, help_heading = "Output")]
    verbose: bool,
    #[command(flatten)]
    how: ConnectArgs,
}

/// ssh's `[%h]:%p` has brackets around names, too.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once("]:")).filter(|(host, _)| !host.contains(':'));
    let text = bare.map_or_else(|| text.to_owned(), |(host, port)| format!("{host}:{port}"));
    Target::parse(&text).map_err(|e| e.to_string())
}

/// Carries standard input there, and what comes from there to standard output, until both have ended.
pub(crate) async fn run(args: TunnelArgs) -> Result<(), CliError> {
    if args.how.who.secret_file.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(CliError::Usage("--secret-file -: standard input is what goes through the tunnel: name a file".into()));
    }
    let via = match args.via {
        Some(via) => via,
        None => profiles::only_origin(&ConfigFile::read()?, &args.how.who)?,
    };
    let how = profiles::resolve(&args.how, &via)?;
    if let Some(variable) = proxy::ignored().filter(|_| args.verbose) {
        note!("ekm-otp-client: warning: ${variable} is ignored, this connects to the server itself");
    }
    let deadline = Duration::from_secs(args.timeout);
    let mut builder = how.builder(deadline).await?.response_deadline(deadline);
    if args.http1 {
        builder = builder.http1_only();
    }
    let client = builder.build().map_err(|e| CliError::Usage(e.to_string()))?;
    let (mut tunnel, info) = tunnel::open(&client, &args.target).await?;
    if args.verbose {
        tell(&args.target, &how.origin, info.as_ref());
    }
    let (since, moved) = (Instant::now(), Moved::default());
    let ended = joined(&mut Standard::new(), &mut tunnel, EVER, &moved).await;
    if args.verbose {
        let (there, back) = (moved.a_to_b.load(Ordering::Relaxed), moved.b_to_a.load(Ordering::Relaxed));
        note!("* {there} bytes there, {back} back, in {:.1} s", since.elapsed().as_secs_f64());
    }
    match ended {
        Ended::Closed => {
            tunnel.left_by_the_other(CLOSING).await;
            drop(tunnel);
            // What was said last is on its way then.
            let _ = tokio::time::timeout(CLOSING, client.drain()).await;
            Ok(())
        }
        Ended::Broken { side: Side::A, error } => Err(Standard::failed(&error)),
        ended => {
            Err(CliError::Unavailable(format!("the tunnel to {} {}: what came may not be all", args.target, tunnel::how_it_ended(&ended))))
        }
    }
}

fn tell(target: &Target, origin: &Authority, info: Option<&ConnectionInfo>) {
    let how = info.map_or_else(String::new, |info| {
        let proof = if info.is_proven() { ", which has proved itself" } else { "" };
        format!(" ({:?}, {}{proof})", info.http_version(), info.tls().version_name())
    });
    note!("* connected to {target} through {}{how}", origin.audience());
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn targets_are_taken_as_ssh_writes_them() {
        for (text, shown) in [
            ("db.internal:5432", "db.internal:5432"),
            ("[db.internal]:22", "db.internal:22"),
            ("[2001:db8::1]:22", "[2001:db8::1]:22"),
            ("[192.0.2.1]:22", "192.0.2.1:22"),
        ] {
            assert_eq!(target(text).map(|target| target.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in ["db.internal", "2001:db8::1:22", "[db]", "[]:22", "db:ssh", "https://db:22"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
