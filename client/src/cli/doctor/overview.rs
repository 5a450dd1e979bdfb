//! One profile after the other: does its key load, do its servers answer, do they take it.

use std::sync::Arc;
use std::time::Duration;

use ekm_otp_client::Signer;

use super::looked::Looked;
use super::proof::Asked;
use super::report::{Fault, Report};
use super::{server, tpm};
use crate::cli::arguments::{KeyRef, UseKeyArgs};
use crate::cli::credential::CredentialArgs;
use crate::cli::error::CliError;
use crate::cli::password;
use crate::cli::profiles::{ConfigFile, KeyChoice, Material, Resolved, resolve_credential};
use crate::cli::secret_file;
use crate::cli::shown::shown;

/// A profile, as it is resolved for each of its servers.
struct Profile {
    name: String,
    servers: Vec<Resolved>,
    /// Why it cannot be used at all.
    fault: Option<CliError>,
}

/// The lines of the TPMs that they use, then those of each profile: of the one that is named, or of all.
pub(super) async fn check(report: &mut Report, who: &CredentialArgs, file: &ConfigFile, deadline: Duration) -> Result<(), CliError> {
    let names = match &who.profile_name {
        Some(name) => vec![name.as_str()],
        None => file.names(),
    };
    let profiles: Vec<Profile> = names.iter().map(|name| resolved(file, who, name)).collect::<Result<_, _>>()?;
    let choices = || profiles.iter().filter_map(|profile| profile.servers.first()).flat_map(|server| &server.keys);
    let mut tpms: Vec<Looked> = Vec::new();
    for choice in choices().filter(|choice| matches!(choice.material, Some(Material::Tpm(_)))) {
        let arguments = &choice.use_key.tpm;
        let is_new = arguments.tcti().is_ok_and(|tcti| tpms.iter().all(|looked| looked.tcti != tcti));
        // What is wrong with a profile's settings is told in its block, and hides no other's.
        if is_new && let Ok(looked) = Looked::at(report, arguments, deadline).await {
            tpms.push(looked);
        }
    }
    if tpms.is_empty() {
        Looked::at(report, &who.use_key.tpm, deadline).await?;
    }
    server::tell_proxy(report);
    let is_alone = profiles.len() == 1 && choices().count() == 1;
    for profile in profiles {
        let origins: Vec<String> = profile.servers.iter().map(|server| server.origin.audience()).collect();
        report.begin(&profile.name, &origins.join(" and "));
        if let Some(error) = &profile.fault {
            report.problem("profile", Fault::of(error), error.to_string(), "see `ekm-otp-client profile show`, and mend it");
        }
        let Some(first) = profile.servers.first() else { continue };
        let mut usable = None;
        for choice in &first.keys {
            let key = key(report, &profile.name, first, choice, &tpms, is_alone, deadline).await;
            usable = usable.or_else(|| key.map(|key| (choice, key)));
        }
        for resolved in &profile.servers {
            let (choice, key) = match (&usable, resolved.keys.first()) {
                (Some((choice, key)), _) => (*choice, Some(Arc::clone(key))),
                (None, Some(choice)) => (choice, None),
                (None, None) => continue,
            };
            let who = resolved.as_flags(who, choice);
            let needs_post_quantum = resolved.tls.require_post_quantum;
            let asked = Asked { dialled: &resolved.dialled, origin: &resolved.origin, who: &who, deadline, needs_post_quantum };
            server::check(report, asked, key).await;
        }
    }
    Ok(())
}

fn resolved(file: &ConfigFile, who: &CredentialArgs, name: &str) -> Result<Profile, CliError> {
    let who = CredentialArgs { profile_name: Some(name.to_owned()), ..who.clone() };
    let mut profile = Profile { name: name.to_owned(), servers: Vec::new(), fault: None };
    for origin in file.origins(name)? {
        match resolve_credential(file, &who, &origin) {
            Ok(resolved) => profile.servers.push(resolved),
            Err(error) => profile.fault = profile.fault.or(Some(error)),
        }
    }
    Ok(profile)
}

/// A key's lines. `None` where it cannot be used, or where a try would count as a wrong password.
async fn key(
    report: &mut Report,
    profile: &str,
    resolved: &Resolved,
    choice: &KeyChoice,
    tpms: &[Looked],
    is_alone: bool,
    deadline: Duration,
) -> Option<Arc<dyn Signer>> {
    let found = match &choice.material {
        None => Err(CliError::Usage("the profile names no key".into())),
        Some(Material::File { path, format, is_weak_taken }) => {
            let secret = secret_file::read(path, *format, *is_weak_taken, resolved.wire).await;
            secret.map(|secret| {
                report.ok("secret-file", format!("{}: a secret, which is in no TPM: whoever reads the file has it", shown(path)));
                Some(Arc::new(secret) as Arc<dyn Signer>)
            })
        }
        Some(Material::Tpm(key)) => in_tpm(report, profile, key, choice, tpms, is_alone, deadline).await,
    };
    found.unwrap_or_else(|error| {
        let advice = format!("`ekm-otp-client profile show {profile}` tells what is said where");
        report.problem("key-file", Fault::of(&error), error.to_string(), advice);
        None
    })
}

async fn in_tpm(
    report: &mut Report,
    profile: &str,
    key: &KeyRef,
    choice: &KeyChoice,
    tpms: &[Looked],
    is_alone: bool,
    deadline: Duration,
) -> Result<Option<Arc<dyn Signer>>, CliError> {
    let (use_key, tcti) = (&choice.use_key, choice.use_key.tpm.tcti()?);
    let health = tpms.iter().find(|looked| looked.tcti == tcti).and_then(|looked| looked.health.as_ref());
    // The environment's password is one key's: with another it would count as a wrong one.
    let password = match &use_key.password_file {
        Some(file) => password::given(UseKeyArgs::PASSWORD, Some(file))?,
        None if is_alone => password::given(UseKeyArgs::PASSWORD, None)?,
        None => None,
    };
    let asked = tpm::Asked {
        key,
        profile: Some(profile),
        kid: choice.kid.as_ref(),
        password,
        stated: use_key.plan()?.map(|plan| (plan, use_key.plan_flag())),
        parent_template: use_key.parent_template,
        is_for_server: true,
        is_to_sign: false,
    };
    // What it takes to use this profile's keys may differ from what another's take.
    let tpm = use_key.tpm.open_with(None)?.with_deadline(deadline);
    Ok(tpm::check_key(report, asked, &tpm, health, &tcti).await.map(|key| Arc::new(key) as Arc<dyn Signer>))
}
