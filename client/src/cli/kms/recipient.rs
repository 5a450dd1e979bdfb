//! Whom KMS encrypts the plaintext to: a key that the NitroTPM attests, together with what this machine has booted ("Cryptographic attestation for NitroTPM", AWS KMS Developer
//! Guide).

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ekm_otp_attestation::cms::SoftwareKey;
use ekm_otp_attestation::nitro::Document;
use ekm_otp_cloud::CloudError;
use ekm_otp_cloud::aws::MAX_DOCUMENT;
use ekm_otp_tpm::NitroRequest;

use super::super::arguments::{KeyRef, UseKeyArgs, key_ref};
use super::super::error::CliError;
use super::super::nitro::attested;
use super::super::opener::{self, Opener};

/// The registers that AWS's documents have key policies look at: boot loader and kernel, Secure Boot, the kernel's command line.
const SHOWN: [u8; 3] = [4, 7, 12];

#[derive(Args, Debug)]
#[command(next_help_heading = "Attestation")]
pub(super) struct RecipientArgs {
    /// Prove to KMS by the NitroTPM what this EC2 instance has booted, and have the plaintext encrypted to a key that nobody else has. The key's policy says which
    /// state it must be (`nitro kms-policy`)
    #[arg(long)]
    recipient: bool,
    /// Where that key is, as long as this command runs
    #[arg(long, value_enum, default_value_t, value_name = "WHERE", requires = "recipient")]
    recipient_key: Where,
    /// Instead, an attestation document that is there already, as it is or in base64. Without --inkey the message for its key goes to standard output: `cms decrypt`
    /// opens it
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    attestation_document: Option<PathBuf>,
    /// The private key of the document's public key: in the TPM (a file, TSS2 PEM, or handle:0x81008001), or in a file (PEM or DER)
    #[arg(long, value_name = "KEY", value_parser = key_ref, requires = "attestation_document")]
    inkey: Option<KeyRef>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Where {
    /// In the TPM, which it never leaves
    #[default]
    Tpm,
    /// In this process's memory: sooner made
    Memory,
}

/// A document, and what opens the answer to it.
pub(super) struct Recipient {
    /// As KMS gets it.
    pub(super) document: Vec<u8>,
    /// `None` where somebody else has the key.
    pub(super) opener: Option<Opener>,
}

impl RecipientArgs {
    /// Whether the answer is opened by somebody else.
    pub(super) fn is_for_another(&self) -> bool {
        self.attestation_document.is_some() && self.inkey.is_none()
    }

    /// `None` where KMS is to answer with the plaintext. A document is made last: KMS takes it for some minutes.
    pub(super) async fn open(&self, use_key: &UseKeyArgs) -> Result<Option<Recipient>, CliError> {
        if let Some(path) = &self.attestation_document {
            let document = opener::read(path, "an attestation document", MAX_DOCUMENT).await?;
            let opener = match &self.inkey {
                Some(key) => Some(Opener::named(key, use_key).await?),
                None => None,
            };
            return Ok(Some(Recipient { document, opener }));
        }
        if !self.recipient {
            return Ok(None);
        }
        let tpm = use_key.tpm.open()?;
        let (opener, public_key) = match self.recipient_key {
            Where::Tpm => {
                let key = tpm.ephemeral_rsa().await?;
                let public_key = key.public_der().to_vec();
                (Opener::Ephemeral(key), public_key)
            }
            Where::Memory => {
                let (key, public_key) = SoftwareKey::generate()?;
                (Opener::Software(key), public_key)
            }
        };
        let document = attested(&tpm, NitroRequest { public_key: Some(public_key), ..NitroRequest::default() }).await?;
        Ok(Some(Recipient { document, opener: Some(opener) }))
    }
}

impl Recipient {
    /// Why KMS refused. Where it is not for this machine's state, that is told.
    pub(super) fn refused(&self, error: CloudError) -> CliError {
        let is_denied = matches!(&error, CloudError::Refused { code, .. } if code.starts_with("AccessDenied"));
        let said = Document::decode(&self.document).ok().filter(|_| is_denied);
        let Some(said) = said else { return error.into() };
        let registers: Vec<_> = SHOWN.iter().filter_map(|number| Some((number, said.pcrs().get(number)?))).collect();
        let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let registers: Vec<_> = registers.into_iter().map(|(number, value)| format!("PCR{number} {}", hex(value))).collect();
        CliError::NotPermitted(format!("{error}. The document has {}", registers.join(", ")))
    }
}
