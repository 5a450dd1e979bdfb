//! A secret that is new, or comes in a file, and the way it leaves. It is delivered before the registry knows it: one that could not be is no key.

use std::path::Path;

use ekm_otp::{KeyId, Secret};
use ekm_otp_tower::registry_file::{Entry, read};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::SecretWay;
use crate::error::ServerError;
use crate::output;
use crate::registry::{Edit, Entries, Records, of_file, write_new};

/// Where a secret comes from.
pub(super) enum Origin {
    New,
    Given(Box<Entry>),
}

impl SecretWay {
    /// The entry of --entry, which is to have this key id if one is named.
    pub(super) fn origin(&self, kid: Option<&KeyId>, weak: bool) -> Result<Origin, ServerError> {
        let Some(path) = &self.entry else { return Ok(Origin::New) };
        let mut list = read::<Entries>(path, weak).map_err(of_file)?.list;
        match (list.pop(), list.len()) {
            (Some(entry), 0) if entry.secret.is_some() => match kid {
                Some(kid) if *kid != entry.kid => {
                    Err(ServerError::Config(format!("{} holds the key {}, not {kid}", path.display(), entry.kid)))
                }
                _ => Ok(Origin::Given(Box::new(entry))),
            },
            _ => {
                Err(ServerError::Config(format!("{} does not hold exactly one key: `key import` takes a file of several", path.display())))
            }
        }
    }
}

/// 32 bytes.
pub(super) fn new_secret() -> Result<Secret, ServerError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut bytes[..]).map_err(|e| ServerError::Other(format!("the operating system gives no randomness: {e}")))?;
    Secret::new(bytes.to_vec()).map_err(|e| ServerError::Other(e.to_string()))
}

/// Delivers the secret of a new entry, then makes these changes, which begin with its addition. Takes a file that was written back if they fail.
pub(super) async fn deliver(
    records: &mut Records,
    way: &SecretWay,
    is_new: bool,
    entry: Entry,
    others: Vec<Edit>,
) -> Result<(), ServerError> {
    let (kid, client) = (entry.kid.clone(), entry.client.clone());
    let secret = entry.secret.as_ref().filter(|_| is_new).map(Secret::encode_base64);
    let mut edits = vec![Edit::Add(Box::new(entry))];
    edits.extend(others);
    // What is refused anyway is refused before anything is shown.
    if records.look_up(&kid).await?.is_some() {
        return Err(ServerError::Config(format!("the key id {kid} is registered already, or was: it is never bound to another secret")));
    }
    match (&secret, &way.secret_out) {
        (Some(secret), Some(path)) => write_new(path, &Zeroizing::new(format!("{}\n", secret.as_str())))?,
        (Some(secret), None) if !way.json => output::result(&Zeroizing::new(format!("{}\n", secret.as_str())))?,
        _ => {}
    }
    if way.json {
        let mut told = json!({ "kid": kid.as_str(), "client": client });
        if let Some(secret) = secret.as_ref().filter(|_| way.secret_out.is_none()) {
            told["secret"] = secret.as_str().into();
        }
        output::result(&Zeroizing::new(format!("{told}\n")))?;
    }
    if let Err(e) = records.apply(edits).await {
        // Where only the answer was lost, the key may be there, and its secret must not be thrown away.
        match records.look_up_anew(&kid).await {
            Ok(None) => match (&secret, &way.secret_out) {
                (Some(_), Some(path)) => take_back(path),
                (Some(_), None) => output::complain("the secret above is of no key: nothing was added"),
                (None, _) => {}
            },
            Ok(Some(_)) => output::complain(&format!("{kid} is in the registry, in spite of what follows: keep its secret")),
            Err(_) => output::complain(&format!("it is not known whether {kid} was added: keep its secret until `key show {kid}` tells")),
        }
        return Err(e);
    }
    match (&secret, &way.secret_out) {
        (Some(_), Some(path)) => output::complain(&format!(
            "added {kid}. {} holds the secret: move it to the client over a safe way, then delete it here",
            path.display()
        )),
        (Some(_), None) => output::complain(&format!("added {kid}. Its secret is shown this once")),
        (None, _) => output::complain(&format!("added {kid}")),
    }
    Ok(())
}

fn take_back(path: &Path) {
    if let Err(e) = std::fs::remove_file(path) {
        output::complain(&format!("{} is of no use, and cannot be removed: {e}", path.display()));
    }
}
