//! What is compared, and the test data that both ends of a connection know.

use ekm_otp_tower::protocol::{KeyId, KeyIdError, Secret, SecretError};

/// How a server authenticates its clients. Everything else is the same in all modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: hyper and rustls, with the TLS policy that the others have.
    None,
    /// By a static token as long as an EKM-OTP credential, compared in constant time. tower-http is no dependency of this workspace: the
    /// thinnest possible wrapper stands for it, which costs no more than any middleware one would use.
    Bearer,
    /// By this crate: listener, acceptor, layer, and the server's proof. The connection's password goes with each request.
    EkmOtp,
    /// The same with a signed token for each request.
    Jws,
    /// The same with a signed and encrypted token for each request.
    Jwe,
    /// By client certificates, one issuer deep.
    Mtls,
}

impl Mode {
    /// In the order of measuring and of the tables. `None` is first: it is what the others are compared with.
    pub const ALL: [Self; 6] = [Self::None, Self::Bearer, Self::EkmOtp, Self::Jws, Self::Jwe, Self::Mtls];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer => "bearer",
            Self::EkmOtp => "ekm-otp",
            Self::Jws => "jws",
            Self::Jwe => "jwe",
            Self::Mtls => "mtls",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// The one host that the servers answer to.
pub const HOST: &str = "localhost";

/// The one client's key id.
pub fn kid() -> Result<KeyId, KeyIdError> {
    KeyId::new("client1")
}

/// The one client's secret: test data.
pub fn secret() -> Result<Secret, SecretError> {
    Secret::new(b"test data, used nowhere else ...".to_vec())
}

/// A bearer credential of the same length as the EKM-OTP credential of [`kid`], since each byte of a header costs something.
pub fn bearer_credential() -> String {
    const SCHEME: &str = "Bearer ";
    let same_length = r#"EKM-OTP kid="client1", channel="", otp="""#.len() + CHANNEL_CHARS + OTP_CHARS;
    format!("{SCHEME}{}", "t".repeat(same_length - SCHEME.len()))
}

/// 16 and 32 bytes in unpadded base64url.
const CHANNEL_CHARS: usize = 22;
const OTP_CHARS: usize = 43;
