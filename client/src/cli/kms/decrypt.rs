//! `kms decrypt`: only the plaintext leaves, and where to is chosen before there is any.

use std::path::PathBuf;

use clap::Args;
use ekm_otp_cloud::aws::{Decrypt, MAX_CIPHERTEXT};
use zeroize::Zeroizing;

use super::super::aws::CallerArgs;
use super::super::error::CliError;
use super::super::opener;
use super::super::output;
use super::super::plaintext::{Ending, PlaintextArgs};
use super::asked::{Asked, CipherArgs};
use super::recipient::{Recipient, RecipientArgs};

#[derive(Args, Debug)]
pub(crate) struct DecryptArgs {
    /// The file with the ciphertext, as it is or in base64; - is standard input
    #[arg(long, visible_alias = "ciphertext-blob", value_name = "FILE")]
    ciphertext: PathBuf,
    /// The key in KMS that it must have been encrypted with: its ARN, its id, or alias/NAME. Without it any key does that you may use, and so a ciphertext that
    /// somebody else made
    #[arg(long, value_name = "KEY", help_heading = "Key in KMS")]
    key_id: Option<String>,
    #[command(flatten)]
    cipher: CipherArgs,
    #[command(flatten)]
    recipient: RecipientArgs,
    #[command(flatten)]
    output: PlaintextArgs,
    #[command(flatten)]
    caller: CallerArgs,
}

pub(super) async fn run(mut args: DecryptArgs) -> Result<Ending, CliError> {
    let is_for_another = args.recipient.is_for_another();
    if is_for_another && args.output.is_given() {
        return Err(CliError::Usage("what KMS answers is for the document's key: name that with --inkey, to have it opened".into()));
    }
    let outlet = if is_for_another { None } else { Some(args.output.open()?) };
    let context = args.cipher.context()?;
    let ciphertext = opener::read(&args.ciphertext, "a ciphertext of KMS", MAX_CIPHERTEXT).await?;
    let asked = Asked::open(&mut args.caller, args.key_id.as_deref()).await?;
    let algorithm = args.cipher.encryption_algorithm.as_deref();
    let call = Decrypt { ciphertext: &ciphertext, key_id: args.key_id.as_deref(), context: &context, algorithm };
    let recipient = args.recipient.open(args.caller.use_key()).await?;
    let answer = ask(&asked, &call, recipient.as_ref()).await;
    asked.caller.tell_skew();
    match (answer?, outlet) {
        (Answer::Plaintext(plaintext), Some(outlet)) => outlet.whole(plaintext).await,
        (Answer::Plaintext(_), None) => unreachable!("there is an outlet but for messages"),
        (Answer::Message(message), _) => output::result(&message).map(Ending::of),
    }
}

enum Answer {
    Plaintext(Zeroizing<Vec<u8>>),
    /// For a key that somebody else has: no secret.
    Message(Vec<u8>),
}

async fn ask(asked: &Asked, call: &Decrypt<'_>, recipient: Option<&Recipient>) -> Result<Answer, CliError> {
    let Some(recipient) = recipient else { return Ok(Answer::Plaintext(asked.kms().decrypt(call).await?.plaintext)) };
    let answer = asked.kms().decrypt_for(call, &recipient.document).await.map_err(|e| recipient.refused(e))?;
    match &recipient.opener {
        None => Ok(Answer::Message(answer.cms)),
        Some(opener) => opener.open(&answer.cms).await.map(Answer::Plaintext),
    }
}
