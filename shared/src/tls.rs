//! What TLS must be before it carries a one-time password, and what is taken from a finished handshake (docs/protocol.md, "TLS").

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConnectionData};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use crate::{Ekm, ServerName, ServerNameError};

/// Which handshakes count. The default is TLS 1.3 only, with any key exchange of the provider, X25519MLKEM768 first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Take TLS 1.2 too, then only with extended master secret (RFC 7627) and without resumption.
    pub tls12: bool,
    /// Refuse every key exchange but X25519MLKEM768, one that is not known included.
    pub require_post_quantum: bool,
}

impl TlsPolicy {
    /// The protocol versions to hand to a rustls config builder.
    #[must_use]
    pub fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS13_ONLY: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        static WITH_TLS12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        if self.tls12 { &WITH_TLS12 } else { &TLS13_ONLY }
    }

    /// The provider with its key exchanges in this policy's order: X25519MLKEM768 first, or alone.
    #[must_use]
    pub fn provider(&self, mut provider: CryptoProvider) -> Arc<CryptoProvider> {
        provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
        if self.require_post_quantum {
            provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519MLKEM768);
        }
        Arc::new(provider)
    }

    /// Switches off, whatever was set before: early data, half-RTT data, key logging, secret extraction; with TLS 1.2 also
    /// resumption, and sessions without extended master secret are refused.
    pub fn restrict_server(&self, config: &mut ServerConfig) {
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.enable_secret_extraction = false;
        config.key_log = Arc::new(rustls::NoKeyLog {});
        config.require_ems = true;
        if self.tls12 {
            // rustls keeps the sessions of both versions in one store, and seals both into tickets: so both go.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.ticketer = Arc::new(NoTickets);
            config.send_tls13_tickets = 0;
        }
    }

    /// The client's counterpart of [`restrict_server`](Self::restrict_server).
    pub fn restrict_client(&self, config: &mut ClientConfig) {
        config.enable_early_data = false;
        config.enable_secret_extraction = false;
        config.key_log = Arc::new(rustls::NoKeyLog {});
        config.require_ems = true;
        config.enable_sni = true;
        if self.tls12 {
            config.resumption = Resumption::disabled();
        }
    }

    fn check(&self, facts: &TlsFacts) -> Result<(), TlsError> {
        match facts.version {
            ProtocolVersion::TLSv1_3 => {}
            ProtocolVersion::TLSv1_2 if self.tls12 && !facts.resumed => {}
            _ => return Err(TlsError::Version(facts.version_name())),
        }
        if self.require_post_quantum && !facts.is_post_quantum() {
            return Err(TlsError::NotPostQuantum(facts.group_name()));
        }
        Ok(())
    }
}

/// A ticketer that is switched off, as rustls' own default is.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// What one finished handshake yields: its keying material, exported once, and its facts.
#[derive(Debug)]
pub struct Handshake {
    /// The exported keying material.
    pub ekm: Ekm,
    /// What both ends agreed on.
    pub facts: TlsFacts,
}

impl Handshake {
    /// Takes the server's side of a finished handshake.
    ///
    /// # Errors
    /// When the handshake is not finished, breaks `policy`, or the peer's SNI is no DNS name.
    pub fn of_server(connection: &ServerConnection, policy: &TlsPolicy) -> Result<Self, TlsError> {
        let common: &ConnectionCommon<ServerConnectionData> = connection;
        Self::take(common, ServerName::from_sni(connection.server_name())?, policy)
    }

    /// Takes the client's side of a finished handshake, for which it sent `server_name`.
    ///
    /// # Errors
    /// When the handshake is not finished or breaks `policy`.
    pub fn of_client(connection: &ClientConnection, server_name: ServerName, policy: &TlsPolicy) -> Result<Self, TlsError> {
        Self::take(connection, server_name, policy)
    }

