//! What guards a key that is made: its parent, its password, registers. For all commands that make one.

use std::path::PathBuf;

use clap::Args;
use ekm_otp::Secret;
use ekm_otp_tpm::{KeyKind, NewKey, Parent, PolicyPlan, TpmHandle};
use zeroize::Zeroizing;

use super::arguments::{ParentKeyArgs, TpmArgs};
use super::error::CliError;
use super::password::{self, Asked};
use super::policy;

/// What guards the new key, and in which TPM.
#[derive(Args, Debug)]
pub(super) struct GuardArgs {
    #[command(flatten)]
    pub(super) parent: ParentKeyArgs,
    /// Give the key the password in this file; - is standard input [or: $TPM_KEY_AUTH]
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Ask for a password for the key, twice
    #[arg(long, conflicts_with = "password_file")]
    pub(super) ask_password: bool,
    /// Bind the key to registers (PCR), such as sha256:0,7: it works only while they are as they are now. BANK:N=HEX gives a register's value
    #[arg(long, value_name = "BANK:LIST")]
    pub(super) pcrs: Option<PolicyPlan>,
    /// Bind the key to the policy in this file: JSON (TSS policy language; `policy create` writes it), or the digest alone, as tpm2-tools keep it
    #[arg(long, value_name = "FILE", conflicts_with = "pcrs")]
    pub(super) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tpm: TpmArgs,
}

impl GuardArgs {
    const PASSWORD: Asked<'static> = Asked { flag: "--password-file", variable: "TPM_KEY_AUTH", prompt: "Password for the key" };

    /// The TPM, once it is told what it does not protect.
    pub(super) async fn open_for_new(&self, new: &NewKey) -> Result<TpmHandle, CliError> {
        let tpm = self.tpm.open()?;
        if let Some(plan) = &new.policy {
            policy::warn_of_empty(&tpm, plan, "the key").await?;
        }
        Ok(tpm)
    }

    pub(super) async fn new_key(&self, kind: KeyKind) -> Result<NewKey, CliError> {
        let password = password::of_new(Self::PASSWORD, self.ask_password, self.password_file.as_deref()).await?;
        let policy = match &self.policy {
            Some(path) => Some(policy::read(path)?),
            None => self.pcrs.clone(),
        };
        Ok(NewKey { parent: self.parent.parent(), password, policy, ..NewKey::new(kind) })
    }

    /// The flag by which something is asked for that a key which was made elsewhere cannot have.
    pub(super) fn only_of_own(&self) -> Option<&'static str> {
        match self {
            Self { password_file: Some(_), .. } => Some("--password-file"),
            Self { ask_password: true, .. } => Some("--ask-password"),
            Self { pcrs: Some(_), .. } => Some("--pcrs"),
            Self { policy: Some(_), .. } => Some("--policy"),
            _ => None,
        }
    }
}

/// 32 bytes of the TPM's randomness, XORed with 32 of the operating system's: as good as the better of the two.
pub(super) async fn random_secret(tpm: &TpmHandle, salt_key: Parent) -> Result<Secret, CliError> {
    let mut bytes = Zeroizing::new(vec![0_u8; 32]);
    getrandom::fill(&mut bytes).map_err(|e| CliError::Other(format!("the operating system gives no randomness: {e}")))?;
    let from_tpm = tpm.random(salt_key, 32).await?;
    if from_tpm.len() != bytes.len() {
        return Err(CliError::Other(format!("the TPM gave {} random bytes instead of 32", from_tpm.len())));
    }
    for (byte, other) in bytes.iter_mut().zip(from_tpm.iter()) {
        *byte ^= other;
    }
    Secret::new(bytes.to_vec()).map_err(|e| CliError::Other(e.to_string()))
}
