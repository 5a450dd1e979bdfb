//! What a TPM says about itself and about a key, for a diagnosis. Nothing here uses a key or tries a password that was not given, and nothing
//! is left in the TPM. Where no connection is open yet, what others left there stays, too.

use tss_esapi::constants::{PropertyTag, tss};

use super::capabilities::{BankState, Feature};
use crate::connection::live::Live;
use crate::connection::loaded::Slot;
use crate::{KeyDescription, KeySource, Parent, Policy, TpmError, TpmHandle, TpmKey};

/// What a TPM says about itself (TPM2_GetCapability; TCG part 2, 6.13 and 8.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The specification's family: `2.0`.
    pub family: String,
    /// The specification's revision times 100: 138 is revision 1.38.
    pub revision: Option<u32>,
    /// The manufacturer, up to four characters (TCG Vendor ID Registry).
    pub manufacturer: String,
    /// The manufacturer's own text.
    pub vendor: String,
    /// The firmware's version, as the manufacturer counts.
    pub firmware: Option<(u32, u32)>,
    /// What it can do, of that which this crate makes use of.
    pub features: Vec<Feature>,
    /// How much room it has.
    pub room: Room,
    /// Its protection against guessing passwords.
    pub lockout: LockoutState,
    /// The owner hierarchy, under which keys lie.
    pub owner: HierarchyState,
    /// The endorsement hierarchy, whose key sessions can be pinned to.
    pub endorsement: HierarchyState,
    /// The banks of registers that are switched on, of those that a policy here can name.
    pub banks: Vec<BankState>,
}

impl Health {
    /// Whether the TPM has this.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

/// How much room a TPM has. `None` where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Objects that are loaded now, where this process can see them (the kernel's resource manager shows its own user's only).
    pub objects: Option<u32>,
    /// How many more objects can be loaded; an estimate of the TPM's own.
    pub objects_free: Option<u32>,
    /// Sessions that are loaded now.
    pub sessions: Option<u32>,
    /// How many more sessions can be loaded.
    pub sessions_free: Option<u32>,
    /// How many more sessions can be started, loaded or saved.
    pub active_sessions_free: Option<u32>,
    /// Persistent objects.
    pub persistent: Option<u32>,
    /// How many more persistent objects there is room for; an estimate of the TPM's own.
    pub persistent_free: Option<u32>,
}

impl Room {
    /// The objects that have to be loaded at once to use a key: its parent and itself.
    pub const OBJECTS_NEEDED: u32 = 2;
    /// The sessions that have to be loaded at once to use a key: one that encrypts.
    pub const SESSIONS_NEEDED: u32 = 1;
    /// The same, for a key with a policy.
    pub const SESSIONS_NEEDED_WITH_POLICY: u32 = 2;
}

/// The protection against guessing passwords (TCG part 1, 19.8). `None` where the TPM does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockoutState {
    /// Whether the TPM refuses everything that is protected, right passwords included.
    pub is_locked: bool,
    /// Wrong passwords that it remembers.
    pub failures: Option<u32>,
    /// At how many it locks.
    pub max_failures: Option<u32>,
    /// After how many seconds it forgets one; 0 switches the protection off.
    pub interval: Option<u32>,
    /// For how many seconds a wrong lockout password locks out the reset; 0 until the TPM restarts.
    pub recovery: Option<u32>,
    /// Whether the reset needs a password.
    pub has_password: bool,
}

/// A hierarchy's state. Not known where the TPM does not tell: then it counts as usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HierarchyState {
    /// Whether it is switched on.
    pub is_enabled: bool,
    /// Whether it has a password.
    pub has_password: bool,
}

/// What a TPM says about a key, without using it: no password is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHealth {
    /// What the key is.
    pub description: KeyDescription,
    /// Whether the TPM has loaded it. `false` only where that would count as a wrong password: its parent may have one, and none was given.
    pub is_loaded: bool,
    /// What its file says (or its user, for a persistent key) that must be fulfilled.
    pub policy: Policy,
    /// Whether that is what the key itself asks for.
    pub policy_fits: bool,
    /// The registers that have other values than the policy wants, such as `sha256:7`.
    pub changed: Vec<String>,
    /// Whether it has a password, or may have one: not every file tells.
    pub may_need_password: bool,
    /// Whether wrong passwords count towards the lockout, and the lockout refuses it.
    pub is_guarded: bool,
}

impl TpmHandle {
    /// What the TPM says about itself. Unlike all else, this does not flush what killed processes left in a software TPM: it is to be seen.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn health(&self) -> Result<Health, TpmError> {
        self.run(|device| device.look(Health::read)).await
    }
}

impl TpmKey {
    /// Loads the key, and says what it takes to use it. It is not used, and no password is tried that was not given.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn health(&self) -> Result<KeyHealth, TpmError> {
        self.run(|device, slot, source| device.run(|live| KeyHealth::read(live, slot, source))).await
    }
}

