//! The TPM as its one owner sees it: reached when needed, and again when the connection was at fault.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use tss_esapi::handles::ObjectHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{Auth, MaxBuffer, SensitiveData};
use zeroize::Zeroizing;

use crate::actor::{KeySource, NewKey, Settings, Slot};
use crate::duplicate::duplication_digest;
use crate::live::{Live, Loaded};
use crate::policy::{PcrCommand, PolicyCommand};
use crate::presence::Presence;
use crate::tcti::Kind;
use crate::template::{self, AuthPolicy, KeyKind, Origin, Unique, hex};
use crate::{KeyDescription, KeyFile, Parent, PcrSelection, Policy, Tcti, TpmError};

pub(crate) struct Device {
    tcti: Tcti,
    settings: Settings,
    presence: Option<Presence>,
    live: Option<Live>,
    /// Whether a connection broke, or was given up, that may have left something in the TPM.
    has_leftovers: bool,
}

/// What a broken connection left in a TPM that is ours alone is flushed through another one.
impl Drop for Device {
    fn drop(&mut self) {
        if self.has_leftovers && self.presence.is_some() {
            self.live = None;
            let _ = self.live();
        }
    }
}

impl Device {
    pub(crate) fn new(tcti: Tcti, settings: Settings) -> Self {
        Self { tcti, settings, presence: None, live: None, has_leftovers: false }
    }

    /// Runs `operation`; where the connection to the TPM may be at fault, once more on a new one.
    pub(crate) fn run<T>(&mut self, operation: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        self.try_run(operation).map_err(|error| match error {
            TpmError::Command { operation, code } if error.is_break() => {
                TpmError::Unreachable { tcti: self.tcti.clone(), why: format!("the connection broke during {operation} [0x{code:x}]") }
            }
            other => other,
        })
    }

    fn try_run<T>(&mut self, operation: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        let is_new = self.live.is_none();
        let result = operation(self.live()?);
        match result {
            Err(e) if e.is_worth_a_new_connection() => {
                tracing::debug!(error = %e, "the TPM's context is dropped");
                self.give_up();
                if is_new { Err(e) } else { operation(self.live()?).inspect_err(|_| self.give_up()) }
            }
            Err(e @ TpmError::Interrupted(_)) => {
                self.give_up();
                Err(e)
            }
            result => {
                if self.live.as_ref().is_some_and(|live| live.is_broken) {
                    self.give_up();
                }
                result
            }
        }
    }

    /// Looks at the TPM as it is: what others left in it is not flushed, and nothing is kept.
    pub(crate) fn look<T>(&mut self, look: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        if self.live.is_some() {
            return self.run(look);
        }
        reach(&self.tcti)?;
        look(&mut Live::connect(&self.tcti, &Settings::default())?)
    }

    fn give_up(&mut self) {
        self.live = None;
        self.has_leftovers = true;
    }

