//! The key schedule of protocol v1 (docs/protocol.md, "Derivation"): one HMAC by whoever holds the secret, then HKDF-Expand.
//!
//! ```text
//! M      = "ekm-otp v1" || 0x00 || X || lp(kid) || lp(server_name)
//! PRK    = HMAC-SHA256(S, M)                                  = HKDF-Extract(salt S, IKM M), RFC 5869 §2.2
//! T(use) = HKDF-Expand(PRK, "ekm-otp v1 " || use, 32)         RFC 5869 §2.3
//! ```

use std::fmt;

use constant_time_eq::constant_time_eq_32;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::{Ekm, KeyId, ServerName, base64url};

/// What must be MACed for one connection and key id. A value, not a callback: it says what, any holder of the secret does it
/// ([`Secret::mac`](crate::Secret::mac), a TPM, an HSM), and [`finish`](Self::finish) takes the answer.
pub struct Derivation {
    mac_input: Zeroizing<Vec<u8>>,
}

impl Derivation {
    /// States `M`: at most 428 bytes, so one TPM2_HMAC (at most 1024) covers it.
    #[must_use]
    pub fn new(ekm: &Ekm, kid: &KeyId, server_name: &ServerName) -> Self {
        const DOMAIN: &[u8] = b"ekm-otp v1\0";
        let (kid, name) = (kid.as_str().as_bytes(), server_name.as_str().as_bytes());
        // The exact capacity: a grown Vec would leave a copy of X behind unwiped.
        let mut m = Vec::with_capacity(DOMAIN.len() + 32 + 2 + kid.len() + 2 + name.len());
        m.extend_from_slice(DOMAIN);
        m.extend_from_slice(ekm.x());
        lp(&mut m, kid);
        lp(&mut m, name);
        Self { mac_input: Zeroizing::new(m) }
    }

    /// `M`, the input of HMAC-SHA256 under the shared secret.
    #[must_use]
    pub fn mac_input(&self) -> &[u8] {
        &self.mac_input
    }

    /// Takes the MAC of [`mac_input`](Self::mac_input) and yields the connection's keys.
    #[must_use]
    pub fn finish(self, tag: Tag) -> Prk {
        Prk { prk: tag.0 }
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation").finish_non_exhaustive()
    }
}

/// `lp(x)`: a 16-bit big-endian length, then x. Key ids and server names are bounded far below 2^16.
fn lp(out: &mut Vec<u8>, x: &[u8]) {
    let len = u16::try_from(x.len()).unwrap_or_else(|_| unreachable!("key ids and server names have at most 253 bytes"));
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(x);
}

macro_rules! secret32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(pub(crate) Zeroizing<[u8; 32]>);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret32! {
    /// The HMAC-SHA256 of a [`Derivation`]'s input, as its holder answered it.
    Tag
}
secret32! {
    /// `T("client otp")`: the one-time password of one connection, as computed by this end.
    Otp
}
secret32! {
    /// `T("server proof")`: what shows the client that the server holds the secret too, as computed by this end.
    ServerProof
}
secret32! {
    /// A one-time password as a peer presented it: only good for [`Otp::verify`].
    PresentedOtp
}
secret32! {
    /// A server proof as a peer presented it: only good for [`ServerProof::verify`].
    PresentedProof
}

impl Tag {
    /// Takes the 32 bytes that the holder of the secret answered.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let tag = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        tag
    }
}

/// The keys of one connection and key id (RFC 5869's PRK). Never leaves this crate as bytes.
#[derive(ZeroizeOnDrop)]
pub struct Prk {
    prk: Zeroizing<[u8; 32]>,
}

impl Prk {
    /// `T("client otp")`.
    #[must_use]
    pub fn otp(&self) -> Otp {
        Otp(self.expand("client otp"))
    }

    /// `T("server proof")`.
    #[must_use]
    pub fn server_proof(&self) -> ServerProof {
        ServerProof(self.expand("server proof"))
    }

    pub(crate) fn expand(&self, usage: &str) -> Zeroizing<[u8; 32]> {
        let mut okm = Zeroizing::new([0; 32]);
        // RFC 5869 §2.3: PRK of at least HashLen bytes, at most 255 * HashLen bytes out. Both are 32 here.
        Hkdf::<Sha256>::from_prk(&*self.prk)
            .and_then(|hk| hk.expand_multi_info(&[b"ekm-otp v1 ", usage.as_bytes()], &mut *okm).map_err(|_| hkdf::InvalidPrkLength))
            .unwrap_or_else(|_| unreachable!("32 bytes are a legal PRK and a legal output"));
        okm
    }
}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prk(..)")
    }
}

impl Otp {
    /// The canonical unpadded base64url spelling, 43 characters.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(base64url::encode(&*self.0))
    }

    /// Whether `presented` is this password, in constant time.
    #[must_use]
    pub fn verify(&self, presented: &PresentedOtp) -> bool {
        constant_time_eq_32(&self.0, &presented.0)
    }
}

impl ServerProof {
    /// The canonical unpadded base64url spelling, 43 characters.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(base64url::encode(&*self.0))
    }

    /// Whether `presented` is this proof, in constant time.
    #[must_use]
    pub fn verify(&self, presented: &PresentedProof) -> bool {
        constant_time_eq_32(&self.0, &presented.0)
    }
}

impl PresentedOtp {
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        base64url::decode(text).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}

impl PresentedProof {
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        base64url::decode(text).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}
