//! `nitro …`: attestation documents of AWS NitroTPM (and of Nitro Enclaves): what a machine has booted, said by AWS.

mod attest;
mod image_pcrs;
mod kms_policy;
mod pcr;
mod show;
mod verify;

use clap::Subcommand;

use super::error::CliError;

#[cfg(feature = "cloud")]
pub(crate) use attest::document as attested;

#[derive(Debug, Subcommand)]
pub(crate) enum NitroCommand {
    /// Have this EC2 instance's NitroTPM attest what it booted (COSE_Sign1, in CBOR).
    #[command(
        after_help = "Examples:\n  ekm-otp-client nitro attest --nonce 6d796e6f6e6365 --out document.cbor\n  ekm-otp-client nitro attest --public-key recipient.pem \\\n      --tcti device:/dev/tpmrm0 > document.cbor"
    )]
    Attest(Box<attest::AttestArgs>),
    /// Show what a document claims, without a look at who has signed it.
    #[command(after_help = "Examples:\n  ekm-otp-client nitro show document.cbor\n  ekm-otp-client nitro show --json < document.b64")]
    Show(Box<show::ShowArgs>),
    /// Verify a document: signed by AWS, unchanged, valid at the time, and with the nonce, keys and registers that are expected.
    #[command(
        after_help = "Examples:\n  ekm-otp-client nitro verify document.cbor --nonce 6d796e6f6e6365 \\\n      --states states.json --public-key key.pub\n  ekm-otp-client nitro verify document.cbor --nonce nonce.bin --max-age 5m \\\n      --pcr 4=\"$PCR4\" --pcr 7=\"$PCR7\"\n  ekm-otp-client nitro verify old.cbor --at 2026-02-03T10:12:02Z"
    )]
    Verify(Box<verify::VerifyArgs>),
    /// Print the statement of a KMS key policy that lets only a machine with these registers decrypt.
    #[command(
        after_help = "Examples:\n  ekm-otp-client nitro kms-policy --image pcr_measurements.json \\\n      --principal arn:aws:iam::111122223333:role/data-processing\n  ekm-otp-client nitro kms-policy --image pcr_measurements.json --condition"
    )]
    KmsPolicy(Box<kms_policy::KmsPolicyArgs>),
    /// Read the registers that an image will have, as nitro-tpm-pcr-compute has written them when it was built.
    #[command(
        after_help = "Examples:\n  ekm-otp-client nitro image-pcrs pcr_measurements.json\n  ekm-otp-client nitro image-pcrs pcr_measurements.json \\\n      --state release-41 > states.json"
    )]
    ImagePcrs(Box<image_pcrs::ImagePcrsArgs>),
}

pub(crate) async fn run(command: NitroCommand) -> Result<(), CliError> {
    match command {
        NitroCommand::Attest(args) => attest::attest(*args).await,
        NitroCommand::Show(args) => show::run(*args).await,
        NitroCommand::Verify(args) => verify::run(*args).await,
        NitroCommand::KmsPolicy(args) => kms_policy::run(*args).await,
        NitroCommand::ImagePcrs(args) => image_pcrs::run(*args).await,
    }
}
