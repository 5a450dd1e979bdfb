//! TPM2_Import of a private key that OpenSSL made.

use cfb_mode::cipher::KeyIvInit as _;
use sha2::{Digest as _, Sha256};
use tss_esapi::constants::tss::{TPM2_ALG_ECC, TPM2_ALG_RSA};
use tss_esapi::structures::{Data, EncryptedSecret, Private, Public, SymmetricDefinitionObject};
use zeroize::Zeroizing;

use super::policy::policy_of;
use crate::connection::device::Device;
use crate::object::blob::with_size;
use crate::object::kind::RSA_KEYS;
use crate::object::name::name_of;
use crate::object::template::{self, Origin};
use crate::{KeyFile, NewKey, Password, PrivateKey, TpmError, TpmHandle};

impl TpmHandle {
    /// Puts a private key into the TPM (TPM2_Import). It is encrypted on the bus. Unlike a key that the TPM made itself it is known to
    /// whoever had it before.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn import_key(&self, new: NewKey, key: PrivateKey) -> Result<KeyFile, TpmError> {
        self.run(move |device| device.import(&new, &key)).await
    }
}

impl Device {
    fn import(&mut self, new: &NewKey, key: &PrivateKey) -> Result<KeyFile, TpmError> {
        if new.kind != key.kind {
            return Err(TpmError::NotForThis { kind: key.kind.to_string(), operation: "be imported as another kind" });
        }
        self.run(|live| {
            let (policy, auth_policy) = policy_of(live, new.policy.as_ref(), new.password.is_some(), new.movable)?;
            let public = template::key(new.kind, Origin::Imported, new.password.is_some(), auth_policy, key.unique.clone());
            let public = public.map_err(|e| TpmError::of("describing the key", e))?;
            let auth = new.password.as_ref().map(Password::to_auth).transpose().map_err(|e| TpmError::of("setting a password", e))?;
            let auth = auth.unwrap_or_default();
            let (wrapping_key, duplicate) = inner_wrap(key, auth.value(), &public)?;
            live.with_parent(new.parent, |live, parent| {
                let session = live.parent_session(parent)?;
                let imported = live.context.execute_with_session(Some(session), |c| {
                    c.import(
                        parent.handle().into(),
                        // The first parameter: the session encrypts it on the bus.
                        Some(Data::try_from(wrapping_key.to_vec())?),
                        public.clone(),
                        Private::try_from(duplicate.clone())?,
                        EncryptedSecret::default(),
                        SymmetricDefinitionObject::AES_128_CFB,
                    )
                });
                let private = imported.map_err(|e| TpmError::of("TPM2_Import", e)).map_err(|e| live.explain_parent(parent, e))?;
                Ok(KeyFile::new(new.parent, public.clone(), private, new.password.is_none(), policy.clone()))
            })
        })
    }
}

/// TPM2_Import's inner wrapper (TCG part 1, 23.3.2): AES-128-CFB, IV 0, over the digest of sensitive area and name, then the sensitive area.
fn inner_wrap(key: &PrivateKey, auth: &[u8], public: &Public) -> Result<(Zeroizing<[u8; 16]>, Vec<u8>), TpmError> {
    let failed = || TpmError::Command { operation: "wrapping the key", code: 0 };
    let kind = if RSA_KEYS.contains(&key.kind) { TPM2_ALG_RSA } else { TPM2_ALG_ECC };
    // TPMT_SENSITIVE (TCG part 2, 12.3.2.4): type, auth value, no seed, the private part.
    let (auth, seed, sensitive) = (Zeroizing::new(with_size(auth)), with_size(&[]), Zeroizing::new(with_size(&key.sensitive)));
    let area = Zeroizing::new([&kind.to_be_bytes()[..], &auth, &seed, &sensitive].concat());
    let area = Zeroizing::new(with_size(&area));
    let name = name_of(public).ok_or_else(failed)?;
    let integrity = Sha256::new().chain_update(&*area).chain_update(&name).finalize();
    let mut wrapped = Zeroizing::new([&with_size(&integrity)[..], &area].concat());

    let mut wrapping_key = Zeroizing::new([0; 16]);
    getrandom::fill(&mut *wrapping_key).map_err(|_| failed())?;
    cfb_mode::Encryptor::<aes::Aes128>::new((&*wrapping_key).into(), &[0; 16].into()).encrypt(&mut wrapped);
    Ok((wrapping_key, wrapped.to_vec()))
}
