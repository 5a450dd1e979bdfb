//! `key …`: make, import, look at, use and guard keys in the TPM.

use clap::Subcommand;

use super::arguments::TpmArgs;
use super::certify::{self, CertifyArgs};
use super::create::{self, CreateArgs, ImportArgs};
use super::error::CliError;
use super::key_file::{self, InspectArgs, PasswdArgs};
use super::moving::{self, ConvertArgs, DuplicateArgs, EvictArgs, ParentArgs, PersistArgs};
use super::output;
use super::signing::{self, PublicArgs, SignArgs, VerifyArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key in the TPM. For HMAC, the kind that this protocol uses: a random secret of 32 bytes, handed out once for the server's
    /// registry.
    #[command(
        after_help = "Examples:\n  ekm-otp-client key create --kid client1 --out client1.pem \\\n      --secret-out client1.toml\n  ekm-otp-client key create --kid client2 --out client2.pem \\\n      --secret-out client2.toml --pcrs sha256:7 --ask-password\n  ekm-otp-client key create --kid release --kind p256 --out release.pem"
    )]
    Create(CreateArgs),
    /// Put a secret that the server has already, or a private RSA or ECC key, into the TPM.
    #[command(
        after_help = "Examples:\n  ekm-otp-client key import --kid client1 --out client1.pem \\\n      --secret-file secret.b64\n  ekm-otp-client key import --kid release --out release.pem \\\n      --pem release-private.pem"
    )]
    Import(ImportArgs),
    /// Show what a key file holds, and whether this TPM loads it.
    #[command(after_help = "Examples:\n  ekm-otp-client key inspect client1.pem\n  ekm-otp-client key inspect handle:0x81008001")]
    Inspect(InspectArgs),
    /// Set, change or remove a key's password. Writes a new key file; the old one goes on working with the old password: delete it.
    #[command(after_help = "Examples:\n  ekm-otp-client key passwd --key client1.pem --out guarded.pem")]
    Passwd(PasswdArgs),
    /// Print the public key of an RSA or ECC key (PEM).
    #[command(after_help = "Examples:\n  ekm-otp-client key public --key release.pem > release.pub")]
    Public(PublicArgs),
    /// Sign standard input with an RSA or ECC key; the signature goes to standard output.
    #[command(after_help = "Examples:\n  ekm-otp-client key sign --key release.pem \\\n      --scheme ecdsa < message > message.sig")]
    Sign(SignArgs),
    /// Verify a signature of standard input.
    #[command(
        after_help = "Examples:\n  ekm-otp-client key verify --key release.pem --scheme ecdsa \\\n      --signature message.sig < message"
    )]
    Verify(VerifyArgs),
    /// Have an attestation key sign that another key is in this TPM, and what it is (TPM2_Certify).
    #[command(
        after_help = "Examples:\n  ekm-otp-client key certify --object release.pem --key ak.pem \\\n      --nonce 8f3a --message-out certified --signature-out certified.sig\ndocs/tpm.md, section 11, says how both are verified."
    )]
    Certify(CertifyArgs),
    /// Keep a key in the TPM itself, at a persistent handle.
    #[command(after_help = "Examples:\n  ekm-otp-client key persist --key client1.pem --handle 0x81008001")]
    Persist(PersistArgs),
    /// Take the key at a persistent handle out of the TPM.
    #[command(visible_alias = "delete")]
    Evict(EvictArgs),
    /// List the keys at persistent handles: handle, kind, name, attributes. Others' too.
    List(TpmArgs),
    /// Write the public part of this TPM's storage key, for `key duplicate` on another machine.
    Parent(ParentArgs),
    /// Encrypt a movable key to another TPM's storage key.
    #[command(after_help = "Examples:\n  ekm-otp-client key duplicate --key movable.pem --to new-machine.pub \\\n      --out moving.pem")]
    Duplicate(DuplicateArgs),
    /// Convert between a key file (TSS2 PEM) and the two files of tpm2-tools.
    #[command(
        after_help = "Examples:\n  ekm-otp-client key convert --key client1.pem --public client1.pub \\\n      --private client1.priv\n  ekm-otp-client key convert --public theirs.pub --private theirs.priv \\\n      --out theirs.pem"
    )]
    Convert(ConvertArgs),
    /// Print the name of the TPM's endorsement key, for --session-key-name. Do so once, where nobody sits on the TPM's bus.
    EkName(TpmArgs),
}

pub(crate) async fn run(command: KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Create(args) => create::create(args).await,
        KeyCommand::Import(args) => create::import(args).await,
        KeyCommand::Inspect(args) => key_file::inspect(args).await,
        KeyCommand::Passwd(args) => key_file::passwd(args).await,
        KeyCommand::Public(args) => signing::public(args).await,
        KeyCommand::Sign(args) => signing::sign(args).await,
        KeyCommand::Verify(args) => signing::verify(args).await,
        KeyCommand::Certify(args) => certify::certify(args).await,
        KeyCommand::Persist(args) => moving::persist(args).await,
        KeyCommand::Evict(args) => moving::evict(args).await,
        KeyCommand::List(tpm) => moving::list(tpm).await,
        KeyCommand::Parent(args) => moving::parent(args).await,
        KeyCommand::Duplicate(args) => moving::duplicate(args).await,
        KeyCommand::Convert(args) => moving::convert(&args),
        KeyCommand::EkName(tpm) => output::line(&tpm.open()?.ek_name().await?),
    }
}