    fn live(&mut self) -> Result<&mut Live, TpmError> {
        if self.live.is_none() {
            let reached = reach(&self.tcti)?;
            if let (Some(address), None) = (reached, &self.presence) {
                self.presence = Some(Presence::at(address).ok_or(TpmError::Crowded)?);
            }
            let mut live = Live::connect(&self.tcti, &self.settings)?;
            if let Some(alone) = self.presence.as_ref().and_then(Presence::alone) {
                // Nobody else is there: what is loaded now, a killed process left behind (or this one, when its connection broke).
                live.flush_leftovers()?;
                self.has_leftovers = false;
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

    /// TPM2_Create: the TPM makes the key, or takes the secret of an HMAC key as sensitive data.
    pub(crate) fn create(&mut self, new: &NewKey, secret: Option<&[u8]>) -> Result<KeyFile, TpmError> {
        let origin = if secret.is_some() { Origin::Given } else { Origin::Tpm };
        self.run(|live| {
            let (policy, auth_policy) = policy_of(live, new)?;
            live.with_parent(new.parent, |live, parent| {
                let session = live.parent_session(new.parent, parent)?;
                let created = live.context.execute_with_session(Some(session), |c| {
                    let public = template::key(new.kind, origin, new.password.is_some(), auth_policy, Unique::Unknown)?;
                    let auth = new.password.as_ref().map(crate::Password::to_auth).transpose()?;
                    let sensitive = secret.map(|secret| SensitiveData::try_from(secret.to_vec())).transpose()?;
                    c.create(parent, public, auth, sensitive, None, None)
                });
                let created = created.map_err(|e| TpmError::of("TPM2_Create", e)).map_err(|e| live.explain_parent(new.parent, e))?;
                Ok(KeyFile::new(new.parent, created.out_public, created.out_private, new.password.is_none(), policy.clone()))
            })
        })
    }

    /// TPM2_HMAC with the key of `slot`.
    pub(crate) fn hmac(&mut self, slot: Slot, source: &KeySource, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            must_be(&key, &[KeyKind::HmacSha256], "make HMACs")?;
            let digest = live.with_key(&key, source.bus(), "TPM2_HMAC", |c, handle| {
                c.hmac(ObjectHandle::from(handle), MaxBuffer::try_from(input.to_vec())?, HashingAlgorithm::Null)
            })?;
            <[u8; 32]>::try_from(digest.value()).map(Zeroizing::new).map_err(|_| TpmError::Command { operation: "TPM2_HMAC", code: 0 })
        })
    }

    pub(crate) fn load(&mut self, slot: Slot, source: &KeySource) -> Result<KeyDescription, TpmError> {
        self.run(|live| live.loaded(slot, source).map(|key| KeyDescription::of(&key.public)))
    }

    pub(crate) fn unload(&mut self, slot: Slot) {
        if let Some(Err(e)) = self.live.as_mut().map(|live| live.unload(slot)) {
            tracing::debug!(error = %e, "a key could not be flushed");
            self.give_up();
        }
    }

    /// TPM2_ObjectChangeAuth: the same key with another password, or without one.
    pub(crate) fn change_password(&mut self, slot: Slot, source: &KeySource, new: Option<&crate::Password>) -> Result<KeyFile, TpmError> {
        let KeySource::File { file, .. } = source else {
            return Err(TpmError::NotForThis {
                kind: "persistent".into(),
                operation: "change their password: change it in the file, and persist that",
            });
        };
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            if file.policy().needs_password() && new.is_none() {
                return Err(TpmError::NotForThis {
                    kind: "password-protected".into(),
                    operation: "lose a password that is part of their policy",
                });
            }
            let private = live.with_parent(file.parent(), |live, parent| {
                live.as_admin(&key, "TPM2_ObjectChangeAuth", |c, handle| {
                    let auth = new.map_or(Ok(Auth::default()), crate::Password::to_auth)?;
                    c.object_change_auth(handle.into(), parent.into(), auth)
                })
            })?;
            Ok((**file).clone().with_private(private, new.is_none()))
        })
    }

    pub(crate) fn policy_for(&mut self, selection: &PcrSelection, auth_policy: &[u8]) -> Result<Policy, TpmError> {
        let values = self.run(|live| values_of(live, selection))?;
        let candidates = [(false, false), (true, false), (false, true), (true, true)];
        let mut policies =
            candidates.map(|(needs_password, is_joint)| policy_over(selection, &values, needs_password, is_joint)).into_iter();
        policies.find(|policy| policy.digest() == *auth_policy).ok_or_else(|| TpmError::OtherPolicy(selection.to_string()))
    }

    /// The values of registers now.
    pub(crate) fn policy_now(&mut self, selection: &PcrSelection, needs_password: bool) -> Result<Policy, TpmError> {
        self.run(|live| Ok(policy_over(selection, &values_of(live, selection)?, needs_password, false)))
    }

    pub(crate) fn ek_name(&mut self) -> Result<String, TpmError> {
        self.run(|live| {
            let (key, name) = live.ek()?;
            live.flush(key.into()).map(|()| hex(&name))
        })
    }
}

pub(crate) fn policy_of(live: &mut Live, new: &NewKey) -> Result<(Policy, AuthPolicy), TpmError> {
    match &new.pcrs {
        None if new.movable => Ok((Policy::default(), AuthPolicy::Duplicate(duplication_digest(true)))),
        None => Ok((Policy::default(), AuthPolicy::None)),
        // Either needs the one authPolicy; both would take a TPM2_PolicyOR.
        Some(_) if new.movable => {
            Err(TpmError::NotForThis { kind: "movable".into(), operation: "be bound to registers (PCR): leave one of the two out" })
        }
        Some(selection) => {
            let policy = policy_over(selection, &values_of(live, selection)?, new.password.is_some(), false);
            let digest = policy.digest();
            Ok((policy, AuthPolicy::Use(digest)))
        }
    }
}

/// The registers' values: those that are given, and the others as they are now.
fn values_of(live: &mut Live, selection: &PcrSelection) -> Result<Vec<(u8, Vec<u8>)>, TpmError> {
    let value = |(register, value): (u8, Option<&[u8]>)| match value {
        Some(value) => Ok((register, value.to_vec())),
        None => live.read_pcr(selection.bank(), register).map(|value| (register, value)),
    };
    selection.registers().map(value).collect()
}

/// One command for each register, so that the one that changes can be named; or one for all, as others make it.
fn policy_over(selection: &PcrSelection, values: &[(u8, Vec<u8>)], needs_password: bool, is_joint: bool) -> Policy {
    let bank = selection.bank();
    let mut commands: Vec<_> = match is_joint {
        true => vec![PolicyCommand::Pcr(PcrCommand::of_all(bank, values))],
        false => values.chunks(1).map(|one| PolicyCommand::Pcr(PcrCommand::of_all(bank, one))).collect(),
    };
    if needs_password {
        commands.push(PolicyCommand::AuthValue);
    }
    Policy(commands)
}

pub(crate) fn must_be(key: &Loaded, kinds: &[KeyKind], operation: &'static str) -> Result<(), TpmError> {
    match key.kind() {
        Some(kind) if kinds.contains(&kind) => Ok(()),
        _ => Err(TpmError::NotForThis { kind: KeyDescription::of(&key.public).algorithm, operation }),
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
