//! `key inspect`, `key passwd`: key files that exist.

use std::path::PathBuf;

use clap::Args;
use ekm_otp_tpm::{KeyFile, KeySource, Parent, Password, TpmError};

use super::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref, parent_template, under};
use super::error::CliError;
use super::output::{self, note};
use super::password::{self, Asked};
use super::sealed_file;
use super::secret_file::PrivateFile;
use super::shown::printable;

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The key: a file (TSS2 PEM), or handle:0x81…
    #[arg(value_name = "KEY", value_parser = key_ref, required_unless_present = "named")]
    key: Option<KeyRef>,
    /// The same, as the other commands have it
    #[arg(long = "key", visible_alias = "key-file", value_name = "KEY", value_parser = key_ref, conflicts_with = "key")]
    named: Option<KeyRef>,
    /// The primary of the owner hierarchy that it lies under, where it is the one that tpm2_createprimary makes
    #[arg(long, value_name = "TEMPLATE", value_parser = parent_template())]
    parent_template: Option<Parent>,
    #[command(flatten)]
    tpm: TpmArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PasswdArgs {
    /// The key (TSS2 PEM)
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    key: PathBuf,
    /// Write the key with its new password to this new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the new password; - is standard input [or: $TPM_KEY_NEW_AUTH, $SSH_ASKPASS, a prompt]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Take the password away. Guessing stays counted: that is a part of the key
    #[arg(long, conflicts_with = "new_password_file")]
    remove: bool,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

pub(crate) async fn inspect(args: InspectArgs) -> Result<(), CliError> {
    let key = match args.named.as_ref().or(args.key.as_ref()).ok_or_else(|| CliError::Usage("KEY is missing".into()))? {
        KeyRef::File(path) => under(sealed_file::read(path)?.0, args.parent_template, path)?,
        KeyRef::Handle(handle, known) => {
            let key = args.tpm.open()?.load(known.at(*handle));
            return output::line(&key.prepare().await?.to_string());
        }
    };
    let mut told = vec![
        key.describe().to_string(),
        format!("policy:      {}", key.policy()),
        format!(
            "password:    {}",
            if key.policy().needs_password() {
                "yes"
            } else if key.may_need_password() {
                "yes, or the file does not tell"
            } else {
                "none"
            }
        ),
        match key.parent() {
            Parent::H2Primary => "parent:      H-2 primary of the owner hierarchy".to_owned(),
            Parent::EndorsementKey(_) => "parent:      endorsement key, RSA unless --parent-template says ek-ecc".to_owned(),
            Parent::ToolsPrimary(_) => "parent:      primary of the owner hierarchy that --parent-template names".to_owned(),
            Parent::Persistent(handle) => format!("parent:      persistent handle 0x{handle:08x}"),
        },
    ];
    told.extend(key.description().map(|description| format!("description: {}", printable(description))));
    let is_fixed = key.describe().attributes.contains(&"fixedtpm");
    told.push(format!("movable:     {}", if is_fixed { "no" } else { "to another TPM, by whoever may use it" }));
    told.push("This file is no secret: its private part is encrypted to its TPM.".to_owned());
    told.push(match args.tpm.open()?.load(key).prepare().await {
        Ok(_) => "this TPM:    loads it".to_owned(),
        Err(e @ (TpmError::Unreachable { .. } | TpmError::NotPermitted { .. })) => format!("this TPM:    not looked at: {e}"),
        Err(e) => format!("this TPM:    does not load it: {e}"),
    });
    output::line(&told.join("\n"))
}

pub(crate) async fn passwd(args: PasswdArgs) -> Result<(), CliError> {
    let tpm = args.use_key.tpm.open()?;
    let source = args.use_key.source(&KeyRef::File(args.key.clone()), &tpm).await?;
    let asked = Asked { flag: "--new-password-file", variable: "TPM_KEY_NEW_AUTH", prompt: "New password for the key" };
    let new: Option<Password> = if args.remove { None } else { Some(password::required(asked, args.new_password_file.as_deref()).await?) };
    let KeySource::File { file: old, .. } = &source else { return Err(CliError::Usage("--key must be a file".into())) };
    if new.is_some() && old.describe().attributes.contains(&"noda") {
        note!("ekm-otp-client: warning: this key was made without a password, so wrong ones are not counted: make it anew for that");
    }
    let mut out = PrivateFile::create(&args.out)?;
    let key = tpm.load(source).change_password(new).await?;
    out.write(pem(&key)?.as_bytes())?;
    out.keep()?;
    let how = if args.remove { "without a password" } else { "with its new password" };
    note!("wrote the key {how} to {}. The old file goes on working with the old one: delete it", args.out.display());
    Ok(())
}

pub(crate) fn pem(key: &KeyFile) -> Result<String, CliError> {
    key.to_pem().map_err(|e| CliError::Other(e.to_string()))
}
