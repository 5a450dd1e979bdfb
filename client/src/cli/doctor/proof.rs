//! A real credential, shown to the server on a connection of its own, as any other command shows it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, TlsPolicy, WELL_KNOWN_PATH};
use ekm_otp_client::{ConnectError, Connector, Refusal, Signer};
use http::{Request, StatusCode};
use http_body_util::Empty;

use crate::cli::credential::CredentialArgs;
use crate::cli::error::CliError;
use crate::cli::trust;

/// What TLS 1.2 has to offer is told rather than refused.
pub(super) const POLICY: TlsPolicy = TlsPolicy { tls12: true, require_post_quantum: false };
/// Which server, and who asks.
pub(super) struct Asked<'a> {
    pub(super) dialled: &'a Authority,
    /// Its name in TLS and in requests.
    pub(super) origin: &'a Authority,
    pub(super) who: &'a CredentialArgs,
    pub(super) deadline: Duration,
    /// Whether connections are to be refused that are not post-quantum.
    pub(super) needs_post_quantum: bool,
}

impl Asked<'_> {
    /// Whether a key was named, usable or not.
    pub(super) fn was_key_given(&self) -> bool {
        self.who.key.is_some() || self.who.secret_file.is_some()
    }

    fn connector(&self, kid: &KeyId, key: Arc<dyn Signer>) -> Result<Connector, CliError> {
        let tls = trust::client_config(self.who.ca.as_deref(), &POLICY)?;
        Ok(Connector::new(tls, POLICY, self.origin.clone(), kid.clone(), key).deadline(self.deadline).dial(self.dialled))
    }

    /// The kind that was named, or all of them.
    fn kinds(&self) -> Vec<CredentialKind> {
        self.who.credential.map_or(CredentialKind::ALL.to_vec(), |kind| vec![kind])
    }
}

/// What became of a real credential.
pub(super) enum Proof {
    NotTried,
    Given(CredentialKind),
    Failed(ConnectError),
}

/// A server or an entry in its registry may ask for more than a password.
pub(super) async fn prove(asked: &Asked<'_>, kid: &KeyId, key: Arc<dyn Signer>) -> Proof {
    let Ok(mut connector) = asked.connector(kid, key) else { return Proof::NotTried };
    let mut last = None;
    for kind in asked.kinds() {
        connector = connector.credential(kind);
        match connector.connect().await {
            Ok(_) => return Proof::Given(kind),
            Err(e @ ConnectError::Refused { why: Refusal::Credential, .. }) => last = Some(e),
            Err(e) => return Proof::Failed(e),
        }
    }
    last.map_or(Proof::NotTried, Proof::Failed)
}

/// In the profile go a server does not say which kind it wants: they are tried until one is taken.
pub(super) async fn prove_go(asked: &Asked<'_>, kid: &KeyId, key: Arc<dyn Signer>) -> Result<(CredentialKind, StatusCode), CliError> {
    let mut connector = asked.connector(kid, key)?.profile_go();
    let mut last = (CredentialKind::default(), StatusCode::UNAUTHORIZED);
    for kind in asked.kinds() {
        connector = connector.credential(kind);
        let mut connection = connector.connect().await?;
        let request = Request::get(WELL_KNOWN_PATH).body(Empty::<Bytes>::new()).map_err(|e| CliError::Other(e.to_string()))?;
        last = (kind, connection.send(request).await?.status());
        if last.1 != StatusCode::UNAUTHORIZED {
            break;
        }
    }
    Ok(last)
}
