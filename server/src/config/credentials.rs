//! What the service manager puts beside the configuration under well-known names (systemd.exec(5), `ImportCredential=ekm-otp.*`). Flags and
//! the configuration file win.

use std::path::PathBuf;

/// The configuration file itself.
pub(super) const CONFIG: &str = "ekm-otp.config";
/// Of sites that name none.
pub(super) const CERTIFICATE: &str = "ekm-otp.certificate";
pub(super) const PRIVATE_KEY: &str = "ekm-otp.private-key";

/// Where a credential of this name is, if it is there.
pub(super) fn credential(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    file.is_file().then_some(file)
}
