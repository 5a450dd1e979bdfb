//! `aws configure`: profiles that take their credentials from the TPM, in ~/.aws/config.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Args;

use super::super::arguments::{KeyRef, read_key_file};
use super::super::error::CliError;
use super::super::output::{self, note};
use super::super::shown::{printable, shown};
use super::certificate::region_of;
use super::credentials::{self, CredentialsArgs};
use super::profile_file::{ProfileFile, config_section, must_be_name};
use super::session::{Session, os_word};

#[derive(Args, Debug)]
pub(crate) struct ConfigureArgs {
    /// Write this profile, for the role where one is named [default: sessiontoken and assumerole for a key at a handle, sessiontokenfile and
    /// assumerolefile for one in a file; rolesanywhere with --certificate]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Have the credentials kept until shortly before their end, see `aws process --cache`
    #[arg(long)]
    cache: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    credentials: CredentialsArgs,
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

/// A profile to be written.
struct Profile {
    name: String,
    /// Whether its credentials are those of the role that is named.
    is_of_role: bool,
}

pub(crate) async fn run(mut args: ConfigureArgs) -> Result<(), CliError> {
    args.credentials.settle()?;
    let CredentialsArgs { secret, session, certificate } = &args.credentials;
    let key = secret.key.key.clone().ok_or_else(|| CliError::Usage("--key: which key shall the profiles use?".into()))?;
    let (profiles, region) = match &certificate.certificate {
        Some(_) if secret.aws_access_key_id.is_some() => return Err(credentials::one_or_the_other()),
        Some(_) => {
            secret.is_fips()?;
            let name = args.profile.clone().unwrap_or_else(|| "rolesanywhere".into());
            (vec![Profile { name, is_of_role: true }], Some(region_of(secret, &certificate.call(session)?)?))
        }
        None => (args.profiles(&key)?, secret.region()),
    };
    let path = ProfileFile::path("AWS_CONFIG_FILE", "config")?;
    let mut file = ProfileFile::open(&path).await?;
    let mut change = Vec::new();
    let others = ProfileFile::path("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
    for Profile { name, is_of_role } in profiles {
        must_be_name(&name)?;
        if let Some(other) = ProfileFile::keys_in(&others, &name)?.into_iter().find(|key| OTHER_SOURCES.contains(&key.as_str())) {
            return Err(CliError::Usage(format!(
                "{}: [{name}] has {other}, which goes before the TPM: take it out, or name another profile",
                shown(&others)
            )));
        }
        let section = config_section(&name);
        let old = file.keys(&section);
        if let Some(other) = old.iter().find(|key| OTHER_SOURCES.contains(&key.as_str())) {
            return Err(CliError::Usage(format!(
                "{}: [{section}] has {other}, which would go before or beside the TPM: take it out, or name another profile",
                shown(&path)
            )));
        }
        let process = args.command(&key, is_of_role, region.as_deref())?;
        let region = region.as_deref().map(|region| ("region", region));
        let settings: Vec<_> = [("credential_process", process.as_str())].into_iter().chain(region).collect();
        // Nothing else of the file is shown, and no old value: they may hold secrets.
        let replaced = settings.iter().filter(|(key, _)| old.iter().any(|old| old == key));
        change.extend(replaced.map(|(key, _)| format!("- {key} = what [{section}] has now")));
        change.push(format!("+ [{section}]"));
        change.extend(settings.iter().map(|(key, value)| format!("+ {key} = {value}")));
        file.set(&section, &settings);
    }
    if !file.is_changed() {
        note!("{} is so already", shown(&path));
        return Ok(());
    }
    note!("{}:", shown(&path));
    for line in change {
        note!("{}", printable(&line));
    }
    if let KeyRef::File(path) = &key
        && read_key_file(path).is_ok_and(|file| file.may_need_password())
        && !secret.key.use_key.has_password_file()
    {
        note!(
            "ekm-otp-client: warning: the key may have a password, and nobody is there to give it to an SDK: name its file (--password-file)"
        );
    }
    if !args.yes && !is_wanted().await? {
        return Err(CliError::Usage("nothing was written".into()));
    }
    file.write()?;
    output::line(&format!("wrote {}", shown(&path)))
}

impl ConfigureArgs {
    /// Those of the Go original: the user's session, and the role's where one is named.
    fn profiles(&self, key: &KeyRef) -> Result<Vec<Profile>, CliError> {
        let is_role = matches!(self.credentials.session.session()?, Session::Role(_));
        if let Some(name) = &self.profile {
            return Ok(vec![Profile { name: name.clone(), is_of_role: is_role }]);
        }
        let names = match key {
            KeyRef::Handle(..) => ["sessiontoken", "assumerole"],
            KeyRef::File(_) => ["sessiontokenfile", "assumerolefile"],
        };
        let profiles = names.into_iter().zip([false, true]).filter(|(_, is_of_role)| is_role || !is_of_role);
        Ok(profiles.map(|(name, is_of_role)| Profile { name: name.into(), is_of_role }).collect())
    }

    /// The command line that gets the credentials. Some SDKs split it themselves, others give it to a shell: nothing in it may mean something there.
    fn command(&self, key: &KeyRef, is_of_role: bool, region: Option<&str>) -> Result<String, CliError> {
        let CredentialsArgs { secret, session, certificate } = &self.credentials;
        let program = std::env::current_exe().map_err(|e| CliError::Other(format!("where is this program? {e}")))?;
        let mut words = vec![os_word(program.into_os_string())?];
        match &certificate.certificate {
            Some(path) => {
                words.push("aws roles-anywhere process".into());
                words.extend(certificate.words(path)?);
            }
            None => words.push(format!("aws process --aws-access-key-id {}", secret.access_key_id()?)),
        }
        words.push(format!("--key {}", os_word(key.again()?)?));
        for (flag, value) in secret.key.use_key.again()? {
            words.push(format!("{flag} {}", os_word(value)?));
        }
        words.extend(secret.words(region)?);
        words.extend(session.words(is_of_role)?);
        if self.cache {
            words.push("--cache".into());
        }
        Ok(words.join(" "))
    }
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
