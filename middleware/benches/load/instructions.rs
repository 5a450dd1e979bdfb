//! How many instructions authentication adds, counted by callgrind: where times are noise, these are not. User space only.

use std::path::Path;
use std::sync::Arc;

use crate::AnyError;
use crate::client::Target;
use crate::command::{self, Surroundings};
use crate::mode::{Log, Mode, Server, Shown};
use crate::options::KeyExchange;
use crate::pki::Pki;
use crate::process::{ServerProcess, leave_the_servers_processor};

/// More than what is recorded by this is a regression; less is a reason to record anew.
const MARGIN_PERCENT: i64 = 5;

const CONNECTIONS: usize = 40;
const REQUESTS: usize = 400;
/// How often each is counted. The least is taken: when a process is woken, and how much it finds then, varies a little.
const TIMES: usize = 2;

/// What a mode takes more than the bare server, per connection (with one request) and per further request.
struct Recorded {
    mode: Mode,
    connection: i64,
    request: i64,
}

const fn recorded(name: &'static str, server: Server, shown: Shown, connection: i64, request: i64) -> Recorded {
    Recorded { mode: Mode { name, server, shown }, connection, request }
}

/// As counted with rustc 1.95 on x86-64. valgrind knows no SHA instructions: hashing weighs more here than on a processor that does.
const RECORDED: [Recorded; 5] = [
    recorded("layer, otp", Server::Layer, Shown::Password, 122_500, 5_420),
    recorded("layer, jws", Server::Layer, Shown::Jws, 178_000, 36_000),
    recorded("layer, jwe", Server::Layer, Shown::Jwe, 202_000, 46_100),
    // The highest of several: this one varies by 5 %.
    recorded("server, log", Server::Binary(Log::Default), Shown::Password, 93_000, 16_200),
    recorded("proxy, log", Server::BinaryProxy(Log::Default), Shown::Password, 130_000, 50_500),
];

/// Counts, and compares with what is recorded.
///
/// # Errors
/// When a mode needs more.
pub async fn compare() -> Result<(), AnyError> {
    let binary = &command::build_binary()?;
    leave_the_servers_processor()?;
    let pki = Pki::new()?;
    let bare = Mode { name: "bare", server: Server::Bare, shown: Shown::Nothing };
    let (bare_connection, bare_request) = cost(bare, &pki, binary).await?;
    println!("{:<20}{bare_connection:>12} instructions a connection{bare_request:>10} a request", bare.name);
    let mut worse = Vec::new();
    for Recorded { mode, connection, request } in RECORDED {
        let (counted_connection, counted_request) = cost(mode, &pki, binary).await?;
        let mut tell = |what: &str, counted: i64, recorded: i64| {
            let percent = 100 * (counted - recorded) / recorded.max(1);
            if percent > MARGIN_PERCENT {
                worse.push(format!("{}: {counted} more {what} than the bare server, and {recorded} are recorded", mode.name));
            }
            format!("{counted:>+12} ({percent:+} %)")
        };
        let connection = tell("a connection", counted_connection - bare_connection, connection);
        let request = tell("a request", counted_request - bare_request, request);
        println!("{:<20}{connection:>24} a connection{request:>22} a request", mode.name);
    }
    if worse.is_empty() { Ok(()) } else { Err(worse.join("\n").into()) }
}

/// Instructions per connection and per request.
async fn cost(mode: Mode, pki: &Pki, binary: &Path) -> Result<(i64, i64), AnyError> {
    // What happens once, at the start or with the first connections, is in all three.
    let base = least(mode, pki, binary, CONNECTIONS, 0).await?;
    let connections = least(mode, pki, binary, 2 * CONNECTIONS, 0).await? - base;
    let requests = least(mode, pki, binary, CONNECTIONS, REQUESTS).await? - base;
    Ok((connections / i64::try_from(CONNECTIONS)?, requests / i64::try_from(REQUESTS)?))
}

async fn least(mode: Mode, pki: &Pki, binary: &Path, connections: usize, requests: usize) -> Result<i64, AnyError> {
    let mut least = i64::MAX;
    for _ in 0..TIMES {
        least = least.min(run(mode, pki, binary, connections, requests).await?);
    }
    Ok(least)
}

/// The instructions of a server that sees so many connections, one after the other, and so many further requests on the last of them.
async fn run(mode: Mode, pki: &Pki, binary: &Path, connections: usize, requests: usize) -> Result<i64, AnyError> {
    let counts = pki.folder().join("callgrind.out");
    let alone = Surroundings { folder: pki.folder(), binary, upstream: None, registry: None };
    let upstream = mode.server.is_proxy().then(|| ServerProcess::start_upstream(alone)).transpose()?;
    let surroundings = Surroundings { upstream: upstream.as_ref().map(|upstream| upstream.addr), ..alone };
    let server = ServerProcess::start_counted(mode, surroundings, &counts)?;
    let target = Arc::new(Target::new(mode, server.addr, KeyExchange::X25519MlKem768, pki)?);
    for i in 1..=connections {
        let mut client = target.connect().await?;
        client.get().await?;
        for _ in 0..if i == connections { requests } else { 0 } {
            client.get().await?;
        }
        client.close().await?;
    }
    server.terminate()?;
    let counts = std::fs::read_to_string(counts)?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind tells no total")?;
    Ok(total.trim().parse()?)
}
