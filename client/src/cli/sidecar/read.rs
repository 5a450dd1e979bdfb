//! From flags and the configuration file to [`Settings`].

use std::time::Duration;

use ekm_otp::tunnel::Target;

use super::super::error::CliError;
use super::address::Address;
use super::arguments::ProxyArgs;
use super::bind::Door;
use super::file;
use super::settings::{Listener, RouteSettings, Settings, Times};
use super::users::Users;

/// # Errors
/// When something is missing, contradicts itself, or the file is wrong.
pub(super) fn read(args: &ProxyArgs) -> Result<Settings, CliError> {
    let listeners = match &args.config {
        Some(path) => file::read(path)?,
        None => of_flags(args)?,
    };
    for listener in &listeners {
        listener.check()?;
    }
    let seconds = Duration::from_secs;
    Ok(Settings {
        listeners,
        admin: args.admin.clone().map(|address| Door { address, mode: None, users: Users::own() }),
        is_unsafe: args.unsafe_listen,
        max_connections: usize::try_from(args.max_connections).unwrap_or(usize::MAX),
        times: Times {
            connect: seconds(args.timeout),
            response: seconds(args.response_timeout),
            idle_limit: seconds(args.idle_limit),
            stream_idle: seconds(args.stream_timeout),
            drain: seconds(args.drain),
        },
        is_http1_only: args.http1,
    })
}

/// Every `--listen` leads to the same origin.
fn of_flags(args: &ProxyArgs) -> Result<Vec<Listener>, CliError> {
    let users = if args.users.is_empty() { None } else { Some(Users::named(&args.users)?) };
    let listener = |address: Option<Address>, tunnel: Option<Target>| Listener {
        address,
        tunnel,
        mode: args.mode,
        hosts: args.hosts.clone(),
        allow_origins: args.allow_origins.clone(),
        authorization: args.authorization.clone().unwrap_or_default(),
        routes: vec![RouteSettings { host: None, to: args.to.clone(), profile: None, users: users.clone() }],
    };
    if args.listen.is_empty() && args.tcp.is_empty() {
        return Ok(vec![listener(None, None)]);
    }
    let http = args.listen.iter().cloned().map(|address| listener(Some(address), None));
    let tcp = args.tcp.iter().cloned().map(|tunnel| listener(Some(tunnel.listen), Some(tunnel.target)));
    Ok(http.chain(tcp).collect())
}
