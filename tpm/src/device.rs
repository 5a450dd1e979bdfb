//! The TPM as its one owner sees it: a context, a salted session, the keys that are loaded. Lost together, made anew together.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::{CapabilityType, SessionType, tss};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, MaxBuffer, SensitiveData, SymmetricDefinition};
use zeroize::Zeroizing;

use crate::presence::Presence;
use crate::tcti::Kind;
use crate::template::{self, EMPTY_PASSWORD};
use crate::{KeyFile, KeyFileError, Parent, Tcti, TpmError};

/// Whether the input and the result of an HMAC travel encrypted between this process and the TPM (TCG part 1, 21: parameter
/// encryption). Creating a key always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusEncryption {
    /// Encrypted, in a salted session.
    #[default]
    On,
    /// In clear: whoever reads the bus sees one connection's MAC input and MAC. Some ten times cheaper for the client.
    Off,
}

/// Names a key that is to be loaded, over the lifetime of an actor.
pub(crate) type Slot = u64;

pub(crate) struct Device {
    tcti: Tcti,
    presence: Option<Presence>,
    live: Option<Live>,
}

impl Device {
    pub(crate) fn new(tcti: Tcti) -> Self {
        Self { tcti, presence: None, live: None }
    }

    /// Runs `operation`; where the connection to the TPM may be at fault, once more on a new one.
    fn run<T>(&mut self, operation: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        let is_new = self.live.is_none();
        let result = operation(self.live()?);
        match result {
            Err(e) if e.is_worth_a_new_connection() => {
                tracing::debug!(error = %e, "the TPM's context is dropped");
                self.live = None;
                if is_new { Err(e) } else { operation(self.live()?).inspect_err(|_| self.live = None) }
            }
            result => result,
        }
    }

    fn live(&mut self) -> Result<&mut Live, TpmError> {
        if self.live.is_none() {
            let reached = reach(&self.tcti)?;
            if let (Some(address), None) = (reached, &self.presence) {
                self.presence = Some(Presence::at(address).ok_or(TpmError::Crowded)?);
            }
            let mut live = Live::connect(&self.tcti)?;
            if let Some(alone) = self.presence.as_ref().and_then(Presence::alone) {
                // Nobody else is there: what is loaded now, a killed process left behind (or this one, when its connection broke).
                live.flush_leftovers()?;
                drop(alone);
            }
            self.live = Some(live);
        }
        self.live.as_mut().ok_or(TpmError::ThreadEnded)
    }

    pub(crate) fn random(&mut self, salt_key: Parent, len: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(|live| {
            let session = live.session_for(salt_key)?;
            live.set_encryption(session, false, true)?;
            let bytes =
                live.context.execute_with_session(Some(session), |c| c.get_random(len)).map_err(|e| TpmError::of("TPM2_GetRandom", e));
            live.set_encryption(session, true, true)?;
            Ok(Zeroizing::new(bytes?.value().to_vec()))
        })
    }

    pub(crate) fn create_hmac_key(&mut self, parent: Parent, secret: &[u8]) -> Result<KeyFile, TpmError> {
        self.run(|live| {
            live.with_parent(parent, |live, parent_handle| {
                let session = live.session(parent_handle)?;
                let created = live
                    .context
                    .execute_with_session(Some(session), |c| {
                        let sensitive = SensitiveData::try_from(secret.to_vec())?;
                        c.create(parent_handle, template::hmac_key()?, None, Some(sensitive), None, None)
                    })
                    .map_err(|e| TpmError::of("TPM2_Create", e))?;
                Ok(KeyFile::new(parent, created.out_public, created.out_private))
            })
        })
    }

