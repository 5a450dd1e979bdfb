//! `check`: reads a configuration and opens what it names, as the server would at its start, and tells all that is wrong, not the first.

mod report;
mod sites;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::ExitCode;

use clap::Args;

use self::report::{Finding, Report};
use crate::config::{Config, Reading, RunArgs};
use crate::doors::Address;
use crate::error::ServerError;
use crate::registry::{Location, Registry};
use crate::{output, workers};

#[derive(Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Tell it in JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything; 0 where a server would start with it.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let report = match Config::read(&args.run) {
        Ok(reading) => look(reading),
        Err(e) => Report::of(e),
    };
    let text = if args.json { report.json() } else { report.text() };
    output::show(&text, report.exit_code())
}

fn look(reading: Reading) -> Report {
    let Reading { config, faults, is_toml } = reading;
    let mut report = Report::new(faults);
    if !is_toml {
        return report;
    }
    sites::look(&config, &mut report);
    registry_of(&config, &mut report);
    listen(&config, &mut report);
    report
}

fn registry_of(config: &Config, report: &mut Report) {
    // Where it is missing, that is told.
    if matches!(&config.registry.location, Location::File(path) if path.as_os_str().is_empty()) {
        return;
    }
    let opened = workers::runtime()
        .map_err(|e| ServerError::Other(format!("cannot start the runtime: {e}")))
        .and_then(|runtime| runtime.block_on(Registry::open(&config.registry)));
    match opened {
        Ok(registry) => {
            let health = registry.health();
            report.registry = Some(report::Registry {
                engine: health.engine.as_str(),
                keys: health.keys,
                in_overlap: health.in_overlap,
                unreadable: health.unreadable,
            });
            if health.keys == 0 {
                report.add(Finding::warning(0, "registry: it holds no key: every request will be refused".into()));
            }
        }
        Err(e) => report.add_error(0, e),
    }
}

/// Whether the addresses are this machine's. One that is taken may be so by the running server.
fn listen(config: &Config, report: &mut Report) {
    for address in &config.doors.listen {
        report.listen.push(address.to_string());
        let bound = match address {
            Address::Ip(address) => TcpListener::bind(address),
            Address::Name(name, port) => TcpListener::bind((name.as_str(), *port)),
            // Opening these leaves traces.
            Address::Unix(_) | Address::Vsock { .. } => continue,
        };
        match bound {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                report.add(Finding::warning(0, format!("listen: {address} is in use: by the running server, or by something else")));
            }
            Err(e) => report.add_error(0, ServerError::io(&format!("cannot listen on {address}"), &e)),
        }
    }
}
