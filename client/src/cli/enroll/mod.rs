//! `enroll BUNDLE`: from a bundle that the server made to a key in the TPM and a profile, all or nothing. The secret touches no disk in clear.

mod args;
mod offered;
pub(super) mod place;
pub(super) mod server;

use std::time::Duration;

use ekm_otp_tpm::{KeyKind, KeySource, NewKey, Password, TpmHandle, TpmKey};
use zeroize::Zeroizing;

pub(crate) use self::args::EnrollArgs;
use self::offered::{Carried, Offered};
use self::place::Place;
use self::server::FirstUse;
use super::error::CliError;
use super::output::note;
use super::profiles::Editor;

pub(crate) async fn run(args: EnrollArgs) -> Result<(), CliError> {
    let offered = Offered::read(&args.bundle, args.passphrase_file.as_deref(), args.fingerprint.as_deref()).await?;
    if let (Carried::Wrapped(_), Some(flag)) = (&offered.secret, args.guard.only_of_own()) {
        return Err(CliError::Usage(format!(
            "{flag}: the bundle's key was wrapped to this TPM by the server, which said how it is guarded: have a bundle made with a passphrase alone, or leave {flag} out"
        )));
    }
    // Held until the end: nobody else changes the profiles meanwhile.
    let mut editor = Editor::open().await?;
    let mut place = Place::find(&editor, &args, &offered)?;
    let new = args.guard.new_key(KeyKind::HmacSha256).await?;
    let password = new.password.clone();
    let tpm = args.guard.open_for_new(&new).await?;
    let deadline = Duration::from_secs(args.timeout);
    let key = into_tpm(&tpm.clone().with_deadline(deadline), new, &offered, &mut place, password).await?;

    // On the disk, without their names yet: from here on little can go wrong with them.
    let client = offered.client(key, args.require_post_quantum, deadline)?;
    client.connected().await.map_err(|e| {
        server::explained(&e, "nothing was kept (where the key was added just now, the server knows it within seconds: try again)")
    })?;
    match server::first_use(&client).await? {
        FirstUse::Now => {}
        FirstUse::Before(at) if args.accept_used => {
            note!("the bundle was used before, at {at}, and that is taken for this machine's (--accept-used)")
        }
        FirstUse::Before(at) => {
            return Err(CliError::NotPermitted(format!(
                "SOMEBODY USED THIS BUNDLE BEFORE, at {at} (UTC), and has its secret. Nothing was kept here. If that was not you: have `ekm-otp-server key revoke {}` run at \
                 once, and another bundle made. If it was you, on this machine, in a try that was cut off: run this again with --accept-used",
                offered.kid
            )));
        }
    }
    place.keep(&mut editor, &args, &offered)?;
    editor.write().inspect_err(|_| {
        place.take_back();
        note!("the server remembers that the bundle was used: once the following is mended, run this again with --accept-used");
    })?;
    place.tell(&offered);
    Ok(())
}

/// Makes the key, and writes its file without a name.
async fn into_tpm(
    tpm: &TpmHandle,
    new: NewKey,
    offered: &Offered,
    place: &mut Place,
    password: Option<Password>,
) -> Result<TpmKey, CliError> {
    let key = match &offered.secret {
        Carried::Clear(secret) => tpm.create_hmac_key(new, Zeroizing::new(secret.expose().to_vec())).await?,
        Carried::Wrapped(duplicate) => tpm.import_duplicate(new.parent, (**duplicate).clone()).await?.with_empty_auth(true),
    };
    place.write(&key, offered)?;
    Ok(tpm.load(KeySource::from(key).with_password(password)))
}
