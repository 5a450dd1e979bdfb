//! `quote create`

use std::path::PathBuf;

use clap::Args;
use ekm_otp_attestation::tpm::{Attest, AttestationKey, PcrValues, PublicArea, Quote, QuoteExpected, Signature, write_pcr_file};
use ekm_otp_tpm::{Parent, TpmError};
use openssl::bn::BigNumContext;
use openssl::ec::EcKey;
use openssl::nid::Nid;
use serde_json::{Map, Value, json};

use crate::cli::arguments::{KeyRef, TpmArgs, UseKeyArgs, key_ref, parent_template};
use crate::cli::encoded::{HexOrFile, hex_or_file};
use crate::cli::error::CliError;
use crate::cli::pcr::Selection;
use crate::cli::secret_file::PrivateFile;
use crate::cli::shown::hex;

/// TPM2B_DATA holds no more.
pub(crate) const MAX_NONCE: usize = 64;

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The attestation key: a file (TSS2 PEM), handle:0x81…, or handle:0x81…=NAME, with the name that `key list` shows
    #[arg(long, visible_alias = "key-file", value_name = "KEY", value_parser = key_ref)]
    key: KeyRef,
    /// The registers to speak of, such as sha256:0-7, or sha1:16+sha256:0-7
    #[arg(long, alias = "pcr", value_name = "SELECTION", value_parser = Selection::read)]
    pcrs: Selection,
    /// What whoever verifies it has chosen, so that no older quote will do: at most 64 bytes, as hexadecimal digits, or a file
    #[arg(long, value_name = "HEX|FILE", value_parser = hex_or_file)]
    nonce: HexOrFile,
    /// Write the JSON to this new file [default: standard output, where none of the other files is named]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write what was signed (TPMS_ATTEST) to this new file
    #[arg(long, value_name = "FILE")]
    message_out: Option<PathBuf>,
    /// Write the signature (TPMT_SIGNATURE) to this new file
    #[arg(long, value_name = "FILE")]
    signature_out: Option<PathBuf>,
    /// Write the registers' values, in tpm2-tools' form, to this new file
    #[arg(long, value_name = "FILE")]
    pcrs_out: Option<PathBuf>,
    /// File with the attestation key's password; - is standard input [or: $TPM_KEY_AUTH, $SSH_ASKPASS, a prompt]
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    password_file: Option<PathBuf>,
    /// File with the policy that the attestation key is bound to (JSON, TSS policy language), where its file does not say so
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    policy: Option<PathBuf>,
    /// The primary that the key lies under, where its file does not say so: the one that tpm2_createprimary makes (rsa, ecc), or the endorsement key (ek-rsa, ek-ecc)
    #[arg(long, value_name = "TEMPLATE", value_parser = parent_template(), help_heading = "Key")]
    parent_template: Option<Parent>,
    #[command(flatten)]
    tpm: TpmArgs,
}

pub(super) async fn create(args: CreateArgs) -> Result<(), CliError> {
    let use_key = UseKeyArgs {
        password_file: args.password_file,
        pcrs: None,
        policy: args.policy,
        parent_template: args.parent_template,
        tpm: args.tpm,
        password: None,
    };
    let file = |path: &Option<PathBuf>| path.as_deref().map(PrivateFile::create).transpose();
    // Before the TPM is asked.
    let outs = [file(&args.message_out)?, file(&args.signature_out)?, file(&args.pcrs_out)?];
    let wants_json = args.out.is_some() || outs.iter().all(Option::is_none);
    let json_out = if wants_json { Some(PrivateFile::create(args.out.as_deref().unwrap_or(std::path::Path::new("-")))?) } else { None };
    let nonce = args.nonce.read(MAX_NONCE).await?;
    let tpm = use_key.tpm.open_for_use()?;
    let ak = tpm.load(use_key.source(&args.key, &tpm).await?);
    let quote = ak.quote(&args.pcrs.0, &nonce).await?;
    let public = ak.public_blob().await?;

    let mut values = PcrValues::new();
    for (bank, register, value) in quote.values.iter().flat_map(|(bank, of)| of.iter().map(move |(n, value)| (bank, *n, value))) {
        let bank = bank.to_string().parse().map_err(CliError::Other)?;
        values.insert(bank, register, value);
    }
    let (message, signature) = (quote.attestation.message, quote.attestation.signature);
    let pcrs = proven(&message, &signature, &public, &nonce, values.clone())?;
    let json = evidence(&nonce, &values, &message, &signature, &public, &ak.public_der().await?)?;
    let texts = [message, signature, pcrs, format!("{json:#}\n").into_bytes()];
    let mut outs: Vec<PrivateFile> = outs
        .into_iter()
        .chain([json_out])
        .zip(texts)
        .filter_map(|(out, text)| {
            let mut out = out?;
            Some(out.write(&text).map(|()| out))
        })
        .collect::<Result<_, _>>()?;
    // All are on the disk before any gets its name.
    outs.drain(..).try_for_each(|out| out.keep().map(|_| ()))
}

