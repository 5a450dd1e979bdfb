//! AWS Key Management Service (AWS KMS API Reference): Encrypt and Decrypt, and Decrypt for a recipient, whom an attestation document names and to whose key the
//! plaintext is encrypted before it leaves KMS.

mod wire;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use zeroize::Zeroizing;

use self::wire::{Body, Fields, Recipient, hint, refusal, wipe};
use super::endpoint::{dns_suffix, must_be_region, url_of};
use super::hints;
use super::request::sign_request;
use super::sigv4::{Scope, Signatory};
use crate::http::one_line;
use crate::key::MacKey;
use crate::{CloudError, Http};

/// What Encrypt takes at most, of a symmetric key (Encrypt, `Plaintext`).
pub const MAX_PLAINTEXT: usize = 4096;
/// What Decrypt takes at most (Decrypt, `CiphertextBlob`).
pub const MAX_CIPHERTEXT: usize = 6144;
/// What Decrypt takes of an attestation document at most (RecipientInfo, `AttestationDocument`).
pub const MAX_DOCUMENT: usize = 262_144;

/// A KMS, and the region that signatures are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsEndpoint {
    /// Its URL.
    pub url: Uri,
    /// Its region.
    pub region: String,
}

impl KmsEndpoint {
    /// That of a region; with `fips`, the one with FIPS 140 validated cryptography.
    ///
    /// # Errors
    /// When the region's name cannot be one.
    pub fn regional(region: &str, fips: bool) -> Result<Self, CloudError> {
        must_be_region(region)?;
        let service = if fips { "kms-fips" } else { "kms" };
        Self::at(&format!("https://{service}.{region}.{}/", dns_suffix(region)), region)
    }

    /// At this URL.
    ///
    /// # Errors
    /// When it is none.
    pub fn at(url: &str, region: &str) -> Result<Self, CloudError> {
        must_be_region(region)?;
        Ok(Self { url: url_of(url, "https://kms.eu-west-1.amazonaws.com")?, region: region.to_owned() })
    }
}

/// A KMS, and who asks it.
#[derive(Clone, Copy)]
pub struct Kms<'a> {
    /// How it is reached.
    pub http: &'a Http,
    /// Where it is.
    pub endpoint: &'a KmsEndpoint,
    /// Who asks.
    pub signatory: Signatory<'a>,
    /// `AWS4` and the secret access key.
    pub key: &'a dyn MacKey,
}

/// What a ciphertext is bound to, besides its key. It is no secret: KMS logs it.
pub type EncryptionContext = BTreeMap<String, String>;

/// The parameters of Encrypt.
#[derive(Clone, Copy)]
pub struct Encrypt<'a> {
    /// The key's id, its ARN, or its alias.
    pub key_id: &'a str,
    /// What is encrypted: 1 to 4096 bytes.
    pub plaintext: &'a [u8],
    /// What the ciphertext is bound to.
    pub context: &'a EncryptionContext,
    /// Such as `RSAES_OAEP_SHA_256`, where the key is not a symmetric one.
    pub algorithm: Option<&'a str>,
}

/// The parameters of Decrypt.
#[derive(Clone, Copy, Debug)]
pub struct Decrypt<'a> {
    /// What is decrypted.
    pub ciphertext: &'a [u8],
    /// The key that it must have been encrypted with. Where none is named, any key does that the caller may use, and so somebody else's, too.
    pub key_id: Option<&'a str>,
    /// What it was bound to.
    pub context: &'a EncryptionContext,
    /// As in [`Encrypt::algorithm`].
    pub algorithm: Option<&'a str>,
}

/// What KMS has encrypted.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// The ARN of the key.
    pub key_id: String,
}

