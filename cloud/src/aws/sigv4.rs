//! Signature Version 4: one HMAC over the day's date by whoever holds the secret, three more and the signature in this process ("Create a signed
//! AWS API request", AWS IAM User Guide).

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::canonical::{AmzDate, PathRules, Signable, UNSIGNED_PAYLOAD, canonical_query, hex, is_s3};
use crate::form::pairs;

/// What stands before a secret access key where it is used as an HMAC key.
pub const SECRET_PREFIX: &str = "AWS4";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What a presigned URL may last at most: a week.
pub const MAX_PRESIGNED: Duration = Duration::from_secs(7 * 24 * 3600);

/// For whom a signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Such as `us-east-1`.
    pub region: String,
    /// Such as `sts`.
    pub service: String,
}

/// Whose a signature is.
#[derive(Clone, Copy)]
pub struct Signatory<'a> {
    /// The access key id.
    pub access_key_id: &'a str,
    /// The session's token, where the secret is that of a session.
    pub session_token: Option<&'a str>,
}

/// A request that lacks its signature. [`mac_input`](Self::mac_input) says what the secret's holder is to MAC; [`finish`](Self::finish) makes the signature
/// from that.
#[derive(Clone)]
pub struct UnsignedRequest {
    string_to_sign: String,
    canonical: String,
    date: AmzDate,
    scope: Scope,
    credential: String,
    signed_headers: String,
    /// What is added to the request's fields, but for `Authorization`.
    added: Vec<(&'static str, String)>,
}

impl UnsignedRequest {
    /// A request that carries its signature in `Authorization`. Fields are signed as they are in `request`; `X-Amz-Date`, and where they are wanted
    /// `X-Amz-Security-Token` and `X-Amz-Content-SHA256`, are added.
    #[must_use]
    pub fn new(mut request: Signable<'_>, signatory: Signatory<'_>, scope: Scope, now: SystemTime) -> Self {
        let date = AmzDate::new(now);
        let mut added = vec![("x-amz-date", date.as_str().to_owned())];
        added.extend(signatory.session_token.map(|token| ("x-amz-security-token", token.to_owned())));
        if is_s3(&scope.service) {
            added.push(("x-amz-content-sha256", request.payload.clone()));
        }
        request.headers.retain(|(name, _)| !added.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        request.headers.extend(added.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let canonical = request.canonical();
        let string_to_sign = canonical.string_to_sign(ALGORITHM, &date, &scope.with(&date));
        let credential = format!("{}/{}", signatory.access_key_id, scope.with(&date));
        Self { string_to_sign, canonical: canonical.text, date, scope, credential, signed_headers: canonical.signed_headers, added }
    }

    /// What the secret's holder is to MAC, with `AWS4` and the secret access key as the HMAC key: the date of the day. The result is good for
    /// that day, all regions and all services, so it is wiped as soon as it is used.
    #[must_use]
    pub fn mac_input(&self) -> &[u8] {
        self.date.day().as_bytes()
    }

    /// The fields to add to the request.
    #[must_use]
    pub fn finish(self, day_key: Zeroizing<[u8; 32]>) -> Vec<(&'static str, Zeroizing<String>)> {
        let signature = signature(&day_key, &self.scope, &self.string_to_sign);
        let authorization =
            format!("{ALGORITHM} Credential={}, SignedHeaders={}, Signature={signature}", self.credential, self.signed_headers);
        let added = self.added.into_iter().map(|(name, value)| (name, Zeroizing::new(value)));
        added.chain([("authorization", Zeroizing::new(authorization))]).collect()
    }

    /// The canonical request, for whoever looks for the reason of a refusal. It holds the session's token.
    #[must_use]
    pub fn canonical_request(&self) -> &str {
        &self.canonical
    }
}

/// A URL that lacks its signature: whoever gets it may make the request until it ends.
#[derive(Clone)]
pub struct UnsignedUrl {
    string_to_sign: String,
    canonical: String,
    date: AmzDate,
    scope: Scope,
    query: Vec<(String, String)>,
}

impl UnsignedUrl {
    /// Good for `lasts` (1 second to [`MAX_PRESIGNED`]) from `now` on. The body is signed as `request` tells.
    #[must_use]
    pub fn new(request: &Signable<'_>, signatory: Signatory<'_>, scope: Scope, now: SystemTime, lasts: Duration) -> Self {
        let date = AmzDate::new(now);
        let names: Vec<_> = request.canonical().signed_headers.split(';').map(str::to_owned).collect();
        let mut query = pairs(request.query);
        let own = [
            ("X-Amz-Algorithm", ALGORITHM.to_owned()),
            ("X-Amz-Credential", format!("{}/{}", signatory.access_key_id, scope.with(&date))),
            ("X-Amz-Date", date.as_str().to_owned()),
            ("X-Amz-Expires", lasts.as_secs().to_string()),
            ("X-Amz-SignedHeaders", names.join(";")),
        ];
        let token = signatory.session_token.map(|token| ("X-Amz-Security-Token", token.to_owned()));
        query.extend(own.into_iter().chain(token).map(|(name, value)| (name.to_owned(), value)));
        let text = canonical_query(&query);
        let canonical = Signable { query: &text, ..request.clone() }.canonical();
        let string_to_sign = canonical.string_to_sign(ALGORITHM, &date, &scope.with(&date));
        Self { string_to_sign, canonical: canonical.text, date, scope, query }
    }

    /// As [`UnsignedRequest::mac_input`].
    #[must_use]
    pub fn mac_input(&self) -> &[u8] {
        self.date.day().as_bytes()
    }

    /// The query of the URL.
    #[must_use]
    pub fn finish(self, day_key: Zeroizing<[u8; 32]>) -> Zeroizing<String> {
        let signature = signature(&day_key, &self.scope, &self.string_to_sign);
        Zeroizing::new(format!("{}&X-Amz-Signature={signature}", canonical_query(&self.query)))
    }

    /// As [`UnsignedRequest::canonical_request`].
    #[must_use]
    pub fn canonical_request(&self) -> &str {
        &self.canonical
    }

    /// What stands for the body's hash: S3 lets whoever has the URL choose the body.
    #[must_use]
    pub fn payload(service: &str, body_sha256: String) -> String {
        if is_s3(service) { UNSIGNED_PAYLOAD.to_owned() } else { body_sha256 }
    }
}

impl Scope {
    fn with(&self, date: &AmzDate) -> String {
        format!("{}/{}/{}/aws4_request", date.day(), self.region, self.service)
    }

    /// How the service reads paths.
    #[must_use]
    pub fn path_rules(&self) -> PathRules {
        PathRules::of(&self.service)
    }
}

/// kRegion, kService, kSigning, and the signature.
fn signature(day_key: &[u8; 32], scope: &Scope, string_to_sign: &str) -> String {
    let region = mac(day_key, scope.region.as_bytes());
    let service = mac(&region, scope.service.as_bytes());
    let signing = mac(&service, b"aws4_request");
    hex(&*mac(&signing, string_to_sign.as_bytes()))
}

fn mac(key: &[u8; 32], input: &[u8]) -> Zeroizing<[u8; 32]> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    Zeroizing::new(mac.chain_update(input).finalize().into_bytes().into())
}
