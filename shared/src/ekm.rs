//! Exported keying material (RFC 5705, RFC 8446 §7.5): what makes a password fit one connection only.

use std::fmt;

use constant_time_eq::constant_time_eq_16;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base64url;

/// The exporter's label. Its context is present and empty: TLS 1.2 tells an absent context from an empty one.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL-ekm-otp-v1";

/// The keying material of one finished handshake: 32 secret bytes `X` and the 16-byte [`Channel`].
///
/// Not `Clone`, and its `Debug` shows nothing: whoever learns `X` learns nothing about other connections, but `X` is
/// what an offline guess against a weak secret starts from.
#[derive(ZeroizeOnDrop)]
pub struct Ekm {
    x: [u8; 32],
    #[zeroize(skip)]
    channel: Channel,
}

impl Ekm {
    /// How many bytes are exported.
    pub const LEN: usize = 48;

    /// Takes the keying material from a TLS stack, once. The closure gets the output buffer, the label and the context.
    ///
    /// [`Handshake`](crate::Handshake) does this for rustls; other stacks call this after both Finished messages.
    ///
    /// # Errors
    /// What the closure answers.
    pub fn export<E>(exporter: impl FnOnce(&mut [u8; Self::LEN], &[u8], &[u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        exporter(&mut bytes, EXPORTER_LABEL, b"")?;
        Ok(Self::split(&bytes))
    }

    /// Splits 48 exported bytes. For test vectors; a program takes an `Ekm` from its handshake.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; Self::LEN]) -> Self {
        let ekm = Self::split(&bytes);
        bytes.zeroize();
        ekm
    }

    fn split(bytes: &[u8; Self::LEN]) -> Self {
        let (mut x, mut channel) = ([0; 32], [0; 16]);
        x.copy_from_slice(&bytes[..32]);
        channel.copy_from_slice(&bytes[32..]);
        Self { x, channel: Channel(channel) }
    }

    pub(crate) fn x(&self) -> &[u8; 32] {
        &self.x
    }

    /// The part that names this connection on the wire.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }
}

impl fmt::Debug for Ekm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ekm").finish_non_exhaustive()
    }
}

/// `EKM[32..48]`: names a connection to both its ends. It travels in clear inside TLS and keys nothing; when the two ends
/// disagree about it, TLS ends somewhere in between.
#[derive(Clone, Copy)]
pub struct Channel([u8; 16]);

impl Channel {
    /// The canonical unpadded base64url spelling, 22 characters.
    #[must_use]
    pub fn encode(&self) -> String {
        base64url::encode(&self.0)
    }

    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        base64url::decode(text).map(Self)
    }

    /// Whether both name the same connection, in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        constant_time_eq_16(&self.0, &other.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel(..)")
    }
}
