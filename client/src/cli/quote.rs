//! `quote …`: what a TPM says of its registers, signed.

mod told;
mod verify;

use clap::Subcommand;

use super::error::CliError;

#[derive(Debug, Subcommand)]
pub(crate) enum QuoteCommand {
    /// Verify a quote: signed by the attestation key, with the nonce and the registers that are expected.
    #[command(
        after_help = "Examples:\n  ekm-otp-client quote verify --message quote.msg --signature quote.sig \\\n      --values quote.pcrs --ak ak.pub --nonce 6d796e6f6e6365\n  ekm-otp-client quote verify --message quote.msg --signature quote.sig \\\n      --values quote.pcrs --certificates ak-chain.pem --root google-cloud \\\n      --nonce nonce.bin --pcr sha256:7=a11c5239a222bb78\n  ekm-otp-client quote verify --evidence quote.json --root google-cloud"
    )]
    Verify(Box<verify::VerifyArgs>),
}

pub(crate) async fn run(command: QuoteCommand) -> Result<(), CliError> {
    match command {
        QuoteCommand::Verify(args) => verify::run(*args).await,
    }
}
