//! `profile list`, `profile show`: what the configuration file says, and what wins over it.

use ekm_otp_files::settings::keys_of;

use super::environment::{Environment, name_of};
use super::file::{ConfigFile, FileProfile};
use super::settings::{ChannelSettings, KeySettings, TpmSettings};
use crate::cli::arguments::variable;
use crate::cli::error::CliError;
use crate::cli::output;
use crate::cli::shown::{printable, shown};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum ProfileCommand {
    /// The profiles, a line each: its name, its servers, its key ids.
    List,
    /// Each setting of a profile, and where it comes from.
    #[command(after_help = "Examples:\n  ekm-otp-client profile show work")]
    Show {
        /// The profile's name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(crate) fn run(command: ProfileCommand) -> Result<(), CliError> {
    let file = ConfigFile::read()?;
    match command {
        ProfileCommand::List => list(&file),
        ProfileCommand::Show { name } => show(&file, &name),
    }
}

fn list(file: &ConfigFile) -> Result<(), CliError> {
    let longest = file.names().iter().map(|name| name.len()).max().unwrap_or_default();
    if file.profiles.is_empty() {
        output::note!("{} has no profile: `ekm-otp-client enroll BUNDLE` makes one, or write it", shown(&file.path));
    }
    for profile in &file.profiles {
        let kids: Vec<String> = profile.keys.iter().filter_map(|key| Some(key.settings.kid.as_ref()?.to_string())).collect();
        output::line(&format!("{:<longest$}  {}  {}", profile.name, profile.origins().replace(" and ", " "), kids.join(" ")))?;
    }
    Ok(())
}

/// What is taken where nothing is said.
const DEFAULTS: [(&str, &str); 6] = [
    ("credential", "\"otp\""),
    ("mutual", "\"require\""),
    ("wire", "\"v1\""),
    ("tls12", "false"),
    ("require_post_quantum", "false"),
    ("ca", "the system's"),
];

fn show(file: &ConfigFile, name: &str) -> Result<(), CliError> {
    let profile = file.named(name, "profile show")?;
    // What cannot be read is told of.
    let environment = Environment::read()?;
    let names_key = environment.key.key.is_some() || environment.key.secret_file.is_some();
    let keys = keys_of::<ChannelSettings>().iter().chain(keys_of::<KeySettings>()).chain(&["keys"]).chain(keys_of::<TpmSettings>());
    for key in keys {
        // The environment's origins are those of its own key.
        let by_variable = variable(&name_of(key)).filter(|_| !["origins", "keys"].contains(key));
        let of_key = *key != "kid" && (keys_of::<KeySettings>().contains(key) || *key == "keys");
        let (value, from) = match (by_variable, profile.written.get(*key)) {
            (Some(value), _) => (value, format!("${}", name_of(key))),
            (None, Some((line, value))) if of_key && names_key => {
                (value.clone(), format!("{}, line {line}; not used: the environment names another key", shown(&file.path)))
            }
            (None, Some((line, value))) => (value.clone(), format!("{}, line {line}", shown(&file.path))),
            (None, None) => match default(profile, key) {
                Some(value) => (value.to_owned(), "default".to_owned()),
                None => continue,
            },
        };
        output::line(&format!("{key:<20}  {:<36}  {from}", printable(&value)))?;
    }
    Ok(())
}

fn default(profile: &FileProfile, key: &str) -> Option<&'static str> {
    let is_go = profile.channel.wire == Some(ekm_otp::Profile::Go);
    DEFAULTS.into_iter().find(|(known, _)| *known == key && !(is_go && key == "mutual")).map(|(_, value)| value)
}
