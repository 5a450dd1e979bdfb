//! `aws configure`: profiles that take their credentials from the TPM, in ~/.aws/config.

use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _};

use clap::Args;
use zeroize::Zeroizing;

use super::super::arguments::KeyRef;
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::{printable, shown};
use super::profile_file::{ProfileFile, must_be_name};
use super::session::{Session, SessionArgs, word};
use super::source::SecretArgs;

#[derive(Args, Debug)]
pub(crate) struct ConfigureArgs {
    /// Write this profile, for the role where one is named [default: sessiontoken and assumerole for a key at a handle, sessiontokenfile and
    /// assumerolefile for one in a file]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Have the credentials kept until shortly before their end, see `aws process --cache`
    #[arg(long)]
    cache: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    session: SessionArgs,
}

/// What gives a profile its credentials before `credential_process` does, or beside it.
const OTHER_SOURCES: [&str; 8] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "credential_source",
    "role_arn",
    "source_profile",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

pub(crate) async fn run(mut args: ConfigureArgs) -> Result<(), CliError> {
    args.secret.settle()?;
    let session = args.session.session()?;
    let key = args.secret.key.key.clone().ok_or_else(|| CliError::Usage("--key: which key shall the profiles use?".into()))?;
    let is_role = matches!(session, Session::Role(_));
    let profiles: Vec<(String, bool)> = match (&args.profile, &key) {
        (Some(name), _) => vec![(name.clone(), is_role)],
        (None, KeyRef::Handle(..)) => [("sessiontoken", false), ("assumerole", true)].map(|(name, role)| (name.to_owned(), role)).to_vec(),
        (None, KeyRef::File(_)) => {
            [("sessiontokenfile", false), ("assumerolefile", true)].map(|(name, role)| (name.to_owned(), role)).to_vec()
        }
    };
    let path = ProfileFile::path("AWS_CONFIG_FILE", "config")?;
    let mut file = ProfileFile::open(&path).await?;
    let before = Zeroizing::new(file.text().to_owned());
    let mut change = Vec::new();
    for (name, role) in profiles.into_iter().filter(|(_, role)| is_role || !role) {
        must_be_name(&name)?;
        let section = if name == "default" { name.clone() } else { format!("profile {name}") };
        if let Some((other, _)) = file.settings(&section).iter().find(|(key, _)| OTHER_SOURCES.contains(&key.as_str())) {
            return Err(CliError::Usage(format!(
                "{}: [{section}] has {other}, which would go before or beside the TPM: take it out, or name another profile",
                shown(&path)
            )));
        }
        let process = args.command(&key, role)?;
        let region = args.secret.region();
        let region = region.as_deref().map(|region| ("region", region));
        let settings: Vec<_> = [("credential_process", process.as_str())].into_iter().chain(region).collect();
        // Nothing else of the file is shown: it may hold secrets.
        change.push(format!("[{section}]"));
        change.extend(settings.iter().map(|(key, value)| format!("{key} = {value}")));
        file.set(&section, &settings);
    }
    if file.text() == before.as_str() {
        note!("{} is so already", shown(&path));
        return Ok(());
    }
    note!("{}:", shown(&path));
    for line in change {
        note!("+ {}", printable(&line));
    }
    if !args.yes && !is_wanted().await? {
        return Err(CliError::Usage("nothing was written".into()));
    }
    file.write()?;
    output::line(&format!("wrote {}", shown(&path)))
}

impl ConfigureArgs {
    /// The command line that gets the credentials. Some SDKs split it themselves, others give it to a shell: nothing in it may mean something there.
    fn command(&self, key: &KeyRef, role: bool) -> Result<String, CliError> {
        let program = std::env::current_exe().map_err(|e| CliError::Other(format!("where is this program? {e}")))?;
        let mut words = vec![os_word(program.into_os_string())?, "aws process".into()];
        words.push(format!("--aws-access-key-id {}", self.secret.access_key_id()?));
        words.push(format!("--key {}", os_word(key.again()?)?));
        for (flag, value) in self.secret.key.use_key.again()? {
            words.push(format!("{flag} {}", os_word(value)?));
        }
        words.extend(self.secret.words()?);
        words.extend(self.session.words(role)?);
        if self.cache {
            words.push("--cache".into());
        }
        Ok(words.join(" "))
    }
}

fn os_word(text: OsString) -> Result<String, CliError> {
    word(&text.into_string().map_err(|text| CliError::Usage(format!("{} is no text in UTF-8", text.display())))?)
}

async fn is_wanted() -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage("there is no terminal to ask at whether to write this: say --yes".into()));
    }
    note!("write this? [y/N]");
    let read = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer =
        read.await.map_err(|e| CliError::Other(e.to_string()))?.map_err(|e| CliError::Other(format!("cannot read the answer: {e}")))?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
