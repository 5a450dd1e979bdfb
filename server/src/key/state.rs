//! `key revoke`, `disable`, `enable`, `remove`.

use ekm_otp_tower::registry_file::KeyState;

use super::args::Kids;
use crate::error::ServerError;
use crate::output;
use crate::registry::{Edit, Records};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Revoke,
    Disable,
    Enable,
    Remove,
}

pub(super) async fn set(records: &mut Records, kids: &Kids, change: Change) -> Result<(), ServerError> {
    let (mut edits, mut revoked) = (Vec::new(), Vec::new());
    for kid in &kids.kids {
        if change == Change::Enable && records.find(kid).await?.state == KeyState::Revoked {
            revoked.push(kid.as_str());
        }
        edits.push(match change {
            Change::Revoke => Edit::State(kid.clone(), KeyState::Revoked),
            Change::Disable => Edit::State(kid.clone(), KeyState::Disabled),
            Change::Enable => Edit::State(kid.clone(), KeyState::Active),
            Change::Remove => Edit::Remove(kid.clone()),
        });
    }
    records.apply(edits).await?;
    if !revoked.is_empty() {
        output::complain(&format!(
            "warning: {} had been revoked: if somebody else may have the secret, add a new key instead",
            revoked.join(", ")
        ));
    }
    Ok(())
}