/// What KMS has decrypted.
pub struct Decrypted {
    /// The plaintext.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The ARN of the key.
    pub key_id: String,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// What KMS has decrypted, and encrypted again for whom the attestation document names.
#[derive(Clone, Debug)]
pub struct ForRecipient {
    /// A CMS message (RFC 5652), EnvelopedData, in BER. Only the private key of the document's public key opens it. Nothing in it proves who made it: TLS does.
    pub cms: Vec<u8>,
    /// The ARN of the key.
    pub key_id: String,
}

impl Kms<'_> {
    /// Encrypts a few bytes.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn encrypt(&self, call: &Encrypt<'_>) -> Result<Encrypted, CloudError> {
        if call.plaintext.is_empty() || call.plaintext.len() > MAX_PLAINTEXT {
            return Err(CloudError::Usage(format!(
                "KMS encrypts 1 to {MAX_PLAINTEXT} bytes, not {}: encrypt larger things with a key of your own, and that with KMS",
                call.plaintext.len()
            )));
        }
        let plaintext = Zeroizing::new(BASE64_STANDARD.encode(call.plaintext));
        let body = Body {
            key_id: Some(call.key_id),
            plaintext: Some(&plaintext),
            encryption_context: call.context,
            encryption_algorithm: call.algorithm,
            ..Body::default()
        };
        let answer = self.call("Encrypt", &body, false).await?;
        let ciphertext = self.decoded(answer.ciphertext_blob, "a ciphertext")?.to_vec();
        Ok(Encrypted { ciphertext, key_id: self.key_id(answer.key_id, Some(call.key_id))? })
    }

    /// Decrypts: the plaintext is KMS's answer.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn decrypt(&self, call: &Decrypt<'_>) -> Result<Decrypted, CloudError> {
        let answer = self.ask_to_decrypt(call, None).await?;
        let plaintext = self.decoded(answer.plaintext, "a plaintext")?;
        Ok(Decrypted { plaintext, key_id: self.key_id(answer.key_id, call.key_id)? })
    }

    /// Decrypts for whom the attestation document names. A plaintext in the answer is wiped and refused: who sends that has not looked at the document.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn decrypt_for(&self, call: &Decrypt<'_>, document: &[u8]) -> Result<ForRecipient, CloudError> {
        if document.is_empty() || document.len() > MAX_DOCUMENT {
            return Err(CloudError::Usage(format!("an attestation document has 1 to {MAX_DOCUMENT} bytes, not {}", document.len())));
        }
        let answer = self.ask_to_decrypt(call, Some(document)).await?;
        if answer.plaintext.is_some_and(|plaintext| !plaintext.is_empty()) {
            return Err(self.wrong(
                "a message for the recipient",
                "it sent the plaintext as it is, which is wiped and not used: it knows nothing of attestation documents, and gives the secret to everybody who may \
                 decrypt"
                    .into(),
            ));
        }
        let cms = self.decoded(answer.ciphertext_for_recipient, "a message for the recipient")?.to_vec();
        Ok(ForRecipient { cms, key_id: self.key_id(answer.key_id, call.key_id)? })
    }

    async fn ask_to_decrypt(&self, call: &Decrypt<'_>, document: Option<&[u8]>) -> Result<Fields, CloudError> {
        if call.ciphertext.is_empty() || call.ciphertext.len() > MAX_CIPHERTEXT {
            return Err(CloudError::Usage(format!(
                "a ciphertext of KMS has 1 to {MAX_CIPHERTEXT} bytes, not {}: is it what KMS gave, and not base64?",
                call.ciphertext.len()
            )));
        }
        let (ciphertext, document) = (BASE64_STANDARD.encode(call.ciphertext), document.map(|document| BASE64_STANDARD.encode(document)));
        let body = Body {
            key_id: call.key_id,
            ciphertext_blob: Some(&ciphertext),
            encryption_context: call.context,
            encryption_algorithm: call.algorithm,
            recipient: document
                .as_deref()
                .map(|attestation_document| Recipient { attestation_document, key_encryption_algorithm: "RSAES_OAEP_SHA_256" }),
            ..Body::default()
        };
        self.call("Decrypt", &body, document.is_some()).await
    }

    async fn call(&self, operation: &str, body: &Body<'_>, is_attested: bool) -> Result<Fields, CloudError> {
        // With its final capacity at once: a Vec that grows leaves pieces of the plaintext behind.
        let mut text = Zeroizing::new(Vec::with_capacity(body.capacity()));
        serde_json::to_writer(&mut *text, body).map_err(|e| CloudError::Usage(e.to_string()))?;
        let body = Bytes::from_owner(text);
        let scope = Scope { region: self.endpoint.region.clone(), service: "kms".into() };
        let mut tries = self.http.tries("KMS");
        let mut is_corrected = false;
        loop {
            let request = Request::builder()
                .method(Method::POST)
                .uri(self.endpoint.url.clone())
                .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
                .header("x-amz-target", format!("TrentService.{operation}"))
                .body(body.clone())
                .map_err(|e| CloudError::Usage(e.to_string()))?;
            let request = sign_request(request, self.signatory, self.key, &scope, self.http.clock().now()).await?;
            let Some(mut answer) = tries.send(request).await? else { continue };
            if answer.status == StatusCode::OK {
                // What is wrong is told by its kind only: the answer holds secrets.
                let read = serde_json::from_slice(&answer.body);
                wipe(std::mem::take(&mut answer.body));
                return read.map_err(|_| self.wrong("JSON with what was asked for", "it is something else".into()));
            }
            let (code, message) = refusal(&answer);
            if hints::is_throttling(&code) {
                tries.wait(&answer).await?;
                continue;
            }
            // Dated by a clock that is off: once more, with the service's.
            if !is_corrected && hints::is_of_time(&code, &message) && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let hint = hint(operation, &code, &message, is_attested);
            return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint });
        }
    }

    fn decoded(&self, text: Option<Zeroizing<String>>, wanted: &'static str) -> Result<Zeroizing<Vec<u8>>, CloudError> {
        let text = text.unwrap_or_default();
        // With its final capacity at once, as above.
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let is_read = BASE64_STANDARD.decode_vec(text.as_bytes(), &mut bytes).is_ok();
        if is_read && !bytes.is_empty() { Ok(bytes) } else { Err(self.wrong(wanted, "there is none, or it is not base64".into())) }
    }

    /// The key that KMS has used, which is the one that was named. An alias is not looked up.
    fn key_id(&self, used: Option<String>, named: Option<&str>) -> Result<String, CloudError> {
        let used = used.map(|used| one_line(&used)).unwrap_or_default();
        let is_that = match named {
            Some(named) if named.starts_with("alias/") || named.contains(":alias/") => true,
            Some(named) if named.starts_with("arn:") => used == named,
            Some(named) => used.rsplit('/').next() == Some(named),
            None => true,
        };
        if is_that { Ok(used) } else { Err(self.wrong("what the key that was named has made", format!("it has used {used}"))) }
    }

    fn wrong(&self, wanted: &'static str, why: String) -> CloudError {
        CloudError::Answer { service: format!("KMS ({})", self.endpoint.url.host().unwrap_or_default()), wanted, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_the_endpoints_of_their_partition() {
        for (region, fips, url) in [
            ("eu-west-1", false, "https://kms.eu-west-1.amazonaws.com/"),
            ("us-gov-west-1", true, "https://kms-fips.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", false, "https://kms.cn-north-1.amazonaws.com.cn/"),
        ] {
            assert_eq!(KmsEndpoint::regional(region, fips).expect("an endpoint").url, url);
        }
        assert!(KmsEndpoint::regional("a@evil.test", false).is_err());
        assert!(KmsEndpoint::at("kms.eu-west-1.amazonaws.com", "eu-west-1").is_err());
    }
}
