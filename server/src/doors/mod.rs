//! Where the server listens, whom it lets in, and how long they may take.

mod address;
mod bind;
mod settings;
mod sockets;
mod stream;
mod trusted;

pub(crate) use self::address::Address;
pub(crate) use self::bind::{Socket, listen};
pub(crate) use self::settings::{Doors, Settings};
pub(crate) use self::sockets::Sockets;
pub(crate) use self::stream::Stream;
