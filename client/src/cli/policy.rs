//! Policies in files, and what it takes to fulfil them besides a password.

mod signer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ekm_otp_tpm::{Password, PolicyPlan, PolicySigner, Settings, SignedPolicy, TpmHandle};

pub(super) use self::signer::{PrivateKeyFile, verifying_key};
use super::error::CliError;
use super::output::note;
use super::password::{self, Asked};
use super::shown::shown;

/// More than any policy takes; what is longer is refused, not cut off.
const MAX_LEN: u64 = 64 * 1024;

/// What a policy may ask for besides registers and the key's password.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Policy")]
pub(super) struct FulfilArgs {
    /// A policy that its key has signed, for what takes any that is: as `policy sign` writes it, or systemd's signatures over registers (.pcrsig)
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) signed_policy: Vec<PathBuf>,
    /// The private key (PEM) that signs each use, for what wants that
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) policy_signing_key: Vec<PathBuf>,
    /// File with the password of a hierarchy (0x4000000b, endorsement; 0x4000000a, lockout) or a persistent object that a policy asks for
    #[arg(long, value_name = "HANDLE=FILE", value_parser = secret, hide_short_help = true)]
    pub(super) policy_secret: Vec<(u32, PathBuf)>,
}

pub(super) fn secret(text: &str) -> Result<(u32, PathBuf), String> {
    let (handle, file) = text.split_once('=').ok_or("write it as HANDLE=FILE, such as 0x81008001=password.txt")?;
    let known = handle_of(handle)?;
    Ok((known, file.into()))
}

/// A hierarchy by its name, or a handle.
pub(super) fn handle_of(text: &str) -> Result<u32, String> {
    // TPM_RH (TCG part 2, 7.4)
    let hierarchies = [("owner", 0x4000_0001), ("endorsement", 0x4000_000b), ("lockout", 0x4000_000a), ("platform", 0x4000_000c)];
    let named = hierarchies.into_iter().find(|(name, _)| *name == text).map(|(_, handle)| handle);
    let number = || text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let is_one = |handle: &u32| (0x8100_0000..=0x81ff_ffff).contains(handle) || hierarchies.iter().any(|(_, known)| known == handle);
    named
        .or_else(number)
        .filter(is_one)
        .ok_or_else(|| "neither owner, endorsement, lockout, platform nor a persistent handle (0x81…)".to_owned())
}

impl FulfilArgs {
    /// Puts what is given where the TPM's keys are used.
    pub(super) fn add_to(&self, settings: &mut Settings) -> Result<(), CliError> {
        for path in &self.signed_policy {
            let refused = |why: &str| CliError::Usage(format!("--signed-policy {}: {why}", shown(path)));
            let bytes = bytes(path)?;
            if bytes.len() as u64 > MAX_LEN {
                return Err(refused("it is longer than 65536 bytes, so it is no signed policy"));
            }
            let text = String::from_utf8(bytes).map_err(|_| refused("it is no text (UTF-8)"))?;
            settings.signed_policies.extend(SignedPolicy::from_json(&text).map_err(|e| refused(&e.to_string()))?);
        }
        for path in &self.policy_signing_key {
            let signer: Arc<dyn PolicySigner> = Arc::new(PrivateKeyFile::read(path)?);
            settings.policy_signers.push(signer);
        }
        for (handle, path) in &self.policy_secret {
            let asked = Asked { flag: "--policy-secret", variable: "TPM_POLICY_AUTH", prompt: "Password that the policy asks for" };
            let given: Option<Password> = password::given(asked, Some(path))?;
            settings.secrets.extend(given.map(|password| (*handle, password)));
        }
        Ok(())
    }
}

/// Tells of registers that are bound to as they are, and that nothing was measured into. `what` is bound.
pub(super) async fn warn_of_empty(tpm: &TpmHandle, plan: &PolicyPlan, what: &str) -> Result<(), CliError> {
    let empty = tpm.empty_registers(plan.clone()).await?;
    let mut banks = BTreeMap::<_, Vec<String>>::new();
    empty.into_iter().for_each(|(bank, register)| banks.entry(bank).or_default().push(register.to_string()));
    for (bank, registers) in banks {
        note!(
            "ekm-otp-client: warning: nothing was measured into {bank}:{} (all zeros or all ones): that binds {what} to no state of this machine. \
             `doctor` shows which banks firmware measures into",
            registers.join(",")
        );
    }
    Ok(())
}

/// A policy: JSON, or the digest alone that tpm2-tools write.
pub(super) fn read(path: &Path) -> Result<PolicyPlan, CliError> {
    read_named(path, "--policy")
}

/// The same, where another flag, or none, names the file.
pub(super) fn read_named(path: &Path, flag: &str) -> Result<PolicyPlan, CliError> {
    parse(bytes(path)?, format!("{flag} {}", shown(path)).trim_start())
}

/// What a file holds; `named` is what it is called.
pub(super) fn parse(bytes: Vec<u8>, named: &str) -> Result<PolicyPlan, CliError> {
    let refused = |why: &str| CliError::Usage(format!("{named}: {why}"));
    if let Ok(digest) = <[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(PolicyPlan::of_digest(digest));
    }
    if bytes.len() as u64 > MAX_LEN {
        return Err(refused("it is longer than 65536 bytes, so it is no policy"));
    }
    let text = String::from_utf8(bytes).map_err(|_| refused("it is neither text (UTF-8) nor a digest of 32 bytes"))?;
    if text.trim_start().starts_with("-----BEGIN ") {
        return Err(refused(
            "it is PEM, and a policy (JSON, TSS policy language; `policy create` writes it) or a digest of 32 bytes is wanted",
        ));
    }
    PolicyPlan::from_json(&text).map_err(|e| refused(&e.to_string()))
}

/// One byte more than any policy takes at most: what is longer is refused, not cut off.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, CliError> {
    let file = File::open(path).map_err(|e| CliError::io("open", path, &e))?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|e| CliError::io("read", path, &e))?;
    Ok(bytes)
}
