//! The key commands: clients are added, their secrets rotated, and thrown out. The same over a file, SQLite and PostgreSQL.

mod add;
mod args;
mod bundle;
mod delivery;
mod registry_keys;
mod rotate;
mod show;
mod state;
mod transfer;
mod when;

pub(crate) use self::args::Args;
use self::args::Command;
use crate::error::ServerError;
use crate::registry::Records;

/// Does it.
pub(crate) fn run(args: Args) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| ServerError::Other(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(async {
        if let Command::NewRegistryKey(new) = args.command {
            return registry_keys::make(&new);
        }
        let config = args.place.resolve()?;
        let mut records = Records::open(&config).await?;
        let done = match args.command {
            Command::NewRegistryKey(_) => Ok(()),
            Command::Add(add) => add::run(&mut records, add, config.weak_secrets).await,
            Command::List(list) => show::list(&mut records, &list).await,
            Command::Show(one) => show::one(&mut records, &one).await,
            Command::Rotate(rotate) => rotate::run(&mut records, rotate, config.weak_secrets).await,
            Command::Revoke(kids) => state::set(&mut records, &kids, state::Change::Revoke).await,
            Command::Disable(kids) => state::set(&mut records, &kids, state::Change::Disable).await,
            Command::Enable(kids) => state::set(&mut records, &kids, state::Change::Enable).await,
            Command::Remove(kids) => state::set(&mut records, &kids, state::Change::Remove).await,
            Command::Import(import) => transfer::import(&mut records, &import, config.weak_secrets).await,
            Command::Export(export) => transfer::export(&mut records, &export).await,
            Command::Rekey => registry_keys::rekey(&mut records).await,
        };
        records.close().await;
        done
    })
}
