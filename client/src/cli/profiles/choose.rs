//! Which profile a server is connected to with. A profile's key id is sent to its own origins only.

use ekm_otp::{Authority, KeyId};

use super::environment::PROFILE_VARIABLE;
use super::file::{ConfigFile, FileProfile};
use crate::cli::arguments::variable;
use crate::cli::credential::CredentialArgs;
use crate::cli::error::CliError;
use crate::cli::shown::shown;

/// A profile that was named, and what named it.
pub(super) struct Given {
    name: String,
    from: String,
}

/// The profile that flags or environment name.
pub(super) fn name_given(flags: &CredentialArgs) -> Option<Given> {
    let by_flag = flags.profile_name.clone().map(|name| Given { name, from: "--profile-name".to_owned() });
    by_flag.or_else(|| variable(PROFILE_VARIABLE).map(|name| Given { name, from: format!("${PROFILE_VARIABLE}") }))
}

/// The profile for this origin, if there is one.
///
/// # Errors
/// Where the one that was named is for other origins, or several have this one and none was named.
pub(super) fn choose<'f>(
    file: &'f ConfigFile,
    given: Option<&Given>,
    origin: &Authority,
    kid: Option<&KeyId>,
) -> Result<Option<&'f FileProfile>, CliError> {
    let path = || shown(&file.path);
    if let Some(Given { name, from }) = given {
        let profile = file.named(name, from)?;
        if !profile.has(origin) {
            return Err(CliError::Usage(format!(
                "the profile {name} is for {} and no other server, and this one is {}: nothing was sent. Add it to that profile's `origins` ({}, \
                 line {}), or leave out {from} and name a key with --kid and --key",
                profile.origins(),
                origin.audience(),
                path(),
                profile.line
            )));
        }
        return Ok(Some(profile));
    }
    let fitting: Vec<&FileProfile> = file.profiles.iter().filter(|profile| profile.has(origin)).collect();
    let has_kid = |profile: &&&FileProfile| profile.keys.iter().any(|key| kid.is_some() && key.settings.kid.as_ref() == kid);
    let with_kid: Vec<&FileProfile> = fitting.iter().filter(has_kid).copied().collect();
    match (fitting.as_slice(), with_kid.as_slice()) {
        ([], _) => Ok(None),
        ([one], _) | (_, [one]) => Ok(Some(one)),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|profile| profile.name.as_str()).collect();
            Err(CliError::Usage(format!(
                "{}: the profiles {} have {}: say which, with --profile-name (-P) or ${PROFILE_VARIABLE}",
                path(),
                names.join(" and "),
                origin.audience()
            )))
        }
    }
}

/// The server of the profile that flags or environment name, or of the only one that there is: for commands that name none themselves.
///
/// # Errors
/// Where no profile is named and there is not exactly one, or it has more than one origin.
pub(crate) fn only_origin(file: &ConfigFile, flags: &CredentialArgs) -> Result<Authority, CliError> {
    let profile = named_or_only(file, flags)?;
    match profile.channel.origins.as_slice() {
        [one] => Ok(one.0.clone()),
        _ => Err(CliError::Usage(format!("the profile {} has {}: name the server that is meant", profile.name, profile.origins()))),
    }
}

/// The first server of that profile: for commands to which each of a profile's servers is as good.
///
/// # Errors
/// Where no profile is named and there is not exactly one.
pub(crate) fn first_origin(file: &ConfigFile, flags: &CredentialArgs) -> Result<Authority, CliError> {
    let profile = named_or_only(file, flags)?;
    let first = profile.channel.origins.first().map(|origin| origin.0.clone());
    first.ok_or_else(|| CliError::Usage(format!("the profile {} has no origin: add its server to `origins`", profile.name)))
}

fn named_or_only<'a>(file: &'a ConfigFile, flags: &CredentialArgs) -> Result<&'a FileProfile, CliError> {
    Ok(match (name_given(flags), file.profiles.as_slice()) {
        (Some(Given { name, from }), _) => file.named(&name, &from)?,
        (None, [one]) => one,
        (None, []) => {
            return Err(CliError::Usage(format!(
                "no server is named, and {} has no profile: name the server, or make a profile (`ekm-otp-client enroll BUNDLE`)",
                shown(&file.path)
            )));
        }
        (None, _) => {
            return Err(CliError::Usage(format!(
                "no server is named, and {} has the profiles {}: name the server, or the profile with --profile-name (-P)",
                shown(&file.path),
                file.names().join(", ")
            )));
        }
    })
}
