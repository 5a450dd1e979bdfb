//! TPM2_Create: the TPM makes a key, or takes the secret of an HMAC key.

use sha2::{Digest as _, Sha256};
use tss_esapi::structures::SensitiveData;
use zeroize::Zeroizing;

use super::policy::policy_of;
use crate::connection::device::Device;
use crate::object::template::{self, Origin, Unique};
use crate::{KeyFile, KeyKind, NewKey, Password, TpmError, TpmHandle};

impl TpmHandle {
    /// Makes a key inside the TPM (TPM2_Create). Its private part is in no other place, ever, unless it is made movable.
    ///
    /// # Errors
    /// As [`TpmError`] tells; HMAC keys need a secret that two sides share: [`create_hmac_key`](Self::create_hmac_key).
    pub async fn create_key(&self, new: NewKey) -> Result<KeyFile, TpmError> {
        if new.kind == KeyKind::HmacSha256 {
            return Err(TpmError::NotForThis { kind: new.kind.to_string(), operation: "be made without a secret that two sides share" });
        }
        if new.movable && matches!(new.kind, KeyKind::AkEccP256 | KeyKind::AkRsa2048) {
            let operation = "be movable: what it signs would be said by no certain TPM";
            return Err(TpmError::NotForThis { kind: new.kind.to_string(), operation });
        }
        self.run(move |device| device.create(&new, None)).await
    }

    /// Puts a secret into the TPM as an HMAC-SHA256 key (TPM2_Create with sensitive data). One of more than 64 bytes is hashed first, as
    /// HMAC itself does (RFC 2104 §2). The secret is encrypted on the bus, and the key can never be read or, unless it is made movable,
    /// moved out of this TPM.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn create_hmac_key(&self, new: NewKey, secret: Zeroizing<Vec<u8>>) -> Result<KeyFile, TpmError> {
        if new.kind != KeyKind::HmacSha256 {
            return Err(TpmError::NotForThis { kind: new.kind.to_string(), operation: "take a shared secret" });
        }
        let secret = if secret.len() > 64 { Zeroizing::new(Sha256::digest(&secret).to_vec()) } else { secret };
        self.run(move |device| device.create(&new, Some(&secret))).await
    }
}

impl Device {
    /// TPM2_Create: the TPM makes the key, or takes the secret of an HMAC key as sensitive data.
    fn create(&mut self, new: &NewKey, secret: Option<&[u8]>) -> Result<KeyFile, TpmError> {
        let origin = if secret.is_some() { Origin::Given } else { Origin::Tpm };
        self.run(|live| {
            let (policy, auth_policy) = policy_of(live, new.policy.as_ref(), new.password.is_some(), new.movable)?;
            live.with_parent(new.parent, |live, parent| {
                let session = live.parent_session(parent)?;
                let created = live.context.execute_with_session(Some(session), |c| {
                    let public = template::key(new.kind, origin, new.password.is_some(), auth_policy, Unique::Unknown)?;
                    let auth = new.password.as_ref().map(Password::to_auth).transpose()?;
                    let sensitive = secret.map(|secret| SensitiveData::try_from(secret.to_vec())).transpose()?;
                    c.create(parent.handle(), public, auth, sensitive, None, None)
                });
                let created = created.map_err(|e| TpmError::of("TPM2_Create", e)).map_err(|e| live.explain_parent(parent, e))?;
                Ok(KeyFile::new(new.parent, created.out_public, created.out_private, new.password.is_none(), policy.clone()))
            })
        })
    }
}