/// It is verified here before anybody else does so: nothing that a TPM answers to this is authenticated but the quote itself. Returns the values in
/// tpm2-tools' form.
fn proven(message: &[u8], signature: &[u8], public: &[u8], nonce: &[u8], values: PcrValues) -> Result<Vec<u8>, CliError> {
    let contradiction = || CliError::from(TpmError::Contradiction("the quote"));
    let attest = Attest::read(message).map_err(|_| contradiction())?;
    let selected = attest.selected().clone();
    let signature = Signature::from_tpmt(signature).map_err(|_| contradiction())?;
    let area = PublicArea::from_tpm2b(public).map_err(|e| CliError::Usage(format!("--key: {e}")))?;
    let key = AttestationKey::from_area(&area).map_err(|e| CliError::Usage(format!("--key: {e}")))?;
    let expected = QuoteExpected::by(key).nonce(nonce).values(values.clone());
    Quote { attest, signature }.verify(&expected).map_err(|_| contradiction())?;
    write_pcr_file(&selected, &values).ok_or_else(contradiction)
}

/// All in one. For a key on P-256 in the form of the public project vaportpm, too.
fn evidence(nonce: &[u8], values: &PcrValues, message: &[u8], signature: &[u8], public: &[u8], spki: &[u8]) -> Result<Value, CliError> {
    let mut pcrs = Map::<String, Value>::new();
    for (bank, register, value) in values.iter() {
        pcrs.entry(bank.to_string()).or_insert_with(|| json!({}))[register.to_string()] = hex(value).into();
    }
    let mut evidence = json!({
        "nonce": hex(nonce), "pcrs": pcrs, "message": hex(message), "signature": hex(signature), "ak_public": hex(public), "ak_spki": hex(spki),
    });
    if let Some((x, y)) = point(spki).filter(|_| signature.starts_with(&[0x00, 0x18, 0x00, 0x0b])) {
        evidence["ak_pubkeys"] = json!({"ecc_p256": {"x": hex(&x), "y": hex(&y)}});
        evidence["attestation"] = json!({"tpm": {"ecc_p256": {"attest_data": hex(message), "signature": hex(&plain(signature)?)}}});
    }
    Ok(evidence)
}

/// The coordinates of a key on P-256.
fn point(spki: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = EcKey::public_key_from_der(spki).ok().filter(|key| key.group().curve_name() == Some(Nid::X9_62_PRIME256V1))?;
    let mut context = BigNumContext::new().ok()?;
    let (mut x, mut y) = (openssl::bn::BigNum::new().ok()?, openssl::bn::BigNum::new().ok()?);
    key.public_key().affine_coordinates(key.group(), &mut x, &mut y, &mut context).ok()?;
    Some((x.to_vec_padded(32).ok()?, y.to_vec_padded(32).ok()?))
}

/// r ‖ s of a TPMT_SIGNATURE: scheme, hash, and both as TPM2B, without leading zeros in some TPMs (TCG part 2, 11.3.2).
fn plain(signature: &[u8]) -> Result<Vec<u8>, CliError> {
    let part = |bytes: &[u8]| {
        let (size, rest) = bytes.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        Some(([&vec![0; 32_usize.checked_sub(part.len())?][..], part].concat(), rest.to_vec()))
    };
    let both = signature.get(4..).and_then(part).and_then(|(r, rest)| Some([r, part(&rest)?.0].concat()));
    both.ok_or_else(|| TpmError::Contradiction("the quote").into())
}
