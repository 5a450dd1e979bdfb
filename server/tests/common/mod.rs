//! What tests of the whole server share: its binary, clients that authenticate, and applications behind it. All secrets are test data.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

pub mod client;
pub mod frames;
pub mod held;
pub mod honest;
pub mod pki;
pub mod postgres;
pub mod server;
pub mod upstream;

use std::path::Path;
use std::time::{Duration, Instant};

use client::Key;
use pki::{Pki, replace};
use upstream::Upstream;

/// As long is waited at most for what must come.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until it is so, and says how long that took.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

/// The same without holding up what else the runtime does.
pub async fn until_so(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

/// The server's name where one is enough.
pub const HOST: &str = "api.test";

/// Puts a certificate and a registry file of these keys into the folder. Returns the settings of one site before this application.
pub fn one_site(folder: &Path, pki: &Pki, keys: &[Key], upstream: &Upstream) -> String {
    pki.issue_to(folder, "server", &[HOST]);
    replace(&folder.join("registry.toml"), &keys.iter().map(Key::entry).collect::<String>());
    format!(
        "listen = \"127.0.0.1:0\"\nsecrets = \"registry.toml\"\nserver_names = [\"{HOST}\"]\n\
         certificate = \"server.pem\"\nprivate_key = \"server.key\"\nupstream = \"{}\"\n",
        upstream.url()
    )
}
