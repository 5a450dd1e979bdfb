//! `proxy`: the sidecar. Local programs speak plain HTTP to it, and come out authenticated.
//!
//! The way of a request: `accept` takes its connection, and knows which user's it is; `serve` speaks HTTP on it; `handle` asks whether it may: `asked` (which name it
//! asks for), `routes` (which origin that is), `browser` (whether a stranger's page sent it), `users`, `fields` (what must not leave); then the origin's client sends it
//! on, `websocket` joins two streams where both sides agree to, and the answer comes back through `fields`, its `body` as it arrives. Whatever goes wrong is a `failure`.
//!
//! Around it: `settings` from flags or a `file`; `listening` opens sockets, `open` the keys; `run` holds it all, reads again and drains by `running`. Another kind of
//! listener is another `Serve`, such as `tunnels`.

mod accept;
mod activity;
mod address;
mod admin;
mod answer;
mod arguments;
mod asked;
mod bind;
mod body;
mod browser;
mod drained;
mod failure;
mod fields;
mod file;
mod handle;
mod listening;
mod log;
mod metrics;
mod open;
mod place;
mod read;
mod routes;
mod run;
mod running;
mod serve;
mod settings;
mod shared;
mod signals;
mod tunnels;
mod units;
mod users;
mod websocket;

pub(crate) use self::arguments::ProxyArgs;
pub(crate) use self::run::run;
