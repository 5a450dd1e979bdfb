//! The client that programs embed, against servers that are killed, full, slow or old: what its pool promises.

mod common;
#[path = "library/examples.rs"]
mod examples;
#[path = "library/keys.rs"]
mod keys;
#[path = "library/pool.rs"]
mod pool;
#[path = "library/restarts.rs"]
mod restarts;
#[path = "library/server.rs"]
mod server;
#[path = "library/upgrades.rs"]
mod upgrades;
