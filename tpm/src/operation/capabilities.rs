//! What a TPM says about itself, question by question (TPM2_GetCapability; TCG part 2, 6.13 and 8.6).

use std::fmt;

use tss_esapi::constants::{AlgorithmIdentifier, CapabilityType, CommandCode, PropertyTag, tss};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    CapabilityData, PublicParameters, SymmetricCipherParameters, SymmetricDefinitionObject, TaggedTpmPropertyList,
};

use crate::connection::live::Live;
use crate::object::pcr::is_empty;
use crate::response_code::layer;
use crate::{PcrBank, TpmError};

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

/// A bank of registers that is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankState {
    /// Which one.
    pub bank: PcrBank,
    /// Whether firmware has measured anything into it: one of the registers 0 to 7 is neither all zeros nor all ones.
    pub is_measured: bool,
}

impl Live {
    /// As [`property`](Self::property), but an unanswered question is an error: for the first one.
    pub(super) fn known_property(&mut self, tag: PropertyTag) -> Result<Option<u32>, TpmError> {
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

    pub(super) fn features(&mut self) -> Result<Vec<Feature>, TpmError> {
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

    pub(super) fn count(&mut self, first: u32) -> Option<u32> {
        u32::try_from(self.handles(first).ok()?.len()).ok()
    }

    pub(super) fn banks(&mut self) -> Result<Vec<BankState>, TpmError> {
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
                Ok(registers) => banks.push(BankState { bank, is_measured: registers.iter().any(|value| !is_empty(value)) }),
                Err(TpmError::NoBank(_)) => {}
                Err(TpmError::Command { code, .. }) if layer(code) == 0 && is_on.is_none() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(banks)
    }

    /// This list knows no first entry and comes whole.
    pub(super) fn capability_of_banks(&mut self) -> Result<Option<CapabilityData>, TpmError> {
        match self.context.execute_without_session(|c| c.get_capability(CapabilityType::AssignedPcr, 0, 16)) {
            Ok((data, _)) => Ok(Some(data)),
            Err(tss_esapi::Error::WrapperError(_)) => Ok(None),
            Err(e) => Err(TpmError::of("TPM2_GetCapability", e)),
        }
    }
}

fn find(properties: &TaggedTpmPropertyList, tag: PropertyTag) -> Option<u32> {
    properties.find(tag).map(|property| property.value())
}
