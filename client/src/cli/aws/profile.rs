//! The credentials of a profile, as AWS's tools read it (AWS SDKs and Tools Reference Guide): an access key, or a program that prints one.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ekm_otp_cloud::aws::AccessKey;
use zeroize::Zeroizing;

use super::super::error::CliError;
use super::super::output::stderr_for_child;
use super::super::shown::printable;
use super::profile_file::{ProfileFile, Settings, config_section};

/// What `credential_process` prints is not longer.
const MAX_OUTPUT: usize = 64 * 1024;

/// What gives a profile its credentials, and is not done here.
const OTHER_SOURCES: [&str; 6] =
    ["role_arn", "sso_session", "sso_start_url", "web_identity_token_file", "login_session", "credential_source"];

/// A profile, as both files have it.
pub(super) struct Profile {
    name: String,
    config: Settings,
    credentials: Settings,
}

/// Reads the profile of this name; without one `default`, which need not be there.
pub(super) fn read(name: Option<&str>) -> Result<Profile, CliError> {
    let given = name.unwrap_or("default");
    // Without a home there are no files, which matters only where a profile is named.
    let settings = |variable, file, section: &str| match ProfileFile::path(variable, file) {
        Ok(path) => ProfileFile::settings_in(&path, section),
        Err(_) if name.is_none() => Ok(Settings::default()),
        Err(e) => Err(e),
    };
    let profile = Profile {
        name: given.to_owned(),
        config: settings("AWS_CONFIG_FILE", "config", &config_section(given))?,
        credentials: settings("AWS_SHARED_CREDENTIALS_FILE", "credentials", given)?,
    };
    if name.is_some() && profile.config.is_empty() && profile.credentials.is_empty() {
        return Err(CliError::Usage(format!("there is no profile {} in ~/.aws/config or ~/.aws/credentials", printable(given))));
    }
    Ok(profile)
}

impl Profile {
    pub(super) fn region(&self) -> Option<String> {
        self.config.get("region").or(self.credentials.get("region")).map(str::to_owned)
    }

    /// `None` where it says nothing of credentials.
    pub(super) async fn access_key(&self, within: Duration) -> Result<Option<AccessKey>, CliError> {
        if let Some(source) = OTHER_SOURCES.into_iter().find(|source| self.config.get(source).is_some()) {
            let name = printable(&self.name);
            return Err(CliError::Usage(format!(
                "the profile {name} has its credentials by {source}, which is not done here: `aws configure export-credentials --profile {name} --format env` gets \
                 them"
            )));
        }
        if let Some(key) = self.written(&self.credentials)? {
            return Ok(Some(key));
        }
        match self.config.get("credential_process") {
            Some(line) => self.run(line, within).await.map(Some),
            None => self.written(&self.config),
        }
    }

    fn written(&self, settings: &Settings) -> Result<Option<AccessKey>, CliError> {
        match (settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Some(AccessKey {
                access_key_id: id.to_owned(),
                secret_access_key: secret.to_owned().into(),
                session_token: settings.get("aws_session_token").map(|token| token.to_owned().into()),
            })),
            (None, None) => Ok(None),
            _ => Err(CliError::Usage(format!(
                "the profile {} has one of aws_access_key_id and aws_secret_access_key without the other",
                printable(&self.name)
            ))),
        }
    }

    /// "Process credential provider", AWS SDKs and Tools Reference Guide. Its standard error is ours.
    async fn run(&self, line: &str, within: Duration) -> Result<AccessKey, CliError> {
        let wrong = |why: &str| CliError::Other(format!("credential_process of the profile {}: {why}", printable(&self.name)));
        let words = words(line).filter(|words| !words.is_empty()).ok_or_else(|| wrong("a quote does not end, or there is nothing"))?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr_for_child());
        let mut running = Running(command.spawn().map_err(|e| wrong(&format!("cannot run {}: {e}", printable(&words[0]))))?);
        let stdout = running.0.stdout.take().ok_or_else(|| wrong("it has no output"))?;
        let reading = tokio::task::spawn_blocking(move || {
            // With its final capacity at once: a Vec that grows leaves pieces of secrets behind.
            let mut text = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT + 1));
            stdout.take(MAX_OUTPUT as u64 + 1).read_to_end(&mut text).map(|_| text)
        });
        let read = tokio::time::timeout(within, reading).await.map_err(|_| wrong(&format!("nothing within {within:?}")))?;
        let text = read.map_err(|e| wrong(&e.to_string()))?.map_err(|e| wrong(&e.to_string()))?;
        if text.len() > MAX_OUTPUT {
            return Err(wrong(&format!("it prints more than {MAX_OUTPUT} bytes")));
        }
        let status = running.0.wait().map_err(|e| wrong(&e.to_string()))?;
        if !status.success() {
            return Err(wrong(&format!("it failed ({status})")));
        }
        AccessKey::from_process_json(&text).map_err(|e| wrong(&format!("it prints {e}")))
    }
}

/// Ended and taken off the list of processes, however it goes on here.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A line's words, as a POSIX shell takes them apart (XCU 2.2), and nothing else of what a shell does. `None` where a quote does not end.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => loop {
                match rest.next()? {
                    '\'' => break word.get_or_insert_default(),
                    c => word.get_or_insert_default().push(c),
                };
            },
            '"' => loop {
                match rest.next()? {
                    '"' => break word.get_or_insert_default(),
                    '\\' => match rest.next()? {
                        c @ ('"' | '\\' | '$' | '`') => word.get_or_insert_default().push(c),
                        c => word.get_or_insert_default().extend(['\\', c]),
                    },
                    c => word.get_or_insert_default().push(c),
                };
            },
            '\\' => {
                word.get_or_insert_default().push(rest.next()?);
                continue;
            }
            c if c.is_whitespace() => {
                words.extend(word.take());
                continue;
            }
            c => {
                word.get_or_insert_default().push(c);
                continue;
            }
        };
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_words_that_a_shell_finds_in_it() {
        for line in ["a b  c", "  /opt/x\ty ", r#"'a b' "c d"e"#, r#"a\ b "\"\\\x" '\'"#, "''", r#"x"" """#] {
            let shell = Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().expect("sh");
            let expected = String::from_utf8(shell.stdout).expect("UTF-8");
            assert_eq!(words(line).expect("words"), expected.lines().collect::<Vec<_>>(), "{line}");
        }
        for line in ["'a", "\"a", "a\\"] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
