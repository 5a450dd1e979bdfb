//! A million keys in a database: how long the start takes, how long a look-up, how much memory, and how soon a change is seen.
//!
//! `cargo bench -p ekm-otp-server --bench registry [-- KEYS]`. Each part runs in a process of its own, so that none's memory counts as another's.

// The program is no library: its registry is built once more here.
#[path = "../../src/error.rs"]
#[allow(dead_code, reason = "the server uses the rest")]
mod error;
#[path = "../../tests/common/postgres.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod postgres;
#[path = "../../src/registry/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the server uses the rest")]
mod registry;
#[path = "../../src/settings.rs"]
#[allow(dead_code, reason = "the server uses the rest")]
mod settings;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekm_otp::{KeyId, Secret};
use ekm_otp_tower::SecretStore as _;
use ekm_otp_tower::registry_file::{Entry, KeyState};
use registry::{Config, Edit, Records, Registry, RegistryKey, Settings, write_new};
use settings::Mistakes;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: u32 = 1_000_000;
const LOOK_UPS: usize = 2_000_000;
const CHANGES: u32 = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fill", url, key, keys] => fill(&config(url, key), keys.parse().expect("a number")),
        ["measure", url, key, keys] => measure(&config(url, key), keys.parse().expect("a number")),
        [] => all(KEYS),
        [keys] => all(keys.parse().expect("how many keys")),
        _ => panic!("how many keys, or nothing"),
    }
}

fn all(keys: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let registry_key = folder.path().join("registry.key");
    let (_, text) = RegistryKey::generate().expect("a registry key");
    write_new(&registry_key, &text).expect("a file");
    let postgres = postgres::Postgres::start();
    println!("{keys} keys");
    for url in [format!("sqlite://{}", folder.path().join("registry.db").display()), postgres.url()] {
        for part in ["fill", "measure"] {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args([part, &url, registry_key.to_str().expect("UTF-8"), &keys.to_string()]).stdin(Stdio::null());
            assert!(command.status().expect("a part").success(), "{part}");
        }
    }
}

fn config(url: &str, registry_key: &str) -> Config {
    let settings = Settings::of_flags(Some(url.to_owned()), Some(registry_key.into()), None, (false, false));
    let mut mistakes = Mistakes::default();
    let config = settings.resolve(&mut mistakes);
    assert!(mistakes.into_vec().is_empty(), "{url}");
    config
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn kid(number: u32) -> KeyId {
    KeyId::new(&format!("device-{number:07}")).expect("a key id")
}

fn fill(config: &Config, keys: u32) {
    let started = Instant::now();
    let add = |number: u32| {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("randomness");
        let secret = Secret::new(secret.to_vec()).expect("a secret");
        Edit::Add(Box::new(Entry::new(kid(number), format!("Client number {number:07}"), secret)))
    };
    runtime().block_on(async {
        let mut records = Records::open(config).await.expect("the registry");
        records.apply((0..keys).map(add).collect()).await.expect("all of them");
        records.close().await;
    });
    println!("  imported in one transaction: {:.1} s", started.elapsed().as_secs_f64());
}

fn measure(config: &Config, keys: u32) {
    let runtime = runtime();
    let started = Instant::now();
    let registry = Arc::new(runtime.block_on(Registry::open(config)).expect("the registry"));
    println!("  {}: start {:.2} s", registry.health().engine.as_str(), started.elapsed().as_secs_f64());
    assert_eq!(registry.len(), usize::try_from(keys).expect("a number"));
    let told = |name: &str| {
        let status = std::fs::read_to_string("/proc/self/status").expect("proc(5)");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")).expect("a figure").trim().to_owned();
        line.parse::<u64>().expect("a number") / 1024
    };
    println!("  resident {} MiB, at most {} MiB", told("VmRSS:"), told("VmHWM:"));

    // While keys are looked up, others change.
    let is_over = Arc::new(AtomicBool::new(false));
    let looking = std::thread::spawn({
        let (registry, is_over) = (Arc::clone(&registry), Arc::clone(&is_over));
        move || look_up(&registry, keys, &is_over)
    });
    let mut seen = Vec::new();
    runtime.block_on(async {
        let mut records = Records::open(config).await.expect("the registry");
        for number in 0..CHANGES.min(keys) {
            let key = registry.get(&kid(number)).expect("an answer").expect("a key");
            records.apply(vec![Edit::State(kid(number), KeyState::Revoked)]).await.expect("a change");
            let changed = Instant::now();
            while key.is_usable() {
                assert!(changed.elapsed() < Duration::from_secs(30), "a change is never seen");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            seen.push(changed.elapsed());
            tokio::time::sleep(Duration::from_millis(u64::from(37 * (number % 7)))).await;
        }
        records.close().await;
    });
    is_over.store(true, Ordering::Relaxed);
    let mut times = looking.join().expect("the look-ups");
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("  look-ups of random keys, {}: p50 {} ns, p99 {} ns, p99.9 {} ns", times.len(), at(0.5), at(0.99), at(0.999));
    seen.sort_unstable();
    println!("  a change is seen after {:?}, at most {:?}", seen[seen.len() / 2], seen[seen.len() - 1]);
}

/// Nanoseconds each, the clock included.
fn look_up(registry: &Registry, keys: u32, is_over: &AtomicBool) -> Vec<u32> {
    let mut times = Vec::with_capacity(LOOK_UPS);
    let mut random = 0x9e37_79b9_u32;
    while times.len() < LOOK_UPS || !is_over.load(Ordering::Relaxed) {
        // Xorshift: any order that no cache foresees.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let kid = kid(random % keys);
        let started = Instant::now();
        let found = registry.get(&kid).expect("an answer");
        let took = started.elapsed();
        assert!(found.is_some());
        if times.len() < LOOK_UPS {
            times.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
    }
    times
}

/// What the tests' PostgreSQL waits by.
fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}