    /// Takes a finished TLS 1.3 handshake of another TLS stack than rustls. The closure exports (RFC 8446 §7.5): it gets the output buffer, the label and
    /// the context, and is called once. Call this after both Finished messages, and never where early data was taken, on connections with an
    /// external PSK, or where somebody else ends TLS: none of that can be seen here.
    ///
    /// # Errors
    /// When the facts break `policy`, or what the closure answers.
    pub fn of_other_stack<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        facts: TlsFacts,
        policy: &TlsPolicy,
        exporter: impl FnOnce(&mut [u8; Ekm::LEN], &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<Self, TlsError> {
        policy.check(&facts)?;
        let ekm = Ekm::export(exporter).map_err(|error| TlsError::OtherExport(error.into()))?;
        Ok(Self { ekm, facts })
    }

    fn take<Side>(connection: &ConnectionCommon<Side>, server_name: ServerName, policy: &TlsPolicy) -> Result<Self, TlsError> {
        let (Some(version), Some(suite), Some(kind), false) =
            (connection.protocol_version(), connection.negotiated_cipher_suite(), connection.handshake_kind(), connection.is_handshaking())
        else {
            return Err(TlsError::Unfinished);
        };
        let facts = TlsFacts {
            version,
            cipher_suite: suite.suite(),
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
            resumed: kind == HandshakeKind::Resumed,
            server_name,
        };
        policy.check(&facts)?;
        let ekm = Ekm::export(|out, label, context| connection.export_keying_material(&mut out[..], label, Some(context)).map(drop))?;
        Ok(Self { ekm, facts })
    }
}

/// What both ends of one connection agreed on. Nothing here is secret.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    version: ProtocolVersion,
    cipher_suite: rustls::CipherSuite,
    group: Option<NamedGroup>,
    resumed: bool,
    server_name: ServerName,
}

impl TlsFacts {
    /// Of a connection of another TLS stack than rustls; of rustls', [`Handshake::of_server`] takes them. The numbers are IANA's: the cipher suite (such as
    /// 0x1302), and the key exchange group (such as 0x11ec, X25519MLKEM768), `None` where the stack does not tell: then it counts as
    /// classical. `server_name` is the ClientHello's, by [`ServerName::from_sni`].
    ///
    /// There is no such thing for TLS 1.2: whether extended master secret was negotiated and the session is a resumed one, rustls is trusted to
    /// tell, and nobody else.
    #[must_use]
    pub fn tls13(cipher_suite: u16, group: Option<u16>, server_name: ServerName) -> Self {
        let group = group.map(NamedGroup::from);
        Self { version: ProtocolVersion::TLSv1_3, cipher_suite: cipher_suite.into(), group, resumed: false, server_name }
    }

    /// Sets that the session was resumed from an earlier connection.
    #[must_use]
    pub fn as_resumed(self) -> Self {
        Self { resumed: true, ..self }
    }

    /// The protocol version, such as `TLSv1.3`.
    #[must_use]
    pub fn version_name(&self) -> String {
        name_of(self.version.as_str(), u16::from(self.version)).replace('_', ".")
    }

    /// The cipher suite by its IANA name, such as `TLS_AES_256_GCM_SHA384`.
    #[must_use]
    pub fn cipher_suite_name(&self) -> String {
        name_of(self.cipher_suite.as_str(), u16::from(self.cipher_suite)).replace("TLS13_", "TLS_")
    }

    /// The key exchange group by its IANA name, such as `X25519MLKEM768`.
    #[must_use]
    pub fn group_name(&self) -> String {
        self.group.map_or_else(|| "unknown".to_owned(), |group| name_of(group.as_str(), u16::from(group)))
    }

    /// Whether the key exchange was X25519MLKEM768: whoever records the connection cannot read it with a quantum computer either.
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        self.group == Some(NamedGroup::X25519MLKEM768)
    }

    /// Whether the session was resumed from an earlier connection. Its keying material is new all the same (RFC 8446 §7.5).
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The server name that the client sent.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }
}

/// One line for people: version, cipher suite, group, server name.
impl fmt::Display for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resumed = if self.resumed { ", resumed" } else { "" };
        write!(f, "{}, {}, {}, server name {}{resumed}", self.version_name(), self.cipher_suite_name(), self.group_name(), self.server_name)
    }
}

fn name_of(name: Option<&'static str>, code: u16) -> String {
    name.map_or_else(|| format!("0x{code:04x}"), str::to_owned)
}

/// Why a TLS connection cannot carry a one-time password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The handshake is not finished on this side: a caller's mistake.
    #[error("the TLS handshake is not finished")]
    Unfinished,
    /// The peer negotiated a version that the policy does not take (or resumed a TLS 1.2 session).
    #[error("{0} is not allowed here")]
    Version(String),
    /// The policy asks for X25519MLKEM768 and another group was negotiated.
    #[error("the key exchange {0} is not X25519MLKEM768, and a post-quantum one is required here")]
    NotPostQuantum(String),
    /// The peer's SNI is no DNS name.
    #[error(transparent)]
    ServerName(#[from] ServerNameError),
    /// The TLS stack could not export.
    #[error("the TLS stack exported no keying material")]
    Export(#[from] rustls::Error),
    /// Another TLS stack than rustls could not export.
    #[error("the TLS stack exported no keying material: {0}")]
    OtherExport(#[source] Box<dyn std::error::Error + Send + Sync>),
}
