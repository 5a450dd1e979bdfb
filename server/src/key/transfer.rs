//! `key import` and `key export`: registry files in and out, from one engine to another.

use std::path::Path;
use std::time::SystemTime;

use ekm_otp_tower::registry_file::{Format, KeyState, read};
use zeroize::Zeroizing;

use super::args::{Export, Import};
use crate::error::ServerError;
use crate::output;
use crate::registry::{Edit, Entries, Records, as_toml, json, of_file, write_new};

pub(super) async fn import(records: &mut Records, import: &Import, weak: bool) -> Result<(), ServerError> {
    let mut list = read::<Entries>(&import.file, weak).map_err(of_file)?.list;
    let now = SystemTime::now();
    list.iter_mut().for_each(|entry| entry.created = entry.created.or(Some(now)));
    let count = list.len();
    records.apply(list.into_iter().map(|entry| Edit::Add(Box::new(entry))).collect()).await?;
    output::complain(&format!("{count} keys were imported"));
    Ok(())
}

pub(super) async fn export(records: &mut Records, export: &Export) -> Result<(), ServerError> {
    let mut list = records.list(export.with_secrets).await?;
    if !export.with_secrets {
        // Without secrets, it is to be looked at: what was removed is none of it.
        list.retain(|entry| entry.state != KeyState::Removed);
    }
    let format = export.out.as_deref().map_or(Format::Toml, |path: &Path| Format::of(path));
    let text: Zeroizing<String> = if format == Format::Json { json(&list) } else { as_toml(&list) };
    match &export.out {
        Some(path) => write_new(path, &text),
        None => output::result(&text),
    }
}
