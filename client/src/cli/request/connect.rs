//! From what was resolved (key, trust, wire) and the flags to a client for the URL's origin.

use std::net::SocketAddr;
use std::time::Duration;

use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Profile};
use ekm_otp_client::{Client, ConnectionInfo};

use super::address::dialled;
use super::flags::RequestArgs;
use super::target;
use crate::cli::CliError;
use crate::cli::output::say;
use crate::cli::profiles::{self, Resolved};

/// What a server gets to see, for messages.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) kid: KeyId,
    /// The server's name.
    pub(super) name: String,
    /// The profile that says so, if one does.
    pub(super) profile: Option<String>,
    pub(super) wire: Profile,
    pub(super) credential: CredentialKind,
    /// What holds the key.
    pub(super) holder: &'static str,
}

impl Shown {
    /// How many HMACs a connection costs.
    pub(super) fn macs(&self) -> u64 {
        if self.wire == Profile::Go && self.credential == CredentialKind::Jwe { 2 } else { 1 }
    }
}

/// Where the request goes, before any key is looked at.
pub(super) struct Way {
    pub(super) how: Resolved,
    addresses: Vec<SocketAddr>,
    dialled: Authority,
}

impl Way {
    pub(super) fn of(args: &RequestArgs) -> Result<Self, CliError> {
        let named = target::authority(&args.url)?;
        let how = profiles::resolve(&args.how, &named)?;
        let (dialled, addresses) = dialled(&how.dialled, &args.time.connect_to, &args.time.resolve).map_err(CliError::Usage)?;
        if !args.what.claims.is_empty() && how.credential.unwrap_or_default() == CredentialKind::Otp {
            return Err(CliError::Usage("--claim needs a token to travel in: --credential jws or jwe".into()));
        }
        Ok(Self { how, addresses, dialled })
    }

    /// Opens the keys: one that cannot be used is told at once, and each connection then costs one TPM command.
    pub(super) async fn client(self, args: &RequestArgs) -> Result<(Client, Shown), CliError> {
        let Self { how, addresses, dialled } = self;
        let timeout = args.time.timeout;
        // While the TPM loads the key, certificates are read.
        let (keys, tls) = tokio::join!(how.open_keys(timeout), async { how.tls_config() });
        let keys = keys?;
        let mut builder = how.assembled(&keys, tls?, timeout)?.dial(dialled).addresses(addresses).response_deadline(timeout);
        if let Some(loaded_in) = keys.loaded_in.filter(|_| args.output.verbose > 0) {
            say!("* TPM: key loaded, {}", milliseconds(loaded_in));
        }
        let (kid, _) = keys.keys.first().ok_or_else(|| CliError::Usage("--kid and --key are missing".into()))?;
        let shown = Shown {
            kid: kid.clone(),
            name: how.origin.host(),
            profile: how.profile.clone(),
            wire: how.wire,
            credential: how.credential.unwrap_or_default(),
            holder: if keys.loaded_in.is_some() { "TPM" } else { "software key" },
        };
        if args.time.http1 {
            builder = builder.http1_only();
        } else if args.time.http2_prior_knowledge {
            builder = builder.http2_only();
        }
        let at_once = args.load.concurrency as usize;
        builder = builder.max_connections(at_once).max_idle(at_once).max_waiting(at_once.max(1024));
        Ok((builder.build().map_err(|e| CliError::Usage(e.to_string()))?, shown))
    }
}

/// What `-v` tells of a connection when it is used first.
pub(super) fn tell_connection(connection: &ConnectionInfo, shown: &Shown) {
    if let Some(address) = connection.remote_address() {
        say!("* connected to {address}");
    }
    say!("* TLS: {}", connection.tls());
    say!("* HTTP: {:?}", connection.http_version());
    let macs = if shown.macs() == 2 { "two HMACs" } else { "one HMAC" };
    say!("* {}: {macs}, {}", shown.holder, milliseconds(connection.mac_time()));
    if connection.was_proven() {
        say!("* server proof: verified, before the request was sent");
    }
}

/// What it tells of the server's proof, where that came later.
pub(super) fn tell_proof(connection: &ConnectionInfo, shown: &Shown) {
    match (connection.was_proven(), connection.is_proven()) {
        (true, _) => {}
        (false, true) => say!("* server proof: verified, in this answer"),
        (false, false) if shown.wire == Profile::Go => say!("* server proof: none in the profile go"),
        (false, false) => say!("* server proof: none. This answer may come from anyone who has a valid certificate"),
    }
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
