//! Where passwords come from: a file, the environment, a helper as ssh has it, or a prompt. Never an argument: everyone sees those.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ekm_otp_tpm::Password;
use zeroize::Zeroizing;

use super::error::CliError;
use super::secret_file::read_private;

/// Whose password, and how it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The flag that names its file.
    pub(crate) flag: &'static str,
    /// The environment variable.
    pub(crate) variable: &'static str,
    /// What a prompt says.
    pub(crate) prompt: &'a str,
}

/// The password that was given by file or environment, if any was.
pub(crate) fn given(asked: Asked<'_>, file: Option<&Path>) -> Result<Option<Password>, CliError> {
    let bytes = match file {
        Some(path) => Some(from_file(asked.flag, path)?),
        None => std::env::var_os(asked.variable).map(|value| Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value))),
    };
    bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| password(&format!("{} or {}", asked.flag, asked.variable), bytes)).transpose()
}

/// The password, by all means. `twice` where a new one is set: a slip would lock its owner out.
pub(crate) fn required(asked: Asked<'_>, file: Option<&Path>, twice: bool) -> Result<Password, CliError> {
    match given(asked, file)? {
        Some(password) => Ok(password),
        None => ask(asked, twice),
    }
}

fn ask(asked: Asked<'_>, twice: bool) -> Result<Password, CliError> {
    let first = ask_once(asked, asked.prompt)?;
    if twice {
        let second = ask_once(asked, &format!("{} once more", asked.prompt))?;
        if *first != *second {
            return Err(CliError::Usage("the two passwords differ".into()));
        }
    }
    password("the password", first)
}

fn ask_once(asked: Asked<'_>, prompt: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let helper = std::env::var_os("SSH_ASKPASS").filter(|helper| !helper.is_empty());
    let preference = std::env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default();
    // As ssh does: the helper where there is no terminal, or where it is preferred.
    let has_terminal = std::io::stdin().is_terminal() && preference != "force" && preference != "prefer";
    match helper.filter(|_| !has_terminal && preference != "never") {
        Some(helper) => {
            let answer = Command::new(&helper).arg(format!("{prompt}: ")).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
            let answer = answer.map_err(|e| CliError::Unavailable(format!("$SSH_ASKPASS cannot be started: {e}")))?;
            let mut bytes = Zeroizing::new(answer.stdout);
            if !answer.status.success() {
                return Err(CliError::NotPermitted("$SSH_ASKPASS gave no password".into()));
            }
            trim_line_end(&mut bytes);
            Ok(bytes)
        }
        None if std::io::stdin().is_terminal() => {
            let text = rpassword::prompt_password(format!("{prompt}: "));
            text.map(|text| Zeroizing::new(text.into_bytes())).map_err(|e| CliError::Unavailable(format!("cannot ask for a password: {e}")))
        }
        None => Err(CliError::NotPermitted(format!(
            "the {} is wanted, and there is no terminal to ask at: give it with {} or {}, or name a helper in $SSH_ASKPASS",
            prompt.to_lowercase(),
            asked.flag,
            asked.variable
        ))),
    }
}

fn from_file(flag: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = read_private(path, "a password", 256)?;
    trim_line_end(&mut bytes);
    if bytes.is_empty() { Err(CliError::Usage(format!("{flag}: {} holds no password", path.display()))) } else { Ok(bytes) }
}

/// One line end belongs to the file, not to the password.
fn trim_line_end(bytes: &mut Vec<u8>) {
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
}

fn password(from: &str, bytes: Zeroizing<Vec<u8>>) -> Result<Password, CliError> {
    Password::new(bytes.to_vec()).map_err(|e| CliError::Usage(format!("{from}: {e}")))
}
