//! The measuring itself: rounds over all pairs, in turn.

use std::time::Duration;

use crate::AnyError;
use crate::load::Client;
use crate::options::Options;
use crate::pair::{Ours, Pair, Started, server_binary};
use crate::pki;
use crate::process::{Place, Process, cpu_at_rest};
use crate::quantile::quantile;

/// How many connections are busy at a time where CPU time is counted: who always finds work spends its time on it, and not on waking up.
const BUSY: usize = 8;
/// So many times as much is done where CPU time is counted: it is told in ticks.
const COUNTED: usize = 5;

/// How much memory both of our ends may ever have taken, whatever they carried. In an unoptimised build, too.
const MOST_KIB: u64 = 96 * 1024;

/// One number per round, in the pairs' order.
pub type Rounds = [Vec<f64>; Pair::ALL.len()];

/// What each pair costs.
#[derive(Default)]
pub struct Costs {
    /// How long a request on an open connection takes, in microseconds: the median, and the 99th percentile.
    pub request: [Rounds; 2],
    /// How long a new local connection and a request take.
    pub connection: [Rounds; 2],
    /// Microseconds of both ends' CPU for a request on an open connection, and for a new connection with one.
    pub cpu: [Rounds; 2],
    /// Seconds of both ends' CPU for a GiB, down and up.
    pub cpu_per_gib: [Rounds; 2],
    /// MiB in a second, down and up.
    pub speed: [Rounds; 2],
    /// The most memory that each end has ever had, in MiB: the server's, and the client's.
    pub peak: [Rounds; 2],
}

/// Measures all pairs, round by round. Each lives through all of them; the first round warms up and does not count.
pub fn costs(options: &Options) -> Result<Costs, AnyError> {
    let folder = tempfile::tempdir()?;
    pki::write(folder.path())?;
    let server = server_binary()?;
    let upstream = Process::start(Place::Beside, "the upstream", |addr, command| {
        command.arg(std::env::current_exe()?).args(["--upstream", &addr.to_string()]);
        Ok(())
    })?;
    let is_wanted = |pair: Pair| {
        matches!(pair, Pair::Direct | Pair::Forwarders | Pair::Ours(Ours::Default))
            || options.only.split(',').any(|only| pair.name().contains(only))
    };
    let wanted = Pair::ALL.into_iter().enumerate().filter(|(_, pair)| is_wanted(*pair));
    let pairs = wanted.map(|(place, pair)| Ok((place, Started::new(pair, upstream.addr, folder.path(), &server)?)));
    let pairs: Vec<(usize, Started)> = pairs.collect::<Result<_, AnyError>>()?;

    let mut costs = Costs::default();
    for round in 0..=options.rounds {
        for (place, pair) in &pairs {
            let measured = one_round(pair, options).map_err(|error| format!("{}: {error}", pair.pair.name()))?;
            if round > 0 {
                costs.add(*place, &measured);
            }
        }
    }
    for (place, pair) in &pairs {
        for (rounds, end) in costs.peak.iter_mut().zip(&pair.ends) {
            let peak = end.peak_kib()?;
            if matches!(pair.pair, Pair::Ours(_)) && peak > MOST_KIB {
                return Err(format!("{}: an end has taken {peak} KiB, at most {MOST_KIB}", pair.pair.name()).into());
            }
            rounds[*place].push(peak as f64 / 1024.0);
        }
    }
    Ok(costs)
}

/// One round of one pair, in the order of [`Costs`].
struct Measured {
    request: Vec<f64>,
    connection: Vec<f64>,
    cpu: [f64; 2],
    cpu_per_gib: [f64; 2],
    speed: [f64; 2],
}

impl Costs {
    fn add(&mut self, place: usize, measured: &Measured) {
        for (at, share) in [0.5, 0.99].into_iter().enumerate() {
            self.request[at][place].push(quantile(&measured.request, share));
            self.connection[at][place].push(quantile(&measured.connection, share));
        }
        for at in 0..2 {
            self.cpu[at][place].push(measured.cpu[at]);
            self.cpu_per_gib[at][place].push(measured.cpu_per_gib[at]);
            self.speed[at][place].push(measured.speed[at]);
        }
    }
}

fn one_round(pair: &Started, options: &Options) -> Result<Measured, AnyError> {
    let mut client = Client::connect(pair.addr)?;
    client.get()?;
    let request = (0..options.requests).map(|_| Ok(microseconds(client.get()?))).collect::<Result<_, AnyError>>()?;
    drop(client);

    let connection = (0..options.connections)
        .map(|_| {
            let start = std::time::Instant::now();
            Client::connect(pair.addr)?.get()?;
            Ok(microseconds(start.elapsed()))
        })
        .collect::<Result<_, AnyError>>()?;

    let open = (0..BUSY)
        .map(|_| {
            let mut client = Client::connect(pair.addr)?;
            client.get()?;
            Ok(client)
        })
        .collect::<Result<Vec<_>, AnyError>>()?;
    let each = (COUNTED * options.requests).div_ceil(BUSY);
    let ((), of_requests) = counted(pair, || busy(open, |mut client| (0..each).try_for_each(|_| client.get().map(drop))))?;
    let new = (COUNTED * options.connections).div_ceil(BUSY);
    let ((), of_connections) =
        counted(pair, || busy(vec![(); BUSY], |()| (0..new).try_for_each(|_| Client::connect(pair.addr)?.get().map(drop))))?;

    let bytes = options.mib << 20;
    let mut client = Client::connect(pair.addr)?;
    let (down, of_down) = counted(pair, || client.down(bytes))?;
    let (up, of_up) = counted(pair, || client.up(bytes))?;
    let gib = options.mib as f64 / 1024.0;
    Ok(Measured {
        request,
        connection,
        cpu: [of_requests / (each * BUSY) as f64 / 1000.0, of_connections / (new * BUSY) as f64 / 1000.0],
        cpu_per_gib: [of_down, of_up].map(|nanoseconds| nanoseconds / 1e9 / gib),
        speed: [down, up].map(|time| options.mib as f64 / time.as_secs_f64()),
    })
}

/// What it yields, and how much CPU time both ends have used for it, in nanoseconds.
fn counted<T>(pair: &Started, work: impl FnOnce() -> Result<T, AnyError>) -> Result<(T, f64), AnyError> {
    let before = cpu_at_rest(&pair.ends)?;
    let done = work()?;
    Ok((done, (cpu_at_rest(&pair.ends)? - before) as f64))
}

/// Does it with each in a thread of its own.
fn busy<T: Send>(with: Vec<T>, work: impl Fn(T) -> Result<(), AnyError> + Sync) -> Result<(), AnyError> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = with.into_iter().map(|one| scope.spawn(|| work(one))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client's thread panicked")?)
    })
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
