//! The measuring itself: rounds over all modes, in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::AnyError;
use crate::client::{Client, Target};
use crate::command::Surroundings;
use crate::mode::Mode;
use crate::options::Options;
use crate::pki::Pki;
use crate::process::ServerProcess;
use crate::quantile::quantile;

/// How many connections are busy at a time: a server that always finds work spends its time on it, and not on waking up.
const BUSY: usize = 8;
/// One in so many of a round's requests is sent once more, on one connection and by itself, to see how long it takes.
const TIMED: usize = 5;
/// How many servers per mode are filled with idle connections.
const IDLE_RUNS: usize = 3;
/// How many connections are opened, and stay, before the memory of the following ones is measured.
const IDLE_FIRST: usize = 32;

/// One number per round, in the modes' order.
pub type Rounds = [Vec<f64>; Mode::ALL.len()];

/// What each mode costs.
pub struct Costs {
    /// Microseconds of server CPU for a new connection and a request.
    pub connection: Rounds,
    /// The same for a request on an open connection.
    pub request: Rounds,
    /// How long such a request takes its client, in microseconds, where nothing else is under way: the median, and the 99th percentile.
    pub latency: [Rounds; 2],
}

struct Server {
    process: ServerProcess,
    target: Arc<Target>,
}

impl Server {
    fn start(mode: Mode, options: &Options, pki: &Pki, surroundings: Surroundings<'_>) -> Result<Self, AnyError> {
        let process = ServerProcess::start(mode, surroundings)?;
        let target = Arc::new(Target::new(mode, process.addr, options.key_exchange, pki)?);
        Ok(Self { process, target })
    }

    /// New connections, each with one request.
    async fn connections(&self, count: usize) -> Result<f64, AnyError> {
        let before = self.process.cpu_at_rest().await?;
        let mut busy = JoinSet::new();
        for share in shares(count) {
            let target = Arc::clone(&self.target);
            busy.spawn(async move {
                for _ in 0..share {
                    let mut client = target.connect().await?;
                    client.get().await?;
                    client.close().await?;
                }
                Ok::<_, AnyError>(())
            });
        }
        all(busy).await?;
        Ok(microseconds(self.process.cpu_at_rest().await? - before, count))
    }

    /// Requests on connections that have carried one already.
    async fn requests(&self, count: usize) -> Result<f64, AnyError> {
        let clients = self.open(BUSY).await?;
        let before = self.process.cpu_at_rest().await?;
        let mut busy = JoinSet::new();
        for (mut client, share) in clients.into_iter().zip(shares(count)) {
            busy.spawn(async move {
                for _ in 0..share {
                    client.get().await?;
                }
                Ok::<_, AnyError>(client)
            });
        }
        let clients = all(busy).await?;
        let cpu = self.process.cpu_at_rest().await? - before;
        close(clients).await?;
        Ok(microseconds(cpu, count))
    }

    /// Requests one after the other: how long they take, in microseconds.
    async fn latency(&self, count: usize) -> Result<Vec<f64>, AnyError> {
        let mut clients = self.open(1).await?;
        let mut times = Vec::with_capacity(count);
        for client in &mut clients {
            for _ in 0..count {
                let start = Instant::now();
                client.get().await?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        close(clients).await?;
        Ok(times)
    }

    async fn open(&self, count: usize) -> Result<Vec<Client>, AnyError> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let mut client = self.target.connect().await?;
            client.get().await?;
            clients.push(client);
        }
        Ok(clients)
    }

    /// Resident memory in KiB before `count` idle connections that were authenticated, and with them. All of them have left then.
    async fn idle_memory(&self, count: usize) -> Result<[u64; 2], AnyError> {
        let first = self.open(IDLE_FIRST).await?;
        let before = self.resident_at_rest().await?;
        let idle = self.open(count).await?;
        let with = self.resident_at_rest().await?;
        close(idle).await?;
        close(first).await?;
        Ok([before, with])
    }

