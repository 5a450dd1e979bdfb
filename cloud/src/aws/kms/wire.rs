//! What goes over the wire (AWS JSON 1.1 protocol), and what a refusal means.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::super::hints;
use crate::Answer;
use crate::http::one_line;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ciphertext_blob: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) encryption_context: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encryption_algorithm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recipient: Option<Recipient<'a>>,
}

static NO_CONTEXT: BTreeMap<String, String> = BTreeMap::new();

impl Default for Body<'_> {
    fn default() -> Self {
        Self {
            key_id: None,
            plaintext: None,
            ciphertext_blob: None,
            encryption_context: &NO_CONTEXT,
            encryption_algorithm: None,
            recipient: None,
        }
    }
}

impl Body<'_> {
    /// More than it takes: a character of the context is at most six in JSON.
    pub(super) fn capacity(&self) -> usize {
        let texts = [self.key_id, self.plaintext, self.ciphertext_blob, self.encryption_algorithm].into_iter().flatten().map(str::len);
        let context = self.encryption_context.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6);
        let document = self.recipient.as_ref().map(|recipient| recipient.attestation_document.len());
        512 + texts.chain(context).chain(document).sum::<usize>()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Recipient<'a> {
    pub(super) attestation_document: &'a str,
    pub(super) key_encryption_algorithm: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Fields {
    pub(super) key_id: Option<String>,
    pub(super) plaintext: Option<Zeroizing<String>>,
    pub(super) ciphertext_blob: Option<Zeroizing<String>>,
    pub(super) ciphertext_for_recipient: Option<Zeroizing<String>>,
}

/// Of what the answer was read from, as far as it is ours alone.
pub(super) fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
}

/// Code and message of an error (AWS JSON 1.1 protocol, "Operation error serialization").
pub(super) fn refusal(answer: &Answer) -> (String, String) {
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "__type")]
        kind: Option<String>,
        #[serde(alias = "Message", default)]
        message: Option<String>,
    }
    let field = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let error = serde_json::from_slice::<Error>(&answer.body).ok();
    let (kind, message) = error.map_or((None, None), |error| (error.kind, error.message));
    match field.or(kind) {
        // `namespace#code:where it is explained`
        Some(kind) => {
            let code = kind.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default().to_owned();
            (one_line(&code), one_line(&message.unwrap_or_default()))
        }
        // What is no refusal may hold secrets.
        None if !answer.status.is_client_error() => (answer.status.to_string(), "that is neither an answer nor a refusal".into()),
        None => (answer.status.to_string(), one_line(&String::from_utf8_lossy(&answer.body))),
    }
}

/// What to do, where that is known (Decrypt, "Errors").
pub(super) fn hint(operation: &str, code: &str, message: &str, is_attested: bool) -> Option<String> {
    let hint = match code {
        "AccessDenied" | "AccessDeniedException" if is_attested => {
            "Either the registers in the attestation document are not those of the key policy's conditions (kms:RecipientAttestation:NitroTPMPCR4 and the like; \
             `nitro show` tells what the document says), or the caller has no kms:Decrypt in the key's policy and its own"
        }
        // Whoever encrypts proves nothing of a machine.
        "AccessDenied" | "AccessDeniedException" if operation != "Decrypt" => {
            "The caller has not this right (kms:Encrypt) in the key's policy and its own"
        }
        "AccessDenied" | "AccessDeniedException" => {
            "The caller has not this right in the key's policy and its own; or the policy wants an attestation document (kms:RecipientAttestation:…): --recipient \
             sends one"
        }
        "InvalidCiphertextException" => {
            "The ciphertext is damaged or of another region's key, or it was encrypted with another context: --context is to be the same"
        }
        "IncorrectKeyException" => "The ciphertext was encrypted with another key than --key-id names",
        "NotFoundException" => "There is no such key in this region and account: --aws-region, or the whole ARN as --key-id",
        "DisabledException" => "The key is switched off: `aws kms enable-key` switches it on",
        "KMSInvalidStateException" => "The key is about to be deleted, or has no material: `aws kms describe-key` tells",
        "InvalidKeyUsageException" => "The key is for something else, or takes another --encryption-algorithm",
        "ValidationException" if is_attested => {
            "The attestation document may be too old (KMS takes it for some minutes), forged, or without an RSA key of 2048 bits or more: make a new one"
        }
        _ => return hints::of(code, message),
    };
    Some(hint.to_owned())
}
