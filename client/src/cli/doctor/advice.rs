//! What to do where a key cannot be loaded.

use ekm_otp_tpm::TpmError;

use crate::cli::arguments::KeyRef;

/// A profile's key comes by a bundle, and does so again.
pub(super) fn not_loaded(error: &TpmError, key: &KeyRef, profile: Option<&str>) -> String {
    match (error, key) {
        (TpmError::OtherTpm(_) | TpmError::OtherPrimary(_) | TpmError::NoParent { .. } | TpmError::NoKey { .. }, _)
            if let Some(profile) = profile =>
        {
            format!(
                "this TPM cannot load the key of the profile {profile}: it was cleared, or is another TPM than the one that the key was made in. Have the \
                 server's administrator make a bundle, and make the key anew with `ekm-otp-client enroll --replace BUNDLE`"
            )
        }
        (TpmError::OtherTpm(_) | TpmError::OtherPrimary(_), _) => {
            "use it on the machine where it was made. If that is this one, its TPM was cleared or replaced: make a new \
                                       key (`key create`), and give the server its secret"
                .to_owned()
        }
        (TpmError::NoKey { .. }, KeyRef::Handle(handle, _)) => {
            format!("there is no key at 0x{handle:08x}: `key list` shows what is there")
        }
        (TpmError::NoParent { .. }, KeyRef::File(_)) => {
            "the key lies under a persistent key that is gone: make that again from the same template, or make a new key".to_owned()
        }
        (TpmError::Auth { .. }, _) => "keys under a persistent parent without a password need no such password".to_owned(),
        (TpmError::Lockout { .. }, _) => "see lockout, above".to_owned(),
        (TpmError::Full(_), _) => "see slots, above".to_owned(),
        (TpmError::SessionKey { .. }, _) => "compare with `key ek-name` where nobody sits on the TPM's bus".to_owned(),
        _ => "tpm2_load may tell more; a damaged file is made again with `key create` or `key import`".to_owned(),
    }
}