    async fn resident_at_rest(&self) -> Result<u64, AnyError> {
        self.process.cpu_at_rest().await?;
        Ok(self.process.resident_kib()?)
    }
}

/// Measures all modes, round by round. Each server lives through all of them; the first round warms up and does not count.
pub async fn costs(options: &Options, binary: &Path) -> Result<Costs, AnyError> {
    let pki = Pki::new()?;
    let Started { servers, _upstream } = start_all(options, &pki, binary)?;
    let none = || std::array::from_fn(|_| Vec::new());
    let mut costs = Costs { connection: none(), request: none(), latency: [none(), none()] };
    for round in 0..=options.rounds {
        for (mode, server) in &servers {
            let connection = server.connections(options.connections).await?;
            let request = server.requests(options.requests).await?;
            let times = server.latency((options.requests / TIMED).max(1)).await?;
            if round > 0 {
                costs.connection[*mode].push(connection);
                costs.request[*mode].push(request);
                for (rounds, share) in costs.latency.iter_mut().zip([0.5, 0.99]) {
                    rounds[*mode].push(quantile(&times, share));
                }
            }
        }
    }
    Ok(costs)
}

/// Measures idle connections on fresh servers: one that has worked before holds memory that it would only use again. KiB per connection, and
/// what of it is still held some time after all have left.
pub async fn idle_memory(options: &Options, binary: &Path) -> Result<[Rounds; 2], AnyError> {
    let pki = Pki::new()?;
    let [mut held, mut kept]: [Rounds; 2] = std::array::from_fn(|_| std::array::from_fn(|_| Vec::new()));
    for _ in 0..IDLE_RUNS {
        let Started { servers, _upstream } = start_all(options, &pki, binary)?;
        let mut sizes = Vec::with_capacity(servers.len());
        for (_, server) in &servers {
            sizes.push(server.idle_memory(options.idle).await?);
        }
        tokio::time::sleep(options.give_back_within).await;
        for ((mode, server), [before, with]) in servers.iter().zip(sizes) {
            let after = server.resident_at_rest().await?;
            for (rounds, resident) in [(&mut held, with), (&mut kept, after)] {
                rounds[*mode].push((resident as f64 - before as f64) / options.idle as f64);
            }
        }
    }
    Ok([held, kept])
}

/// What runs at a time.
struct Started {
    /// Each with its mode's place.
    servers: Vec<(usize, Server)>,
    /// What stands behind proxies, where any are measured.
    _upstream: Option<ServerProcess>,
}

fn start_all(options: &Options, pki: &Pki, binary: &Path) -> Result<Started, AnyError> {
    let alone = Surroundings { folder: pki.folder(), binary, upstream: None, registry: None };
    let upstream = options.proxies.then(|| ServerProcess::start_upstream(alone)).transpose()?;
    let surroundings = Surroundings { upstream: upstream.as_ref().map(|upstream| upstream.addr), ..alone };
    let wanted = Mode::ALL.into_iter().enumerate().filter(|(_, mode)| options.measures(*mode));
    let servers = wanted.map(|(place, mode)| Ok((place, Server::start(mode, options, pki, surroundings)?)));
    Ok(Started { servers: servers.collect::<Result<_, AnyError>>()?, _upstream: upstream })
}

/// `count` split among the busy connections.
fn shares(count: usize) -> impl Iterator<Item = usize> {
    (0..BUSY).map(move |i| count / BUSY + usize::from(i < count % BUSY))
}

async fn all<T: 'static>(mut tasks: JoinSet<Result<T, AnyError>>) -> Result<Vec<T>, AnyError> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(result) = tasks.join_next().await {
        results.push(result??);
    }
    Ok(results)
}

async fn close(clients: Vec<Client>) -> Result<(), AnyError> {
    for client in clients {
        client.close().await?;
    }
    Ok(())
}

fn microseconds(nanoseconds: u64, operations: usize) -> f64 {
    nanoseconds as f64 / 1000.0 / operations as f64
}
