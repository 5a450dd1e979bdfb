//! `--install-user-units`: systemd units of this user's that start the sidecar as the other flags say.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::shown;
use super::address::Address;
use super::arguments::ProxyArgs;

/// What marks a file that may be written anew.
const MARK: &str = "# Written by `ekm-otp-client proxy --install-user-units`, which may be repeated.";
const SERVICE: &str = "ekm-otp-proxy.service";
const SOCKET: &str = "ekm-otp-proxy.socket";
/// Where it is found unless --listen says otherwise: below $XDG_RUNTIME_DIR.
const DEFAULT: &str = "%t/ekm-otp-proxy.sock";

/// Writes them, and tells how they are enabled.
///
/// # Errors
/// When they cannot be written, or another's file has the name.
pub(super) fn install(args: &ProxyArgs) -> Result<(), CliError> {
    if args.config.is_none() && args.to.is_none() && args.how.who.profile_name.is_none() {
        note!("ekm-otp-client: the units name no origin: that of the only profile is taken (--to or -P names one)");
    }
    let folder = folder()?;
    fs::create_dir_all(&folder).map_err(|e| CliError::io("make", &folder, &e))?;
    let program = std::env::current_exe().map_err(|e| CliError::Other(format!("cannot find this program's own file: {e}")))?;
    let place = std::env::current_dir().map_err(|e| CliError::Other(format!("cannot find the current folder: {e}")))?;
    let flags: Vec<OsString> = std::env::args_os().skip(1).filter(|flag| flag != "--install-user-units").collect();
    let has_socket = args.config.is_none();
    write(&folder.join(SERVICE), &service(&program, &flags, &place, has_socket)?)?;
    let mut unit = SERVICE;
    if has_socket {
        write(&folder.join(SOCKET), &socket(&args.listen))?;
        unit = SOCKET;
    }
    note!("written: {}", shown(&folder.join(SERVICE)));
    note!("enable it with:");
    output::line(&format!("systemctl --user daemon-reload\nsystemctl --user enable --now {unit}"))
}

/// Where systemd looks for this user's own (systemd.unit(5)).
fn folder() -> Result<PathBuf, CliError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let config =
        config.ok_or_else(|| CliError::Usage("neither $XDG_CONFIG_HOME nor $HOME says where your units are: set one of them".into()))?;
    Ok(config.join("systemd/user"))
}

/// Whole or not at all; another's file is left alone.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    match fs::read_to_string(path) {
        Ok(there) if !there.starts_with(MARK) => {
            return Err(CliError::Usage(format!("{} exists already, and was not written by this: move it away", shown(path))));
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(CliError::io("read", path, &e)),
        _ => {}
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let io = |e: std::io::Error| CliError::io("write", path, &e);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

fn service(program: &Path, flags: &[OsString], place: &Path, has_socket: bool) -> Result<String, CliError> {
    let command: Vec<String> = std::iter::once(program.as_os_str())
        .chain(flags.iter().map(OsString::as_os_str))
        .map(|word| quoted(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let place = String::from_utf8(place.as_os_str().as_bytes().to_vec()).map_err(|_| no_text())?.replace('%', "%%");
    let requires = if has_socket { format!("Requires={SOCKET}\nAfter={SOCKET}\n") } else { String::new() };
    let install = if has_socket { format!("Also={SOCKET}\n") } else { String::new() };
    Ok(format!(
        "{MARK}\n\n[Unit]\nDescription=EKM-OTP sidecar: local programs come out authenticated\n{requires}\n[Service]\nType=notify\n\
         ExecStart={}\nExecReload=/bin/kill -HUP $MAINPID\nWorkingDirectory={place}\nRestart=on-failure\nRestartSec=2s\nWatchdogSec=30s\n\
         # Longer than --drain.\nTimeoutStopSec=45s\nUMask=0077\nNoNewPrivileges=yes\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\n\
         RestrictRealtime=yes\nRestrictSUIDSGID=yes\nRestrictNamespaces=yes\nSystemCallArchitectures=native\n\n[Install]\n{install}WantedBy=default.target\n",
        command.join(" ")
    ))
}

fn socket(listen: &[Address]) -> String {
    let mut streams = String::new();
    for address in listen {
        match address {
            Address::Unix(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                streams += &format!("ListenStream={}\n", path.display().to_string().replace('%', "%%"));
            }
            address => {
                for address in address.tcp() {
                    streams += &format!("ListenStream={address}\n");
                }
            }
        }
    }
    if streams.is_empty() {
        streams = format!("ListenStream={DEFAULT}\n");
    }
    format!(
        "{MARK}\n\n[Unit]\nDescription=EKM-OTP sidecar, its sockets\n\n[Socket]\n{streams}# Unix sockets: yours alone.\nSocketMode=0600\n\
         # An address that is not there yet.\nFreeBind=yes\n\n[Install]\nWantedBy=sockets.target\n"
    )
}

fn no_text() -> CliError {
    CliError::Usage("a flag or the current folder is no text (UTF-8), which systemd's units are: use other names".into())
}

/// A word as systemd's units have it (systemd.syntax(7), systemd.service(5)): specifiers and variables stand for themselves.
fn quoted(word: &[u8]) -> Result<String, CliError> {
    let word = std::str::from_utf8(word).map_err(|_| no_text())?;
    if word.chars().any(char::is_control) {
        return Err(CliError::Usage("a flag with control characters is no word of a unit: leave them out".into()));
    }
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/=,@+%".contains(&byte));
    Ok(if is_plain { word } else { format!("\"{word}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_words_mean_what_the_shells_did() {
        for (word, written) in [
            ("--to", "--to"),
            ("https://a.example.com", "https://a.example.com"),
            ("a b", "\"a b\""),
            ("50%", "50%%"),
            ("$HOME", "\"$$HOME\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            (";", "\";\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(word.as_bytes()).expect(word), written);
        }
        assert!(quoted(b"a\nExecStart=b").is_err() && quoted(b"\xff").is_err());
    }

    #[test]
    fn an_others_unit_is_left_alone_and_ones_own_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(SERVICE);
        write(&path, &format!("{MARK}\n1")).expect("it is new");
        write(&path, &format!("{MARK}\n2")).expect("it is ours");
        fs::write(&path, "[Service]\n").expect("writing");
        assert!(write(&path, &format!("{MARK}\n3")).is_err());
        assert_eq!(fs::read_to_string(&path).expect("it"), "[Service]\n");
    }
}
