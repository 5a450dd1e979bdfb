//! `quote …`: what a TPM says of its registers, signed.

mod create;
mod told;
mod verify;

pub(crate) use create::MAX_NONCE;

use clap::Subcommand;

use super::error::CliError;

#[derive(Debug, Subcommand)]
pub(crate) enum QuoteCommand {
    /// Have the TPM say what registers hold, signed by an attestation key (`key create --kind ak`).
    ///
    /// The JSON holds all that whoever verifies it needs, but for why the key is believed to be in a TPM. The three files are those of tpm2_quote -m, -s
    /// and -o, for tpm2_checkquote.
    #[command(
        after_help = "Examples:\n  ekm-otp-client quote create --key ak.pem --pcrs sha256:0-7 \\\n      --nonce 1f0e8c44a1d5 > quote.json\n  ekm-otp-client quote create --key ak.pem --pcrs sha256:0-7+sha1:16 \\\n      --nonce 1f0e8c44a1d5 --message-out quote.msg --signature-out quote.sig \\\n      --pcrs-out quote.pcrs"
    )]
    Create(Box<create::CreateArgs>),
    /// Verify a quote: signed by the attestation key, with the nonce and the registers that are expected.
    #[command(
        after_help = "Examples:\n  ekm-otp-client quote verify --message quote.msg --signature quote.sig \\\n      --values quote.pcrs --ak ak.pub --nonce 6d796e6f6e6365\n  ekm-otp-client quote verify --message quote.msg --signature quote.sig \\\n      --values quote.pcrs --certificates ak-chain.pem --root google-cloud \\\n      --nonce nonce.bin --pcr sha256:7=\"$PCR7\"\n  ekm-otp-client quote verify --evidence quote.json --root google-cloud"
    )]
    Verify(Box<verify::VerifyArgs>),
}

pub(crate) async fn run(command: QuoteCommand) -> Result<(), CliError> {
    match command {
        QuoteCommand::Create(args) => create::create(*args).await,
        QuoteCommand::Verify(args) => verify::run(*args).await,
    }
}