    /// TPM2_HMAC with the key of `slot`, which is loaded first where it is not yet.
    pub(crate) fn hmac(&mut self, slot: Slot, file: &KeyFile, input: &[u8], bus: BusEncryption) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, file)?;
            let session = match (bus, live.session) {
                (BusEncryption::On, Some(session)) => Some(session),
                // Loading the key has made the session.
                (BusEncryption::On, None) => return Err(TpmError::Command { operation: "TPM2_HMAC", code: 0 }),
                (BusEncryption::Off, _) => EMPTY_PASSWORD,
            };
            let digest = live
                .context
                .execute_with_session(session, |c| {
                    c.hmac(ObjectHandle::from(key), MaxBuffer::try_from(input.to_vec())?, HashingAlgorithm::Null)
                })
                .map_err(|e| TpmError::of("TPM2_HMAC", e))?;
            <[u8; 32]>::try_from(digest.value()).map(Zeroizing::new).map_err(|_| TpmError::Command { operation: "TPM2_HMAC", code: 0 })
        })
    }

    pub(crate) fn load(&mut self, slot: Slot, file: &KeyFile) -> Result<(), TpmError> {
        self.run(|live| live.loaded(slot, file).map(|_| ()))
    }

    pub(crate) fn unload(&mut self, slot: Slot) {
        let Some(live) = &mut self.live else { return };
        if let Some(Err(e)) = live.keys.remove(&slot).map(|key| live.flush(key.into())) {
            tracing::debug!(error = %e, "a key could not be flushed");
            self.live = None;
        }
    }
}

/// Looks whether the TPM is there: the C library reports every reason as one code, the operating system tells them apart. For a software
/// TPM, the address at which it was reached.
fn reach(tcti: &Tcti) -> Result<Option<SocketAddr>, TpmError> {
    let unreachable = |why: String| TpmError::Unreachable { tcti: tcti.clone(), why };
    match &tcti.kind {
        Kind::Device(path) => match std::fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(TpmError::NotPermitted { path: path.display().to_string() }),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let why = "there is no such device. Enable the TPM in the firmware, or name a software TPM with --tcti swtpm:…";
                Err(unreachable(why.into()))
            }
            Err(e) => Err(unreachable(e.to_string())),
        },
        // The data channel takes one connection at a time: the look is at the control channel.
        Kind::Swtpm { host, port } => TcpStream::connect((host.as_str(), port + 1))
            .and_then(|control| control.peer_addr())
            .map(Some)
            .map_err(|e| unreachable(format!("{e}. Is swtpm running, with --server at this port and --ctrl at the next one?"))),
        Kind::Tabrmd => Ok(None),
    }
}

struct Live {
    context: Context,
    session: Option<AuthSession>,
    keys: HashMap<Slot, KeyHandle>,
}

impl Live {
    fn connect(tcti: &Tcti) -> Result<Self, TpmError> {
        let name_conf = tcti.to_name_conf().map_err(|e| TpmError::of("reading the TCTI", e))?;
        let context = Context::new(name_conf).map_err(|e| {
            let hint = match tcti.kind {
                Kind::Swtpm { .. } => "does something else listen there?",
                Kind::Tabrmd => "is tpm2-abrmd running?",
                Kind::Device(_) => "is another program using it? /dev/tpmrm0 can be shared, /dev/tpm0 cannot",
            };
            TpmError::Unreachable { tcti: tcti.clone(), why: format!("{hint} [0x{:x}]", crate::error::code_of(e)) }
        })?;
        Ok(Self { context, session: None, keys: HashMap::new() })
    }

    fn flush_leftovers(&mut self) -> Result<(), TpmError> {
        for first in [tss::TPM2_TRANSIENT_FIRST, tss::TPM2_LOADED_SESSION_FIRST] {
            let answer = self.context.execute_without_session(|c| c.get_capability(CapabilityType::Handles, first, 254));
            let (CapabilityData::Handles(handles), _) = answer.map_err(|e| TpmError::of("TPM2_GetCapability", e))? else { continue };
            for handle in handles.into_inner() {
                let leftover = self.context.execute_without_session(|c| c.tr_from_tpm_public(handle));
                let leftover = leftover.map_err(|e| TpmError::of("looking at a handle that was left behind", e))?;
                self.flush(leftover)?;
                tracing::debug!(?handle, "flushed a handle that a killed process left in the TPM");
            }
        }
        Ok(())
    }

