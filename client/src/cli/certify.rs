//! `key certify`

use std::path::PathBuf;

use clap::Args;
use ekm_otp_attestation::tpm::{PublicArea, Signature};
use ekm_otp_tpm::TpmError;

use super::arguments::{KeyRef, UseKeyArgs, key_ref, read_key_file, under};
use super::encoded::{HexOrFile, hex_or_file};
use super::error::CliError;
use super::quote::MAX_NONCE;
use super::secret_file::PrivateFile;
use super::shown::shown;

#[derive(Args, Debug)]
pub(crate) struct CertifyArgs {
    /// The key that is to be certified: a file (TSS2 PEM), without a password, under the same parent as the attestation key
    #[arg(long, value_name = "FILE")]
    object: PathBuf,
    /// The attestation key (`key create --kind ak`): a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    /// What whoever verifies it has chosen: at most 64 bytes, as hexadecimal digits, or a file
    #[arg(long, value_name = "HEX|FILE", value_parser = hex_or_file)]
    nonce: HexOrFile,
    /// Write what was signed (TPMS_ATTEST) to this new file
    #[arg(long, value_name = "FILE")]
    message_out: PathBuf,
    /// Write the signature (TPMT_SIGNATURE) to this new file
    #[arg(long, value_name = "FILE")]
    signature_out: PathBuf,
    #[command(flatten)]
    use_key: UseKeyArgs,
}

pub(super) async fn certify(args: CertifyArgs) -> Result<(), CliError> {
    let object = under(read_key_file(&args.object)?, args.use_key.parent_template, &args.object)?;
    // Its password is none of what is given here, and the TPM would count a try without it as a wrong one.
    if object.may_need_password() {
        return Err(CliError::Usage(format!(
            "--object {}: the key has a password, or its file does not say that it has none, and such a key is not certified here: certify it \
             before it gets its password (key passwd)",
            shown(&args.object)
        )));
    }
    let (mut message_out, mut signature_out) = (PrivateFile::create(&args.message_out)?, PrivateFile::create(&args.signature_out)?);
    let nonce = args.nonce.read(MAX_NONCE).await?;
    let tpm = args.use_key.tpm.open_for_use()?;
    let ak = tpm.load(args.use_key.source(&args.key, &tpm).await?);
    let name = object.describe().name;
    let certified = ak.certify(&tpm.load(object), &nonce).await?;
    // What the TPM says may come from somebody in between.
    let contradiction = || CliError::from(TpmError::Contradiction("the certified key"));
    let area = PublicArea::from_tpm2b(&ak.public_blob().await?).map_err(|_| contradiction())?;
    let signature = Signature::from_tpmt(&certified.signature).map_err(|_| contradiction())?;
    let names_it = certified.message.windows(name.len()).any(|window| window == name);
    if !names_it || !signature.is_right(area.key(), &certified.message) {
        return Err(contradiction());
    }
    message_out.write(&certified.message)?;
    signature_out.write(&certified.signature)?;
    PrivateFile::keep_both(message_out, signature_out).map(|_| ())
}
