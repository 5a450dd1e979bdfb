//! `key add`.

use std::time::SystemTime;

use ekm_otp::ServerName;
use ekm_otp_tower::registry_file::Entry;

use super::args::Add;
use super::delivery::{Origin, deliver, new_secret};
use super::when;
use crate::error::ServerError;
use crate::registry::Records;

pub(super) async fn run(records: &mut Records, add: Add, weak: bool) -> Result<(), ServerError> {
    let (mut entry, is_new) = match add.secret.origin(add.kid.as_ref(), weak)? {
        Origin::Given(entry) => (*entry, false),
        Origin::New => {
            let kid = add.kid.clone().ok_or_else(|| ServerError::Config("a key id is missing: `key add KID`".into()))?;
            let client = kid.as_str().to_owned();
            (Entry::new(kid, client, new_secret()?), true)
        }
    };
    if let Some(client) = add.client {
        entry.client = client;
    }
    if let Some(kind) = &add.credential {
        entry.minimum = kind.parse().map_err(|e| ServerError::Config(format!("--credential {kind}: {e}")))?;
    }
    if let Some(profile) = &add.profile {
        entry.profile = profile.parse().map_err(|e| ServerError::Config(format!("--profile {profile}: {e}")))?;
    }
    if let Some(text) = &add.not_before {
        entry.not_before = Some(when::point("not-before", text)?);
    }
    if let Some(text) = &add.not_after {
        entry.not_after = Some(when::point("not-after", text)?);
    }
    for name in &add.server_names {
        let name = ServerName::from_host(name).map_err(|e| ServerError::Config(format!("--server-name: {e}")))?;
        entry.server_names.push(name);
    }
    entry.comment = add.comment.or(entry.comment);
    entry.created = entry.created.or_else(|| Some(SystemTime::now()));
    deliver(records, &add.secret, is_new, entry, Vec::new()).await
}
