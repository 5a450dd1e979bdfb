//! `key new-registry-key` and `key rekey`: the key that a database's secrets are sealed with.

use zeroize::Zeroizing;

use super::args::NewRegistryKey;
use crate::error::ServerError;
use crate::output;
use crate::registry::{Records, RegistryKey, RegistryKeys, update, write_new};

pub(super) fn make(new: &NewRegistryKey) -> Result<(), ServerError> {
    let (key, text) = RegistryKey::generate()?;
    match (&new.out, &new.append) {
        (_, Some(path)) => {
            RegistryKeys::read(path)?;
            update(path, |before| {
                RegistryKeys::of_text(before, path)?;
                let gap = if before.ends_with('\n') { "" } else { "\n" };
                Ok(Zeroizing::new(format!("{before}{gap}{}", *text)))
            })?;
            output::complain(&format!(
                "added the registry key {} to {}: bring it to each server, then `key rekey`",
                key.id(),
                path.display()
            ));
        }
        (Some(path), None) => {
            write_new(path, &text)?;
            output::complain(&format!(
                "made the registry key {}: keep a copy of {}, without it the secrets are lost",
                key.id(),
                path.display()
            ));
        }
        (None, None) => return Err(ServerError::Config("--out FILE is missing".into())),
    }
    Ok(())
}

pub(super) async fn rekey(records: &mut Records) -> Result<(), ServerError> {
    let (sealed, id) = records.rekey().await?;
    output::complain(&match sealed {
        0 => format!("the registry is sealed with {id}, the newest key of the file, already"),
        sealed => format!("{sealed} secrets are sealed with {id} now: once each server has it, take the other keys out of the file"),
    });
    Ok(())
}
