//! Changes that the server itself makes in the registry, for a client that was verified. They are rare: each opens what it changes, and closes it again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ekm_otp::{KeyId, Secret};
use ekm_otp_tower::registry_file::{Entry, KeyState};
use tokio::runtime::Handle;

use super::config::{Config, Location};
use super::edit::Edit;
use super::records::Records;
use super::store::Registry;
use crate::error::ServerError;

/// What became of a key's first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstUse {
    /// This is it, and the registry remembers it.
    Now,
    /// It was before.
    Before(SystemTime),
    /// The key did not leave in a bundle.
    Unknown,
}

/// A key's successor that was made, or found to be there already.
#[derive(Clone, Debug)]
pub(crate) struct Successor {
    pub(crate) kid: KeyId,
    /// Until when the key before it holds; `None`, for ever: somebody set it so.
    pub(crate) old_until: Option<SystemTime>,
    pub(crate) is_new: bool,
}

/// Why there is no successor.
#[derive(Debug)]
pub(crate) enum NoSuccessor {
    /// The key is not active, or gone.
    NotActive,
    /// It has another one already.
    Another,
    /// Another key has this secret.
    SecretTaken,
    /// The registry could not be changed.
    Failed(ServerError),
}

impl From<ServerError> for NoSuccessor {
    fn from(error: ServerError) -> Self {
        Self::Failed(error)
    }
}

impl Registry {
    /// Remembers that a key that left in a bundle is used for the first time, before anything is answered to whoever uses it.
    pub(crate) async fn first_use(&self, kid: &KeyId) -> Result<FirstUse, ServerError> {
        let _one_after_the_other = self.changing.lock().await;
        let wanted = kid.clone();
        let used = self.with_records(move |records| Box::pin(first_use(records, wanted))).await?;
        if used == FirstUse::Now {
            self.refresh().await?;
        }
        Ok(used)
    }

    /// Whether clients may rotate their keys, and how long the old ones hold then.
    pub(crate) fn rotation(&self) -> Option<Duration> {
        self.config.rotation
    }

    /// Who takes a key's place; `None` while nobody does.
    pub(crate) async fn successor(&self, kid: &KeyId) -> Result<Option<Successor>, ServerError> {
        let kid = kid.clone();
        self.with_records(move |records| {
            Box::pin(async move {
                let entry = records.look_up(&kid).await?;
                Ok(entry.and_then(|old| Some(Successor { kid: old.successor?, old_until: old.not_after, is_new: false })))
            })
        })
        .await
    }

    /// Gives a key a successor with this secret; the old one holds until then at most. Asked once more with the same secret, it is the same one.
    pub(crate) async fn succeed(&self, kid: &KeyId, secret: Secret, old_until: SystemTime) -> Result<Successor, NoSuccessor> {
        let _one_after_the_other = self.changing.lock().await;
        let kid = kid.clone();
        let made = self.with_records(move |records| Box::pin(async move { Ok(succeed(records, kid, secret, old_until).await) })).await?;
        if made.as_ref().is_ok_and(|made| made.is_new) {
            self.refresh().await?;
        }
        made
    }

    /// Opens the registry anew, on a thread of its own: a file's lock and a disk keep no connection waiting.
    async fn with_records<T: Send + 'static>(
        &self,
        work: impl for<'r> FnOnce(&'r mut Records) -> std::pin::Pin<Box<dyn Future<Output = Result<T, ServerError>> + 'r>> + Send + 'static,
    ) -> Result<T, ServerError> {
        if let (Location::File(path), false) = (&self.config.location, self.config.is_writable) {
            return Err(ServerError::NotPermitted(format!(
                "the server may not write into {}: set registry_writable = true (--registry-writable), or keep the registry in a database",
                path.display()
            )));
        }
        let config = Arc::clone(&self.config);
        let runtime = Handle::current();
        let done = tokio::task::spawn_blocking(move || runtime.block_on(on(&config, work))).await;
        done.unwrap_or_else(|e| Err(ServerError::Other(format!("changing the registry failed: {e}"))))
    }
}

async fn on<T>(
    config: &Config,
    work: impl for<'r> FnOnce(&'r mut Records) -> std::pin::Pin<Box<dyn Future<Output = Result<T, ServerError>> + 'r>>,
) -> Result<T, ServerError> {
    let mut records = Records::open(config).await?;
    let done = work(&mut records).await;
    records.close().await;
    done
}

async fn first_use(records: &mut Records, kid: KeyId) -> Result<FirstUse, ServerError> {
    match records.apply(vec![Edit::Enrol(kid.clone(), SystemTime::now())]).await {
        Ok(()) => Ok(FirstUse::Now),
        // Somebody was faster, on another server, too, or it waits for none.
        Err(error) => match records.look_up_anew(&kid).await? {
            Some(entry) if entry.is_awaited() => Err(error),
            Some(Entry { enrolled: Some(at), .. }) => Ok(FirstUse::Before(at)),
            _ => Ok(FirstUse::Unknown),
        },
    }
}

async fn succeed(records: &mut Records, kid: KeyId, secret: Secret, old_until: SystemTime) -> Result<Successor, NoSuccessor> {
    let Some(old) = records.look_up(&kid).await? else { return Err(NoSuccessor::NotActive) };
    if old.state != KeyState::Active {
        return Err(NoSuccessor::NotActive);
    }
    if let Some(successor) = old.successor {
        let known = records.with_secret(&successor).await?.and_then(|entry| entry.secret);
        let is_same = known.is_some_and(|known| known.same_hmac_key(&secret));
        return if is_same { Ok(Successor { kid: successor, old_until: old.not_after, is_new: false }) } else { Err(NoSuccessor::Another) };
    }
    let new = records.next_kid(&kid).await?;
    let old_until = old.not_after.map_or(old_until, |not_after| not_after.min(old_until));
    let mut entry = Entry::new(new.clone(), old.client, secret);
    (entry.minimum, entry.profile, entry.server_names, entry.comment) = (old.minimum, old.profile, old.server_names, old.comment);
    // A client makes itself valid for no longer than it was.
    entry.not_after = old.not_after;
    entry.created = Some(SystemTime::now());
    let edits = vec![Edit::Add(Box::new(entry)), Edit::Succeed { kid: kid.clone(), successor: new.clone(), not_after: old_until }];
    match records.apply(edits).await {
        Ok(()) => Ok(Successor { kid: new, old_until: Some(old_until), is_new: true }),
        Err(error) => match records.look_up_anew(&kid).await? {
            Some(Entry { successor: Some(_), .. }) => Err(NoSuccessor::Another),
            // Neither of the two is there, so it is the secret that is refused.
            Some(_) if matches!(error, ServerError::Config(_)) && error.to_string().contains("is the same as that of") => {
                Err(NoSuccessor::SecretTaken)
            }
            _ => Err(NoSuccessor::Failed(error)),
        },
    }
}
