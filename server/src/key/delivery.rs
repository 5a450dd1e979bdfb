//! A secret that is new, or comes in a file, and the way it leaves. It is delivered before the registry knows it: one that could not be is no key.

use std::path::Path;

use ekm_otp::{KeyId, Secret};
use ekm_otp_tower::registry_file::{Entry, read};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::SecretWay;
use super::bundle::Made;
use crate::error::ServerError;
use crate::output;
use crate::registry::{Edit, Entries, Records, instant, of_file, write_new};

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

/// What leaves for the client.
enum Leaving<'a> {
    /// The client has its secret.
    Nothing,
    /// On standard output.
    Shown(Zeroizing<String>),
    /// In a file.
    File(&'a Path, Zeroizing<String>),
    /// With all else that the client needs.
    Bundle(Made),
}

impl Leaving<'_> {
    fn of<'a>(way: &'a SecretWay, entry: &mut Entry, is_new: bool) -> Result<Leaving<'a>, ServerError> {
        if let Some(made) = way.bundle.make(entry)? {
            return Ok(Leaving::Bundle(made));
        }
        let secret = entry.secret.as_ref().filter(|_| is_new).map(Secret::encode_base64);
        Ok(match (secret, &way.secret_out) {
            (Some(secret), Some(path)) => Leaving::File(path, Zeroizing::new(format!("{}\n", secret.as_str()))),
            (Some(secret), None) => Leaving::Shown(secret),
            (None, _) => Leaving::Nothing,
        })
    }

    fn file(&self) -> Option<(&Path, &str)> {
        match self {
            Self::File(path, text) => Some((path, text)),
            Self::Bundle(made) => Some((&made.path, &made.text)),
            Self::Nothing | Self::Shown(_) => None,
        }
    }

    /// What standard output gets, this once, and its name.
    fn shown(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Shown(secret) => Some(("secret", secret)),
            Self::Bundle(made) => made.passphrase.as_ref().map(|passphrase| ("passphrase", passphrase.as_str())),
            Self::Nothing | Self::File(..) => None,
        }
    }
}

/// Delivers the secret of a new entry, then makes these changes, which begin with its addition. Takes a file that was written back if they fail.
pub(super) async fn deliver(
    records: &mut Records,
    way: &SecretWay,
    is_new: bool,
    mut entry: Entry,
    others: Vec<Edit>,
) -> Result<(), ServerError> {
    let (kid, client) = (entry.kid.clone(), entry.client.clone());
    // What is refused anyway is refused before anything is shown.
    if records.look_up(&kid).await?.is_some() {
        return Err(ServerError::Config(format!("the key id {kid} is registered already, or was: it is never bound to another secret")));
    }
    let leaving = Leaving::of(way, &mut entry, is_new)?;
    let mut edits = vec![Edit::Add(Box::new(entry))];
    edits.extend(others);
    if let Some((path, text)) = leaving.file() {
        write_new(path, text)?;
    }
    let shown = show(way, &kid, &client, &leaving);
    if let Err(e) = shown {
        if let Some((path, _)) = leaving.file() {
            take_back(path);
        }
        return Err(e);
    }
    if let Err(e) = records.apply(edits).await {
        // Where only the answer was lost, the key may be there, and its secret must not be thrown away.
        match records.look_up_anew(&kid).await {
            Ok(None) => match (leaving.file(), leaving.shown()) {
                (Some((path, _)), _) => take_back(path),
                (None, Some(_)) => output::complain("the secret above is of no key: nothing was added"),
                (None, None) => {}
            },
            Ok(Some(_)) => output::complain(&format!("{kid} is in the registry, in spite of what follows: keep its secret")),
            Err(_) => output::complain(&format!("it is not known whether {kid} was added: keep its secret until `key show {kid}` tells")),
        }
        return Err(e);
    }
    match &leaving {
        Leaving::File(path, _) => output::complain(&format!(
            "added {kid}. {} holds the secret: move it to the client over a safe way, then delete it here",
            path.display()
        )),
        Leaving::Shown(_) => output::complain(&format!("added {kid}. Its secret is shown this once")),
        Leaving::Bundle(made) => output::complain(&format!("added {kid}. {}", made.told())),
        Leaving::Nothing => output::complain(&format!("added {kid}")),
    }
    Ok(())
}

fn show(way: &SecretWay, kid: &KeyId, client: &str, leaving: &Leaving<'_>) -> Result<(), ServerError> {
    if !way.json {
        return match leaving.shown() {
            Some((_, text)) => output::result(&Zeroizing::new(format!("{text}\n"))),
            None => Ok(()),
        };
    }
    let mut told = json!({ "kid": kid.as_str(), "client": client });
    if let Leaving::Bundle(made) = leaving {
        told["bundle"] =
            json!({ "file": made.path.display().to_string(), "fingerprint": made.fingerprint, "enrol_by": instant(made.enrol_by) });
    }
    if let Some((name, text)) = leaving.shown() {
        told[name] = text.into();
    }
    output::result(&Zeroizing::new(format!("{told}\n")))
}

fn take_back(path: &Path) {
    if let Err(e) = std::fs::remove_file(path) {
        output::complain(&format!("{} is of no use, and cannot be removed: {e}", path.display()));
    }
}