impl Health {
    fn read(live: &mut Live) -> Result<Self, TpmError> {
        let family = live.known_property(PropertyTag::FamilyIndicator)?.map_or_else(String::new, |value| characters(&[value]));
        let vendor = [PropertyTag::VendorString1, PropertyTag::VendorString2, PropertyTag::VendorString3, PropertyTag::VendorString4];
        let vendor: Vec<u32> = vendor.into_iter().map_while(|tag| live.property(tag)).collect();
        let permanent = live.property(PropertyTag::Permanent);
        let hierarchies = live.property(PropertyTag::StartupClear);
        let is_set = |attributes: Option<u32>, bit: u32, unknown: bool| attributes.map_or(unknown, |bits| bits & bit != 0);
        Ok(Self {
            family,
            revision: live.property(PropertyTag::Revision),
            manufacturer: live.property(PropertyTag::Manufacturer).map_or_else(String::new, |value| characters(&[value])),
            vendor: characters(&vendor),
            firmware: live.property(PropertyTag::FirmwareVersion1).zip(live.property(PropertyTag::FirmwareVersion2)),
            features: live.features()?,
            room: Room {
                objects: live.count(tss::TPM2_TRANSIENT_FIRST),
                objects_free: live.property(PropertyTag::HrTransientAvail),
                sessions: live.property(PropertyTag::HrLoaded),
                sessions_free: live.property(PropertyTag::HrLoadedAvail),
                active_sessions_free: live.property(PropertyTag::HrActiveAvail),
                persistent: live.property(PropertyTag::HrPersistent),
                persistent_free: live.property(PropertyTag::HrPersistentAvail),
            },
            lockout: LockoutState {
                is_locked: is_set(permanent, tss::TPMA_PERMANENT_INLOCKOUT, false),
                failures: live.property(PropertyTag::LockoutCounter),
                max_failures: live.property(PropertyTag::MaxAuthFail),
                interval: live.property(PropertyTag::LockoutInterval),
                recovery: live.property(PropertyTag::LockoutRecovery),
                has_password: is_set(permanent, tss::TPMA_PERMANENT_LOCKOUTAUTHSET, false),
            },
            owner: HierarchyState {
                is_enabled: is_set(hierarchies, tss::TPMA_STARTUP_CLEAR_SHENABLE, true),
                has_password: is_set(permanent, tss::TPMA_PERMANENT_OWNERAUTHSET, false),
            },
            endorsement: HierarchyState {
                is_enabled: is_set(hierarchies, tss::TPMA_STARTUP_CLEAR_EHENABLE, true),
                has_password: is_set(permanent, tss::TPMA_PERMANENT_ENDORSEMENTAUTHSET, false),
            },
            banks: live.banks()?,
        })
    }
}

impl KeyHealth {
    fn read(live: &mut Live, slot: Slot, source: &KeySource) -> Result<Self, TpmError> {
        let (public, policy, is_loaded, may_need_password) = match source {
            KeySource::File { file, .. } => {
                let is_loaded = match file.parent() {
                    Parent::Persistent(handle) => live.may_be_tried(handle)?,
                    Parent::H2Primary | Parent::ToolsPrimary(_) | Parent::EndorsementKey(_) => true,
                };
                if is_loaded {
                    live.loaded(slot, source)?;
                }
                (file.public().clone(), file.policy().clone(), is_loaded, file.may_need_password())
            }
            KeySource::Handle { policy, .. } => {
                let public = live.loaded(slot, source)?.public;
                let may = policy.needs_password() || policy.is_empty();
                (public, policy.clone(), true, may)
            }
        };
        let policy_fits =
            if policy.is_empty() { public.object_attributes().user_with_auth() } else { public.auth_policy().value() == policy.digest() };
        let changed = policy.pcrs().filter(|pcr| !live.is_fulfilled(pcr)).map(ToString::to_string).collect();
        let is_guarded = !public.object_attributes().no_da();
        Ok(Self { description: KeyDescription::of(&public), is_loaded, policy, policy_fits, changed, may_need_password, is_guarded })
    }
}

impl Live {
    /// Whether the key at this handle can serve as a parent without a try at its password that would count.
    fn may_be_tried(&mut self, handle: u32) -> Result<bool, TpmError> {
        if self.has_parent_password() {
            return Ok(true);
        }
        let mut object = self.persistent(handle)?;
        let read = self.read_public(object.into());
        let closed = self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing the parent", e));
        let public = read?;
        closed.map(|()| public.object_attributes().no_da())
    }
}

/// Four characters in each number, padded with zeros or spaces. Anything but printable ASCII is shown as a question mark.
fn characters(values: &[u32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).filter(|byte| *byte != 0).collect();
    let shown: String = bytes.into_iter().map(|byte| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' }).collect();
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manufacturers_texts_are_made_printable() {
        assert_eq!(characters(&[0x4942_4d00]), "IBM");
        assert_eq!(characters(&[0x5357_2020, 0x2054_504d, 0, 0]), "SW   TPM");
        assert_eq!(characters(&[0x1b5b_6d00]), "?[m");
        assert_eq!(characters(&[]), "");
    }
}
