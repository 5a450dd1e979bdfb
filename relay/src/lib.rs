//! What the server's proxy and the client's sidecar are both made of: how a request passes from one HTTP connection to another, and how a process
//! that does this lives on its machine.
//!
//! On the way of a request: [`hop`] takes away what was for one connection only (RFC 9110 §7.6.1), [`folded`] knows every spelling of the fields that
//! say who somebody is, [`cookies`] and [`target`] undo what one version of HTTP does and the other does not know, [`websocket`] speaks both versions'
//! way of asking for a stream (RFC 6455, RFC 8441), [`joined`] lets two of them be one, [`framed`] tells the end of one from a cut.
//!
//! Around it: [`loopback`] tells names that nobody elsewhere can point to this machine from those that somebody can, [`unix_socket`] opens sockets
//! with the right mode, [`file_watch`] tells when files are other ones, [`service_manager`] tells systemd how it goes.
//!
//! It knows no TLS, no keys and no credentials: which requests pass, and whose they are, is decided by those who use it.

pub mod cookies;
pub mod file_watch;
pub mod folded;
pub mod framed;
pub mod hop;
pub mod joined;
pub mod loopback;
pub mod service_manager;
pub mod target;
pub mod unix_socket;
pub mod websocket;
