//! The way to the TPM: a device node and who may open it, a software TPM, the access broker.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ekm_otp_tpm::{Tcti, TpmError};

use super::report::Fault;
use crate::cli::error::CliError;

/// How a software TPM is started, for the advice.
fn start_swtpm(host: &str, port: u16) -> String {
    format!(
        "mkdir -m 700 tpm && swtpm socket --tpm2 --flags not-need-init,startup-clear --tpmstate dir=tpm \
         --server type=tcp,port={port},bindaddr={host} --ctrl type=tcp,port={},bindaddr={host}",
        port.saturating_add(1)
    )
}

/// What is wrong with it, and what to do.
pub(super) struct Trouble {
    pub(super) fault: Fault,
    pub(super) finding: String,
    pub(super) advice: String,
}

/// The device node, if the TPM is one.
pub(super) fn node(tcti: &str) -> Option<&Path> {
    tcti.strip_prefix("device:").map(Path::new)
}

/// Whether this user may open the device. The C library reports every reason as one code; the operating system tells them apart.
pub(super) fn open(path: &Path) -> Result<(), Trouble> {
    let shown = path.display();
    let trouble = |fault, finding, advice| Err(Trouble { fault, finding, advice });
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => trouble(Fault::Unavailable, format!("there is no TPM device {shown}"), missing(path)),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            let (finding, advice) = not_permitted(path);
            trouble(Fault::NotPermitted, finding, advice)
        }
        Err(e) => {
            let advice = "is another program using it? /dev/tpmrm0 can be shared, /dev/tpm0 cannot (fuser -v names the program)";
            trouble(Fault::Unavailable, format!("cannot open {shown}: {e}"), advice.to_owned())
        }
    }
}

fn missing(path: &Path) -> String {
    let raw = path.to_str().and_then(|path| path.strip_prefix("/dev/tpmrm")).map(|number| format!("/dev/tpm{number}"));
    match raw.filter(|raw| Path::new(raw).exists()) {
        Some(raw) => format!("there is {raw}: the kernel has no resource manager for it (TPM 1.2, or a kernel before 4.12)"),
        None => format!(
            "is it switched on in the firmware's set-up (TPM, fTPM, PTT)? Another place is named with --tcti. For trying things, a software \
             TPM does: {}, then --tcti swtpm:host=127.0.0.1,port=2321",
            start_swtpm("127.0.0.1", 2321)
        ),
    }
}

fn not_permitted(path: &Path) -> (String, String) {
    let shown = path.display();
    let user = user();
    let who = user.as_deref().unwrap_or("this user");
    let Ok(metadata) = path.metadata() else {
        return (format!("{who} may not open {shown}"), format!("look at the permissions of the folders above {shown}"));
    };
    let mode = metadata.mode() & 0o7777;
    let group = line_by_id("/etc/group", metadata.gid());
    let name = group.as_ref().and_then(|line| line.split(':').next()).map_or_else(|| metadata.gid().to_string(), str::to_owned);
    let finding = format!("{who} may not open {shown} (group {name}, mode {mode:04o})");
    let is_member = group
        .as_ref()
        .zip(user.as_ref())
        .is_some_and(|(line, user)| line.split(':').nth(3).is_some_and(|members| members.split(',').any(|m| m == user)));
    let advice = if mode & 0o060 != 0o060 || metadata.gid() == 0 {
        format!("its group may not use it either: the Debian package tpm-udev gives it to the group tss; then usermod -aG tss {who}")
    } else if is_member {
        format!("{who} is in the group {name} already, this session is older: log in again")
    } else {
        format!("as root: usermod -aG {name} {}, then log in again", user.as_deref().unwrap_or("USER"))
    };
    (finding, advice)
}

/// This process's user, as /etc/passwd names it.
fn user() -> Option<String> {
    let uid = fs::metadata("/proc/self").ok()?.uid();
    line_by_id("/etc/passwd", uid)?.split(':').next().map(str::to_owned)
}

/// The line with this number in its third field (passwd(5), group(5)).
fn line_by_id(file: &str, id: u32) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find(|line| line.split(':').nth(2).is_some_and(|field| field.parse() == Ok(id))).map(str::to_owned)
}

/// What it means that the TPM does not answer.
pub(super) fn unanswered(tcti: &Tcti, error: TpmError) -> Trouble {
    let text = tcti.to_string();
    let advice = match (&error, text.split_once(':')) {
        (TpmError::Unreachable { .. }, Some(("swtpm", conf))) => {
            let option = |name: &str| conf.split(',').find_map(|item| item.strip_prefix(name));
            let port = option("port=").and_then(|port| port.parse().ok()).unwrap_or(2321);
            format!("start it: {}", start_swtpm(option("host=").filter(|host| *host != "localhost").unwrap_or("127.0.0.1"), port))
        }
        (TpmError::Unreachable { .. }, Some(("tabrmd", _))) => {
            "start the access broker (systemctl start tpm2-abrmd), and install libtss2-tcti-tabrmd0; or use --tcti device:/dev/tpmrm0"
                .to_owned()
        }
        (TpmError::Deadline(_), _) => "another program may keep it busy, or it hangs: try again, then restart the machine".to_owned(),
        (TpmError::NotStarted(_), _) => "restart the machine; a software TPM is started with --flags startup-clear".to_owned(),
        _ => "is it a TPM 2.0? tpm2_getcap properties-fixed shows what others make of it".to_owned(),
    };
    let error = CliError::from(error);
    Trouble { fault: Fault::of(&error), finding: error.to_string(), advice }
}
