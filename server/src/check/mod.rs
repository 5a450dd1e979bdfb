//! `check`: reads a configuration and opens what it names, as the server would at its start, and tells all that is wrong, not the first.

mod places;
mod ready;
mod report;
mod sites;

use std::process::ExitCode;

use clap::Args;

use self::report::{Finding, Report};
use crate::config::{Config, Reading, RunArgs};
use crate::error::ServerError;
use crate::operations::AdminAddress;
use crate::registry::{Location, NO_REGISTRY, Registry};
use crate::{output, workers};

#[derive(Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Tell it in JSON
    #[arg(long)]
    json: bool,
    /// Look at no configuration, but ask a running server's admin listener whether it is ready (/readyz): 0 if it is, 69 if not. For probes of
    /// containers
    #[arg(long, value_name = "IP:PORT|unix:PATH", conflicts_with_all = ["json", "config"])]
    ready: Option<AdminAddress>,
}

/// Looks at everything; 0 where a server would start with it.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    if let Some(address) = &args.ready {
        return match ready::readiness(address) {
            Ok(text) => output::show(&text, 0),
            Err(e) => {
                output::complain(&e.to_string());
                ExitCode::from(e.exit_code())
            }
        };
    }
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
    places::look(&config, &mut report);
    report
}

fn registry_of(config: &Config, report: &mut Report) {
    // Where it is missing, that is told.
    if matches!(&config.registry.location, Location::File(path) if path.as_os_str().is_empty()) {
        return;
    }
    if let Some(path) = config.registry.location.is_to_be_made() {
        let shown = path.display();
        match places::folder_of(path) {
            Ok(()) => {
                report.add(Finding::warning(0, format!("registry: {shown} is not there yet: the first start makes it, without any key")))
            }
            Err(e) => report.add_error(0, ServerError::io(&format!("registry: cannot make {shown}"), &e)),
        }
        return;
    }
    let opened = workers::runtime()
        .map_err(|e| ServerError::Other(format!("cannot start the runtime: {e}")))
        .and_then(|runtime| runtime.block_on(Registry::look(&config.registry)));
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
        Err(ServerError::Unavailable(why)) if why == NO_REGISTRY => {
            report.add(Finding::warning(0, format!("registry: {why} yet: the first start makes it, without any key")));
        }
        Err(e) => report.add_error(0, e),
    }
}
