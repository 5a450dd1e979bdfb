//! How to reach the TPM: the strings that tpm2-tools takes (TCG TSS 2.0 TCTI API; tpm2-tss "TCTI loader").

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tss_esapi::tcti_ldr::{NetworkTPMConfig, TctiNameConf};

/// A TPM's address: `device:/dev/tpmrm0`, `swtpm:host=…,port=…`, or `tabrmd:…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Tcti {
    text: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A device node. `/dev/tpmrm0` has the kernel's resource manager behind it, `/dev/tpm0` has not.
    Device(PathBuf),
    /// A software TPM, without a resource manager. Its control channel is at the next port.
    Swtpm { host: String, port: u16 },
    /// The access broker's daemon, with its own resource manager.
    Tabrmd,
}

impl Tcti {
    /// The kernel's resource manager for the first TPM.
    pub const DEFAULT: &str = "device:/dev/tpmrm0";

    /// For a device without a resource manager, the one of the same TPM that has the kernel's: `device:/dev/tpmrm0` for `device:/dev/tpm0`. Without it, one program at a
    /// time has the TPM to itself, and what it leaves there when it is killed stays.
    #[must_use]
    pub fn managed(&self) -> Option<Self> {
        let number = self.text.strip_prefix("device:/dev/tpm")?;
        let path = format!("/dev/tpmrm{}", number.parse::<u32>().ok()?);
        Some(Self { text: format!("device:{path}"), kind: Kind::Device(path.into()) })
    }

    pub(crate) fn to_name_conf(&self) -> Result<TctiNameConf, tss_esapi::Error> {
        TctiNameConf::from_str(&self.text)
    }
}

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(text: &str) -> Result<Self, TctiError> {
        let (name, conf) = text.split_once(':').unwrap_or((text, ""));
        match name {
            "device" => {
                let path = if conf.is_empty() { "/dev/tpmrm0" } else { conf };
                Ok(Self { text: format!("device:{path}"), kind: Kind::Device(path.into()) })
            }
            "swtpm" => {
                let mut network = (String::from("localhost"), 2321_u16);
                for item in conf.split(',').filter(|item| !item.is_empty()) {
                    match item.split_once('=') {
                        Some(("host", host)) if !host.is_empty() => network.0 = host.to_owned(),
                        Some(("port", port)) => {
                            // The TCTI speaks to the control channel too, at the next port.
                            network.1 = port.parse().ok().filter(|p| (1..u16::MAX).contains(p)).ok_or(TctiError::Port(port.to_owned()))?;
                        }
                        // tss-esapi turns this silently into localhost:2321.
                        Some(("path", _)) => return Err(TctiError::UnixPath),
                        _ => return Err(TctiError::Option(item.to_owned())),
                    }
                }
                let text = format!("swtpm:host={},port={}", network.0, network.1);
                // Checks the host's spelling.
                NetworkTPMConfig::from_str(&text["swtpm:".len()..]).map_err(|_| TctiError::Option(conf.to_owned()))?;
                Ok(Self { text, kind: Kind::Swtpm { host: network.0, port: network.1 } })
            }
            "tabrmd" => Ok(Self { text: text.to_owned(), kind: Kind::Tabrmd }),
            _ => Err(TctiError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Why a text is no TCTI string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TctiError {
    /// Not a TCTI that is known here.
    #[error("unknown TCTI {0:?}: use device:/dev/tpmrm0, swtpm:host=HOST,port=PORT or tabrmd:")]
    Unknown(String),
    /// An option that this TCTI does not have.
    #[error("{0:?} is no option of the swtpm TCTI: use swtpm:host=HOST,port=PORT")]
    Option(String),
    /// Not a port that leaves room for the control channel at the next one.
    #[error("{0:?} is no port from 1 to 65534")]
    Port(String),
    /// A Unix socket.
    #[error("swtpm:path=… is not served yet: start swtpm with a TCP port and use swtpm:host=HOST,port=PORT")]
    UnixPath,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strings_of_tpm2_tools_are_read() {
        for (text, read) in [
            ("device", "device:/dev/tpmrm0"),
            ("device:/dev/tpmrm0", "device:/dev/tpmrm0"),
            ("device:/dev/tpm1", "device:/dev/tpm1"),
            ("swtpm", "swtpm:host=localhost,port=2321"),
            ("swtpm:port=2421", "swtpm:host=localhost,port=2421"),
            ("swtpm:host=127.0.0.1,port=2421", "swtpm:host=127.0.0.1,port=2421"),
            ("tabrmd:", "tabrmd:"),
        ] {
            let tcti: Tcti = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(tcti.to_string(), read);
            tcti.to_name_conf().unwrap_or_else(|e| panic!("{text}: tss-esapi refuses what we accept: {e}"));
        }
    }

    #[test]
    fn a_unix_path_is_refused_and_never_becomes_localhost() {
        assert_eq!("swtpm:path=/run/swtpm.sock".parse::<Tcti>(), Err(TctiError::UnixPath));
    }

    #[test]
    fn a_misspelt_string_is_refused() {
        for text in ["", "/dev/tpmrm0", "mssim:", "swtpm:prot=1", "swtpm:port=0", "swtpm:port=65535", "swtpm:port=x", "swtpm:host=,port=1"]
        {
            assert!(text.parse::<Tcti>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_without_a_resource_manager_is_known() {
        let managed = |text: &str| text.parse::<Tcti>().expect("a TCTI string").managed().map(|tcti| tcti.to_string());
        assert_eq!(managed("device:/dev/tpm0").as_deref(), Some("device:/dev/tpmrm0"));
        assert_eq!(managed("device:/dev/tpm12").as_deref(), Some("device:/dev/tpmrm12"));
        for text in ["device", "device:/dev/tpmrm0", "device:/dev/tpm", "device:/tmp/tpm0", "device:/dev/tpm0/x", "swtpm", "tabrmd:"] {
            assert_eq!(managed(text), None, "{text}");
        }
    }
}
