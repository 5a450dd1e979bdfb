//! `key rotate`: a new key takes the place of an old one, which stays valid until all have changed over.

use std::time::SystemTime;

use ekm_otp_tower::registry_file::{Entry, KeyState};

use super::args::Rotate;
use super::delivery::{Origin, deliver, new_secret};
use super::when;
use crate::error::ServerError;
use crate::registry::{Edit, Records};

pub(super) async fn run(records: &mut Records, rotate: Rotate, weak: bool) -> Result<(), ServerError> {
    let old = records.find(&rotate.kid).await?;
    if old.state != KeyState::Active {
        return Err(ServerError::Config(format!("{} is {}: add a key of its own for the client", old.kid, old.state)));
    }
    if let Some(successor) = &old.successor {
        return Err(ServerError::Config(format!("{} has a successor already: rotate {successor}", old.kid)));
    }
    let overlap = when::span(&rotate.overlap)
        .ok_or_else(|| ServerError::Config(format!("--overlap {}: write it as 90m, 12h or 7d", rotate.overlap)))?;
    // An overlap makes nothing valid for longer than it was.
    let end = SystemTime::now() + overlap;
    let end = old.not_after.map_or(end, |not_after| not_after.min(end));

    let (kid, secret, is_new) = match rotate.secret.origin(rotate.new_kid.as_ref(), weak)? {
        Origin::Given(given) => (given.kid, given.secret.ok_or_else(|| ServerError::Config("the entry holds no secret".into()))?, false),
        Origin::New => {
            let kid = match rotate.new_kid {
                Some(kid) => kid,
                None => records.next_kid(&old.kid).await?,
            };
            (kid, new_secret()?, true)
        }
    };
    let mut entry = Entry::new(kid.clone(), old.client, secret);
    entry.minimum = old.minimum;
    entry.profile = old.profile;
    entry.server_names = old.server_names;
    entry.comment = old.comment;
    entry.created = Some(SystemTime::now());
    let succeed = Edit::Succeed { kid: old.kid, successor: kid, not_after: end };
    deliver(records, &rotate.secret, is_new, entry, vec![succeed]).await
}
