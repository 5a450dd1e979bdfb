//! What a TPM says about itself and about a key, for a diagnosis. Nothing here uses a key or tries a password that was not given, and nothing
//! is left in the TPM. Where no connection is open yet, what others left there stays, too.

use std::fmt;

use tss_esapi::constants::{AlgorithmIdentifier, CapabilityType, CommandCode, PropertyTag, tss};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    CapabilityData, PublicParameters, SymmetricCipherParameters, SymmetricDefinitionObject, TaggedTpmPropertyList,
};

use crate::actor::{KeySource, Slot};
use crate::error::layer;
use crate::live::Live;
use crate::{KeyDescription, Parent, PcrBank, Policy, TpmError, TpmHandle, TpmKey};

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

/// What this crate needs from a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// The command TPM2_HMAC (in newer specifications TPM2_MAC: one code). Many manufacturers leave it out.
    HmacCommand,
    /// HMAC.
    Hmac,
    /// SHA-256.
    Sha256,
    /// ECC over NIST P-256: the primary key.
    EccP256,
    /// AES with 128 bits in CFB mode: sessions, the primary key.
    Aes128Cfb,
    /// RSA.
    Rsa,
    /// ECDSA.
    Ecdsa,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::HmacCommand, Self::Hmac, Self::Sha256, Self::EccP256, Self::Aes128Cfb, Self::Rsa, Self::Ecdsa];

    /// Whether nothing goes without it. The others are for keys that sign.
    #[must_use]
    pub fn is_essential(self) -> bool {
        !matches!(self, Self::Rsa | Self::Ecdsa)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacCommand => "TPM2_HMAC",
            Self::Hmac => "HMAC",
            Self::Sha256 => "SHA-256",
            Self::EccP256 => "ECC P-256",
            Self::Aes128Cfb => "AES-128-CFB",
            Self::Rsa => "RSA",
            Self::Ecdsa => "ECDSA",
        })
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

