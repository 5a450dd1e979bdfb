//! From settings to the table of routes: profiles are resolved, keys opened, a client made for each origin. Nothing is dialled yet.

use std::path::Path;
use std::sync::Arc;

use ekm_otp::Authority;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::super::arguments::KeyRef;
use super::super::credential::ConnectArgs;
use super::super::error::CliError;
use super::super::profiles::{self, ConfigFile, Material, Resolved};
use super::routes::{Origin, Route, Rules, Table};
use super::settings::{RouteSettings, Settings};
use super::users::Users;

/// How many connections to one origin there may be at once.
const ORIGIN_CONNECTIONS: usize = 128;

/// Opens all. An origin whose settings and files are what they were keeps its client, and that its connections.
///
/// # Errors
/// When a profile, a key or a certificate cannot be used: nothing has changed then.
pub(super) async fn open(settings: &Settings, how: &ConnectArgs, before: Option<&Table>) -> Result<Table, CliError> {
    let file = ConfigFile::read()?;
    let mut table = Table::default();
    for listener in &settings.listeners {
        let mut routes = Vec::new();
        for route in &listener.routes {
            let origin = origin(settings, how, &file, route, before, &mut table.origins).await?;
            let users = route.users.clone().unwrap_or_else(Users::own);
            routes.push(Route { host: route.host.clone(), users, origin });
        }
        table.rules.push(Arc::new(Rules {
            hosts: listener.hosts.clone(),
            allow_origins: listener.allow_origins.clone(),
            authorization: listener.authorization.clone(),
            routes,
        }));
    }
    Ok(table)
}

async fn origin(
    settings: &Settings,
    how: &ConnectArgs,
    file: &ConfigFile,
    route: &RouteSettings,
    before: Option<&Table>,
    origins: &mut Vec<Arc<Origin>>,
) -> Result<Arc<Origin>, CliError> {
    let mut how = how.clone();
    if route.profile.is_some() {
        how.who.profile_name.clone_from(&route.profile);
    }
    let dialled: Authority = match &route.to {
        Some(to) => to.clone(),
        None => profiles::only_origin(file, &how.who)?,
    };
    let resolved = profiles::resolve_in(file, &how, &dialled)?;
    let print = fingerprint(&resolved);
    let known = origins.iter().chain(before.into_iter().flat_map(|table| &table.origins)).find(|origin| origin.print == print).cloned();
    let origin = match known {
        Some(origin) => origin,
        None => {
            let mut builder = resolved.builder(settings.times.connect).await?;
            // Where the origin speaks HTTP/1.1, each event stream and each long poll has one of its own.
            builder = builder
                .response_deadline(settings.times.response)
                .idle_limit(settings.times.idle_limit)
                .max_connections(ORIGIN_CONNECTIONS);
            if settings.times.idle_limit.is_zero() {
                builder = builder.max_idle(0);
            }
            if settings.is_http1_only {
                builder = builder.http1_only();
            }
            let client = builder.build().map_err(|e| CliError::Usage(e.to_string()))?;
            Arc::new(Origin { label: resolved.origin.audience(), authority: resolved.origin.clone(), client, print })
        }
    };
    if !origins.iter().any(|known| Arc::ptr_eq(known, &origin)) {
        origins.push(Arc::clone(&origin));
    }
    Ok(origin)
}

/// Of all that a client is made of: what is said of it, and what is in the files that it names.
fn fingerprint(resolved: &Resolved) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{resolved:?}"));
    let mut add = |path: &Path| {
        // One that cannot be read is told of by who needs it.
        hash.update(&*Zeroizing::new(std::fs::read(path).unwrap_or_default()));
        hash.update(path.as_os_str().as_encoded_bytes());
    };
    if let Some(ca) = &resolved.ca {
        add(ca);
    }
    for key in &resolved.keys {
        match &key.material {
            Some(Material::Tpm(KeyRef::File(path))) => add(path),
            Some(Material::File { path, .. }) if path != Path::new("-") => add(path),
            _ => {}
        }
    }
    hash.finalize().into()
}
