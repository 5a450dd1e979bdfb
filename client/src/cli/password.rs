//! Where passwords come from: a file, the environment, a helper as ssh has it, or a prompt. Never an argument: everyone sees those.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use ekm_otp_tpm::Password;
use zeroize::Zeroizing;

use super::error::CliError;
use super::output::stderr_for_child;
use super::prompt;
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

/// A new password, by all means.
pub(crate) async fn required(asked: Asked<'_>, file: Option<&Path>) -> Result<Password, CliError> {
    match given(asked, file)? {
        Some(password) => Ok(password),
        None => ask_twice(asked).await,
    }
}

/// The password of something new, if it is to have one.
pub(crate) async fn of_new(asked: Asked<'_>, is_asked_for: bool, file: Option<&Path>) -> Result<Option<Password>, CliError> {
    if is_asked_for { required(asked, None).await.map(Some) } else { given(asked, file) }
}

/// The password of a key that may have none: an empty answer says so.
pub(crate) async fn optional(asked: Asked<'_>) -> Result<Option<Password>, CliError> {
    let answer = ask_once(asked, &format!("{} (Enter if it has none)", asked.prompt)).await?;
    if answer.is_empty() { Ok(None) } else { password("the password", answer).map(Some) }
}

/// Whether there is somebody to ask, or something.
pub(crate) fn can_ask() -> bool {
    prompt::has_terminal() || std::env::var_os("SSH_ASKPASS").is_some_and(|helper| !helper.is_empty())
}

/// A slip would lock its owner out.
async fn ask_twice(asked: Asked<'_>) -> Result<Password, CliError> {
    let first = ask_once(asked, asked.prompt).await?;
    let second = ask_once(asked, &format!("{} once more", asked.prompt)).await?;
    if *first != *second {
        return Err(CliError::Usage("the two passwords differ".into()));
    }
    password("the password", first)
}

/// One answer, of a helper or at the terminal.
pub(crate) async fn ask_once(asked: Asked<'_>, question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let helper = std::env::var_os("SSH_ASKPASS").filter(|helper| !helper.is_empty());
    let preference = std::env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default();
    // As ssh does: the helper where there is no terminal, or where it is preferred.
    let has_terminal = prompt::has_terminal();
    let is_helper = preference == "force" || preference == "prefer" || !has_terminal;
    let question = format!("{question}: ");
    match helper.filter(|_| is_helper && preference != "never") {
        Some(helper) => blocking(move || from_helper(&helper, &question)).await,
        None if has_terminal => {
            let asked = move || prompt::ask(&question).map_err(|e| CliError::Unavailable(format!("cannot ask for a password: {e}")));
            blocking(asked).await.map(|mut answer| {
                trim_line_end(&mut answer);
                answer
            })
        }
        None => Err(CliError::NotPermitted(format!(
            "the {} is wanted, and there is no terminal to ask at: give it with {} or {}, or name a helper in $SSH_ASKPASS",
            asked.prompt.to_lowercase(),
            asked.flag,
            asked.variable
        ))),
    }
}

/// Somebody may think for long: a signal must still be heard.
async fn blocking(ask: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, CliError> + Send + 'static) -> Result<Zeroizing<Vec<u8>>, CliError> {
    tokio::task::spawn_blocking(ask).await.unwrap_or_else(|e| Err(CliError::Other(format!("asking for a password failed: {e}"))))
}

fn from_helper(helper: &OsStr, question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let answer = Command::new(helper).arg(question).stdin(Stdio::null()).stderr(stderr_for_child()).output();
    let answer = answer.map_err(|e| CliError::Unavailable(format!("$SSH_ASKPASS cannot be started: {e}")))?;
    let mut bytes = Zeroizing::new(answer.stdout);
    if !answer.status.success() {
        return Err(CliError::NotPermitted("$SSH_ASKPASS gave no password".into()));
    }
    trim_line_end(&mut bytes);
    Ok(bytes)
}

fn from_file(flag: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = read_private(path, "a password", 256)?;
    trim_line_end(&mut bytes);
    if bytes.is_empty() { Err(CliError::Usage(format!("{flag} {}: there is no password in it", path.display()))) } else { Ok(bytes) }
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
