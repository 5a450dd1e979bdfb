//! `rotate`: a profile's key gets a successor, all or nothing.
//!
//! In this order, so that whatever ends it, the profile's key works and the next run goes on where this one ended: the new key is in a file (`….unfinished`); the
//! server knows its secret; a connection with it is proven; the file has its name; the profile names it.

mod successor;
mod unfinished;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ekm_otp::KeyId;
use ekm_otp_client::{Client, Signer};
use ekm_otp_tpm::{KeyFile, KeyKind, KeySource, NewKey, Password, PolicyPlan, TpmHandle};
use zeroize::Zeroizing;

use self::successor::{Answer, Successor, give, successor};
use self::unfinished::Unfinished;
use super::arguments::{KeyRef, UseKeyArgs, read_key_file};
use super::credential::ConnectArgs;
use super::enroll::server::explained;
use super::error::CliError;
use super::key_file::pem;
use super::new_key::random_secret;
use super::output::note;
use super::password::{self, Asked};
use super::policy;
use super::profiles::{Editor, KeyChoice, Material, Opened, Resolved, first_origin, resolve_in};
use super::secret_file::PrivateFile;
use super::shown::shown;

#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    how: ConnectArgs,
    /// Give the new key the password in this file; - is standard input
    #[arg(long, value_name = "FILE", help_heading = "New key")]
    new_password_file: Option<PathBuf>,
    /// Bind the new key to registers (PCR), such as sha256:0,7, as they are now
    #[arg(long, value_name = "BANK:LIST", help_heading = "New key")]
    new_pcrs: Option<PolicyPlan>,
    /// Bind the new key to the policy in this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_pcrs", help_heading = "New key")]
    new_policy: Option<PathBuf>,
    /// Let the new key be used without what guards the old one
    #[arg(long, conflicts_with_all = ["new_password_file", "new_pcrs", "new_policy"], help_heading = "New key")]
    unguarded: bool,
    /// How long each phase may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Request")]
    timeout: u64,
}

/// What is rotated: a profile's preferred key.
struct Old {
    how: Resolved,
    profile: String,
    kid: KeyId,
    use_key: UseKeyArgs,
    /// The key's file.
    path: PathBuf,
    file: KeyFile,
}

pub(crate) async fn run(args: RotateArgs) -> Result<(), CliError> {
    // Held until the end: nobody else changes the profiles, or rotates one, meanwhile.
    let editor = Editor::open().await?;
    let old = Old::find(&editor, &args)?;
    let deadline = Duration::from_secs(args.timeout);
    // One way to the TPM for both keys: it has few places for what is loaded, and for sessions.
    let tpm = old.use_key.tpm.open_for_use()?.with_deadline(deadline);
    let source = old.use_key.file_source(old.file.clone(), &old.path, &tpm).await?.with_bus(old.how.bus);
    let client = old.client(&old.kid, Arc::new(tpm.load(source)), deadline)?;
    client.connected().await.map_err(|e| explained(&e, "nothing was changed"))?;
    let unfinished = Unfinished::beside(&old.path, &old.kid);

    if let Some(known) = successor(&client).await? {
        // Another run gave it, and did not come to its end; or somebody at the server did.
        let Some(path) = unfinished.found() else {
            return Err(CliError::Usage(format!(
                "{} has the successor {} already, and its key is not here: where somebody at the server made it, have a bundle of it (`key rotate --bundle-out`) and \
                 `enroll --replace`",
                old.kid, known.kid
            )));
        };
        note!("going on with what an earlier run began: {}", known.kid);
        drop(client);
        let password = old.new_password(&args)?;
        let key = tpm.load(KeySource::from(read_key_file(&path)?).with_password(password));
        old.prove(&known, Arc::new(key), deadline).await?;
        return old.switch(editor, &unfinished, &known, &args);
    }
    // What an earlier run made and the server never heard of.
    unfinished.discard()?;
    let (new, password) = old.new_key(&args).await?;
    let (known, key) = made(&old, &tpm, &client, new, password, &unfinished).await?;
    drop(client);
    old.prove(&known, key, deadline).await?;
    old.switch(editor, &unfinished, &known, &args)
}

/// Makes the new key, keeps it, and gives the server its secret.
async fn made(
    old: &Old,
    tpm: &TpmHandle,
    client: &Client,
    new: NewKey,
    password: Option<Password>,
    unfinished: &Unfinished,
) -> Result<(Successor, Arc<dyn Signer>), CliError> {
    let mut file = PrivateFile::create(unfinished.path())?;
    let secret = random_secret(tpm, new.parent).await?;
    let key = tpm.create_hmac_key(new, Zeroizing::new(secret.expose().to_vec())).await?;
    file.write(pem(&key)?.as_bytes())?;
    file.keep()?;
    let key: Arc<dyn Signer> = Arc::new(tpm.load(KeySource::from(key).with_password(password)));
    match give(client, &secret).await {
        Answer::Given(known) => Ok((known, key)),
        Answer::Refused(why) => {
            unfinished.discard()?;
            Err(why)
        }
        Answer::Unknown(why) => {
            note!(
                "it is not known whether the server has the new key of {}: the profile is as it was; run `rotate` again, which goes on from here",
                old.kid
            );
            Err(why)
        }
    }
}