    fn flush(&mut self, handle: ObjectHandle) -> Result<(), TpmError> {
        self.context.execute_without_session(|c| c.flush_context(handle)).map_err(|e| TpmError::of("TPM2_FlushContext", e))
    }

    /// Runs `operation` with the parent's handle; a primary is flushed afterwards, whatever happens.
    fn with_parent<T>(
        &mut self,
        parent: Parent,
        operation: impl FnOnce(&mut Self, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        match parent {
            Parent::H2Primary => {
                let primary = self
                    .context
                    .execute_with_session(EMPTY_PASSWORD, |c| {
                        c.create_primary(Hierarchy::Owner, template::h2_parent()?, None, None, None, None)
                    })
                    .map_err(|e| TpmError::of("TPM2_CreatePrimary", e))?
                    .key_handle;
                let result = operation(self, primary);
                self.flush(primary.into()).and(result)
            }
            Parent::Persistent(handle) => {
                let no_parent = |e| match TpmError::of("TPM2_ReadPublic", e) {
                    TpmError::Command { code, .. } if code >> 16 == 0 => TpmError::NoParent { handle, code },
                    other => other,
                };
                let tpm_handle = PersistentTpmHandle::new(handle).map_err(no_parent)?;
                let mut object =
                    self.context.execute_without_session(|c| c.tr_from_tpm_public(TpmHandle::Persistent(tpm_handle))).map_err(no_parent)?;
                let result = operation(self, KeyHandle::from(object));
                self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing the parent", e)).and(result)
            }
        }
    }

    fn session_for(&mut self, parent: Parent) -> Result<AuthSession, TpmError> {
        match self.session {
            Some(session) => Ok(session),
            None => self.with_parent(parent, Self::session),
        }
    }

    /// The one session, salted against a storage key of this TPM so that a listener on the bus cannot derive its keys.
    fn session(&mut self, salt_key: KeyHandle) -> Result<AuthSession, TpmError> {
        if let Some(session) = self.session {
            return Ok(session);
        }
        let session = self
            .context
            .execute_without_session(|c| {
                c.start_auth_session(
                    Some(salt_key),
                    None,
                    None,
                    SessionType::Hmac,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })
            .map_err(|e| TpmError::of("TPM2_StartAuthSession", e))?
            .ok_or(TpmError::Command { operation: "TPM2_StartAuthSession", code: 0 })?;
        self.set_encryption(session, true, true)?;
        self.session = Some(session);
        Ok(session)
    }

    fn set_encryption(&mut self, session: AuthSession, to_tpm: bool, from_tpm: bool) -> Result<(), TpmError> {
        let (attributes, mask) =
            SessionAttributesBuilder::new().with_continue_session(true).with_decrypt(to_tpm).with_encrypt(from_tpm).build();
        self.context.tr_sess_set_attributes(session, attributes, mask).map_err(|e| TpmError::of("setting the session's attributes", e))
    }

    fn loaded(&mut self, slot: Slot, file: &KeyFile) -> Result<KeyHandle, TpmError> {
        if let Some(key) = self.keys.get(&slot) {
            return Ok(*key);
        }
        let description = file.describe();
        if !description.is_hmac_sha256 {
            return Err(KeyFileError::NotHmac(description.kind.to_owned()).into());
        }
        let key = self.with_parent(file.parent(), |live, parent| {
            let session = live.session(parent)?;
            live.context
                .execute_with_session(Some(session), |c| c.load(parent, file.private().clone(), file.public().clone()))
                .map_err(|e| TpmError::of("TPM2_Load", e))
        })?;
        self.keys.insert(slot, key);
        Ok(key)
    }
}