/// A bank of registers that is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankState {
    /// Which one.
    pub bank: PcrBank,
    /// Whether firmware has measured anything into it: one of the registers 0 to 7 is neither all zeros nor all ones.
    pub is_measured: bool,
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
                    Parent::H2Primary => true,
                };
                if is_loaded {
                    live.loaded(slot, source)?;
                }
                (file.public().clone(), file.policy().clone(), is_loaded, file.needs_password())
            }
            KeySource::Handle { policy, .. } => {
                let public = live.loaded(slot, source)?.public;
                let may = policy.needs_password() || policy.is_empty() && !public.object_attributes().no_da();
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
    /// As [`property`](Self::property), but an unanswered question is an error: for the first one.
    fn known_property(&mut self, tag: PropertyTag) -> Result<Option<u32>, TpmError> {
        match self.capability(CapabilityType::TpmProperties, tag.into())? {
            Some(CapabilityData::TpmProperties(properties)) => Ok(find(&properties, tag)),
            _ => Ok(None),
        }
    }

    /// One entry of a list: the one that is asked for, or the next where the TPM has no such. `None` where the library does not know that.
    fn capability(&mut self, kind: CapabilityType, first: u32) -> Result<Option<CapabilityData>, TpmError> {
        match self.context.execute_without_session(|c| c.get_capability(kind, first, 1)) {
            Ok((data, _)) => Ok(Some(data)),
            Err(tss_esapi::Error::WrapperError(_)) => Ok(None),
            Err(e) => Err(TpmError::of("TPM2_GetCapability", e)),
        }
    }

    fn has_algorithm(&mut self, algorithm: AlgorithmIdentifier) -> Result<bool, TpmError> {
        match self.capability(CapabilityType::Algorithms, u32::from(u16::from(algorithm)))? {
            Some(CapabilityData::Algorithms(list)) => Ok(list.find(algorithm).is_some()),
            _ => Ok(false),
        }
    }

    fn has_curve(&mut self, curve: u16) -> Result<bool, TpmError> {
        match self.capability(CapabilityType::EccCurves, curve.into())? {
            Some(CapabilityData::EccCurves(curves)) => Ok(curves.iter().any(|found| u16::from(*found) == curve)),
            _ => Ok(false),
        }
    }

    fn has_command(&mut self, command: CommandCode) -> Result<bool, TpmError> {
        let code = u32::from(command);
        match self.capability(CapabilityType::Command, code)? {
            Some(CapabilityData::Commands(commands)) => {
                Ok(commands.iter().any(|found| !found.is_vendor_specific() && u32::from(found.command_index()) == code))
            }
            _ => Ok(false),
        }
    }

    /// Key sizes are in no list: TPM2_TestParms tells.
    fn has_aes_128_cfb(&mut self) -> Result<bool, TpmError> {
        let parameters = PublicParameters::SymCipher(SymmetricCipherParameters::new(SymmetricDefinitionObject::AES_128_CFB));
        match self.context.execute_without_session(|c| c.test_parms(parameters)).map_err(|e| TpmError::of("TPM2_TestParms", e)) {
            Ok(()) => Ok(true),
            // A parameter that it does not know, or no such command at all: then the lists decide.
            Err(TpmError::Command { code, .. }) if layer(code) == 0 && code != 0 => {
                Ok(code == 0x143 && self.has_algorithm(AlgorithmIdentifier::Aes)? && self.has_algorithm(AlgorithmIdentifier::Cfb)?)
            }
            Err(e) => Err(e),
        }
    }

    fn features(&mut self) -> Result<Vec<Feature>, TpmError> {
        let mut features = Vec::new();
        for feature in Feature::ALL {
            let has = match feature {
                Feature::HmacCommand => self.has_command(CommandCode::Hmac)?,
                Feature::Hmac => self.has_algorithm(AlgorithmIdentifier::Hmac)?,
                Feature::Sha256 => self.has_algorithm(AlgorithmIdentifier::Sha256)?,
                Feature::EccP256 => self.has_algorithm(AlgorithmIdentifier::Ecc)? && self.has_curve(tss::TPM2_ECC_NIST_P256)?,
                Feature::Aes128Cfb => self.has_aes_128_cfb()?,
                Feature::Rsa => self.has_algorithm(AlgorithmIdentifier::Rsa)?,
                Feature::Ecdsa => self.has_algorithm(AlgorithmIdentifier::EcDsa)?,
            };
            if has {
                features.push(feature);
            }
        }
        Ok(features)
    }

    fn count(&mut self, first: u32) -> Option<u32> {
        u32::try_from(self.handles(first).ok()?.len()).ok()
    }

    fn banks(&mut self) -> Result<Vec<BankState>, TpmError> {
        let is_on = match self.capability_of_banks()? {
            Some(CapabilityData::AssignedPcr(list)) => {
                let on: Vec<HashingAlgorithm> =
                    list.get_selections().iter().filter(|bank| !bank.is_empty()).map(|bank| bank.hashing_algorithm()).collect();
                Some(on)
            }
            // A bank that the library does not know: then each is tried.
            _ => None,
        };
        let mut banks = Vec::new();
        for bank in PcrBank::ALL {
            if is_on.as_ref().is_some_and(|on| !on.contains(&bank.algorithm())) {
                continue;
            }
            let registers: Result<Vec<Vec<u8>>, TpmError> = (0..8).map(|register| self.read_pcr(bank, register)).collect();
            match registers {
                Ok(registers) => banks.push(BankState { bank, is_measured: registers.iter().any(|value| is_measured(value)) }),
                Err(TpmError::NoBank(_)) => {}
                Err(TpmError::Command { code, .. }) if layer(code) == 0 && is_on.is_none() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(banks)
    }

    /// This list knows no first entry and comes whole.
    fn capability_of_banks(&mut self) -> Result<Option<CapabilityData>, TpmError> {
        match self.context.execute_without_session(|c| c.get_capability(CapabilityType::AssignedPcr, 0, 16)) {
            Ok((data, _)) => Ok(Some(data)),
            Err(tss_esapi::Error::WrapperError(_)) => Ok(None),
            Err(e) => Err(TpmError::of("TPM2_GetCapability", e)),
        }
    }

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

fn find(properties: &TaggedTpmPropertyList, tag: PropertyTag) -> Option<u32> {
    properties.find(tag).map(|property| property.value())
}

/// Registers start at all zeros, those of a dynamic launch at all ones.
fn is_measured(value: &[u8]) -> bool {
    value.iter().any(|byte| *byte != 0) && value.iter().any(|byte| *byte != 0xff)
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