impl Old {
    fn find(editor: &Editor, args: &RotateArgs) -> Result<Self, CliError> {
        let file = editor.as_read()?;
        // All of a profile's servers know its key by one registry.
        let origin = first_origin(&file, &args.how.who)?;
        let mut how = resolve_in(&file, &args.how, &origin)?;
        // A secret never travels where a recording could be opened some day.
        how.tls.require_post_quantum = true;
        let Some(profile) = how.profile.clone() else {
            return Err(CliError::Usage("no profile is named, and it is a profile whose key is rotated: `enroll` makes one".into()));
        };
        // The first of several: the one that is preferred.
        let choice = how.keys.first().cloned();
        let Some(KeyChoice { kid: Some(kid), material: Some(material), use_key }) = choice else {
            return Err(CliError::Usage(format!("the profile {profile} names no key")));
        };
        let path = match material {
            Material::Tpm(KeyRef::File(path)) => path,
            Material::Tpm(KeyRef::Handle(handle, _)) => {
                return Err(CliError::Usage(format!(
                    "the profile {profile} has its key at the handle 0x{handle:08x}: name the key's file in the profile, and rotate then"
                )));
            }
            Material::File { path, .. } => {
                return Err(CliError::Usage(format!(
                    "the profile {profile} has its secret in a file ({}): `ekm-otp-server key rotate` makes another, and where there is a TPM, `enroll` takes it in",
                    shown(&path)
                )));
            }
        };
        let file = read_key_file(&path)?;
        Ok(Self { how, profile, kid, use_key, path, file })
    }

    /// The new key's password: the given one, or the old one's where a file holds that.
    fn new_password(&self, args: &RotateArgs) -> Result<Option<Password>, CliError> {
        let asked = Asked { flag: "--new-password-file", variable: "TPM_KEY_NEW_AUTH", prompt: "Password for the new key" };
        let of_old = self.use_key.password_file.as_deref().filter(|_| !args.unguarded && self.file.may_need_password());
        password::given(asked, args.new_password_file.as_deref().or(of_old))
    }

    /// Guarded as the old one, or as it is said.
    async fn new_key(&self, args: &RotateArgs) -> Result<(NewKey, Option<Password>), CliError> {
        let password = self.new_password(args)?;
        let plan = match (&args.new_pcrs, &args.new_policy) {
            (Some(pcrs), _) => Some(pcrs.clone()),
            (None, Some(path)) => Some(policy::read(path)?),
            (None, None) => None,
        };
        let is_bound = !self.file.policy().is_empty() || self.file.describe().auth_policy.is_some();
        if is_bound && plan.is_none() && !args.unguarded {
            return Err(CliError::Usage(format!(
                "the old key is bound to {}: say with --new-pcrs or --new-policy what the new one is bound to, or --unguarded that it is to nothing",
                self.file.policy()
            )));
        }
        if self.file.may_need_password() && !is_bound && password.is_none() && !args.unguarded {
            return Err(CliError::Usage(
                "the old key has a password: give the new one its own with --new-password-file, or say --unguarded".into(),
            ));
        }
        let new = NewKey {
            parent: self.use_key.parent_template.unwrap_or(self.file.parent()),
            password: password.clone(),
            policy: plan,
            ..NewKey::new(KeyKind::HmacSha256)
        };
        Ok((new, password))
    }

    /// A client with one key alone.
    fn client(&self, kid: &KeyId, key: Arc<dyn Signer>, deadline: Duration) -> Result<Client, CliError> {
        let opened = Opened { keys: vec![(kid.clone(), key)], loaded_in: None };
        let builder = self.how.builder_with(&opened, deadline)?.response_deadline(deadline);
        builder.build().map_err(|e| CliError::Usage(e.to_string()))
    }

    /// A connection with the new key, which the server proves on its part.
    async fn prove(&self, known: &Successor, key: Arc<dyn Signer>, deadline: Duration) -> Result<(), CliError> {
        let client = self.client(&known.kid, key, deadline)?;
        let kept = format!("the new key {} is not in use, the profile is as it was: run `rotate` again", known.kid);
        client.connected().await.map_err(|e| explained(&e, &kept))
    }

    fn switch(&self, mut editor: Editor, unfinished: &Unfinished, known: &Successor, args: &RotateArgs) -> Result<(), CliError> {
        let path = unfinished.finish()?;
        let name = &self.profile;
        if self.how.keys.len() > 1 {
            editor.prefer_key(name, &known.kid, &path)?;
        } else {
            editor.set_key(name, &known.kid, &path)?;
            let file = args.new_password_file.as_deref().or(self.use_key.password_file.as_deref().filter(|_| !args.unguarded));
            if let Some(file) = file.filter(|file| *file != std::path::Path::new("-")) {
                editor.set_path(name, "password_file", file)?;
            }
        }
        editor.write()?;
        let until = known.old_until.as_deref().map_or_else(String::new, |until| format!(" until {until}"));
        note!("the profile {name} has the key {} now ({})", known.kid, shown(&path));
        note!("{} holds{until}, for programs that were started before; delete {} then", self.kid, shown(&self.path));
        Ok(())
    }
}
