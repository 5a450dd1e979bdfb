//! More keys than a TPM has slots for, in one process: HMAC keys without anything, with a password, bound to a register, with both, used in turns. Each MAC is compared
//! with the same in software.
//!
//! usage: slots TCTI KEYS [ROUNDS]
//!
//! Prints `all right`, and ends when its standard input does: until then the keys that were used last stay loaded. `swtpm/vm.sh` runs it at the kernel's
//! resource manager, several at a time.

use std::error::Error;
use std::io::Read as _;

use ekm_otp_tpm::{KeyKind, KeySource, NewKey, Password, TpmHandle, TpmKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: slots TCTI KEYS [ROUNDS]";
    let tcti = arguments.next().ok_or(usage)?;
    let count: u8 = arguments.next().ok_or(usage)?.parse()?;
    let rounds: u32 = arguments.next().map_or(Ok(3), |rounds| rounds.parse())?;

    let tpm = TpmHandle::open(tcti.parse()?)?;
    let mut keys = Vec::new();
    for number in 0..count {
        keys.push((secret_of(number), make(&tpm, number).await?));
    }
    for round in 0..rounds {
        for (number, (secret, key)) in keys.iter().enumerate() {
            let message = format!("round {round}, key {number}");
            let mac = key.hmac(message.as_bytes()).await.map_err(|e| format!("{message}: {e}"))?;
            let mut expected = Hmac::<Sha256>::new_from_slice(secret)?;
            expected.update(message.as_bytes());
            expected.verify_slice(&*mac).map_err(|_| format!("{message}: the MAC is wrong"))?;
        }
    }
    println!("all right");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn secret_of(number: u8) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![number; 32])
}

/// One of the four sorts, by its number.
async fn make(tpm: &TpmHandle, number: u8) -> Result<TpmKey, Box<dyn Error>> {
    let password = (number % 2 == 1).then(|| Password::new("right".into())).transpose()?;
    let policy = (number % 4 >= 2).then(|| "sha256:16".parse()).transpose()?;
    let new = NewKey { password: password.clone(), policy, ..NewKey::new(KeyKind::HmacSha256) };
    let file = tpm.create_hmac_key(new, secret_of(number)).await?;
    Ok(tpm.load(KeySource::from(file).with_password(password)))
}
