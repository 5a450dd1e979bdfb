//! Signature Version 4 against Amazon's: its test suite, and its own implementation over random requests.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use ekm_otp_cloud::aws::{PathRules, SECRET_PREFIX, Scope, Signable, Signatory, UnsignedRequest, UnsignedUrl, sha256_hex};
use ekm_otp_cloud::{MacKey as _, SoftwareMac};
use proptest::prelude::*;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

/// The test suite lies in the sources of Amazon's crate.
fn suite() -> PathBuf {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "aws-sigv4").expect("aws-sigv4");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a folder").join("aws-signing-test-suite/v4")
}

fn day_key(secret: &str, input: &[u8]) -> Zeroizing<[u8; 32]> {
    let key = SoftwareMac::new(Zeroizing::new(format!("{SECRET_PREFIX}{secret}").into_bytes()));
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(key.mac(input)).expect("a MAC")
}

/// A request as the suite writes it: what is no URI, too.
#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let first = lines.next().expect("a request line");
        let (method, rest) = first.split_once(' ').expect("a method");
        let target = rest.strip_suffix(" HTTP/1.1").expect("a version");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match line.strip_prefix(' ') {
                Some(more) => headers.last_mut().expect("a field").1 += &format!(" {more}"),
                None => {
                    let (name, value) = line.split_once(':').expect("a field");
                    headers.push((name.into(), value.into()));
                }
            }
        }
        Self { method: method.into(), path: path.into(), query: query.into(), headers, body: body.into() }
    }

    fn signable(&self, rules: PathRules) -> Signable<'_> {
        Signable {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: self.headers.clone(),
            payload: sha256_hex(self.body.as_bytes()),
            rules,
        }
    }
}

#[test]
fn the_signing_test_suite_of_aws_passes() {
    let mut passed = 0;
    for entry in std::fs::read_dir(suite()).expect("the suite") {
        let folder = entry.expect("an entry").path();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).map(|text| text.replace("\r\n", "\n"));
        // Two have no context: nothing says with which secret they are signed.
        let Ok(context) = read("context.json") else { continue };
        let context: Value = serde_json::from_str(&context).expect("JSON");
        let text = |name: &str| context[name].as_str().expect("a text").to_owned();
        let request = Request::parse(&read("request.txt").expect("a request"));
        // The suite encodes paths once: those that are encoded already not again.
        let is_encoded_again = !request.path.contains('%');
        let mut signable = request.signable(PathRules { is_normalized: context["normalize"] == true, is_encoded_again });
        if context["sign_body"] == true {
            signable.headers.push(("x-amz-content-sha256".into(), signable.payload.clone()));
        }
        let credentials = &context["credentials"];
        let token = credentials["token"].as_str().filter(|_| context["omit_session_token"] != true);
        let signatory = Signatory { access_key_id: credentials["access_key_id"].as_str().expect("an id"), session_token: token };
        let secret = credentials["secret_access_key"].as_str().expect("a secret");
        let scope = Scope { region: text("region"), service: text("service") };
        let now = SystemTime::from(OffsetDateTime::parse(&text("timestamp"), &Rfc3339).expect("a time"));
        let name = folder.file_name().expect("a name").display().to_string();

        let unsigned = UnsignedRequest::new(signable.clone(), signatory, scope.clone(), now);
        assert_eq!(unsigned.canonical_request(), read("header-canonical-request.txt").expect("expected").trim_end(), "{name}");
        let key = day_key(secret, unsigned.mac_input());
        let authorization = unsigned.finish(key).into_iter().find(|(name, _)| *name == "authorization").expect("a signature").1;
        let expected = read("header-signature.txt").expect("expected");
        assert!(authorization.ends_with(&format!("Signature={}", expected.trim())), "{name}: {}", *authorization);
        let signed = read("header-signed-request.txt").expect("expected");
        assert!(signed.contains(authorization.as_str()), "{name}");

        let lasts = Duration::from_secs(context["expiration_in_seconds"].as_u64().expect("a number"));
        signable.headers.retain(|(name, _)| name != "x-amz-content-sha256");
        let url = UnsignedUrl::new(&signable, signatory, scope, now, lasts);
        assert_eq!(url.canonical_request(), read("query-canonical-request.txt").expect("expected").trim_end(), "{name}: presigned");
        let key = day_key(secret, url.mac_input());
        let expected = read("query-signature.txt").expect("expected");
        assert!(url.finish(key).ends_with(&format!("X-Amz-Signature={}", expected.trim())), "{name}: presigned");
        passed += 1;
    }
    assert_eq!(passed, 38, "of 40, two of which lack what it takes");
}

/// What Amazon's crate comes to.
fn theirs(request: &Request, token: Option<&str>, service: &str, now: SystemTime, lasts: Option<Duration>) -> Vec<(String, String)> {
    let credentials = aws_credential_types::Credentials::new("AKIDEXAMPLE", "not a secret", token.map(str::to_owned), None, "test");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.session_token_mode = SessionTokenMode::Include;
    settings.excluded_headers = None;
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    if let Some(lasts) = lasts {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(lasts);
    }
    let params = v4::SigningParams::builder().identity(&identity).region("eu-west-3").name(service).time(now).settings(settings).build();
    let uri = format!("https://example.test{}?{}", request.path, request.query);
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body =
        if lasts.is_some() && service == "s3" { SignableBody::UnsignedPayload } else { SignableBody::Bytes(request.body.as_bytes()) };
    let signable = SignableRequest::new(&request.method, uri, headers, body).expect("a request");
    let (instructions, _) = sign(signable, &params.expect("parameters").into()).expect("a signature").into_parts();
    let headers = instructions.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    headers.chain(instructions.params().iter().map(|(name, value)| ((*name).to_owned(), value.to_string()))).collect()
}

prop_compose! {
    fn requests()(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD"]),
        segments in prop::collection::vec("([A-Za-z0-9_.~!$&'()*+,;=:@-]|%[2-7][0-9A-F]){0,12}|\\.|\\.\\.", 0..6),
        pairs in prop::collection::vec("([A-Za-z0-9_.~!$'()*,;:@/?+-]|%[2-7][0-9A-F]){1,10}(=([A-Za-z0-9_.~!$'()*,;:@/?+=-]|%[2-7][0-9A-F]){0,12})?", 0..6),
        headers in prop::collection::vec(("[xX]-[a-zA-Z0-9-]{1,12}", "[ -~]{0,30}"), 0..5),
        body in "[ -~]{0,200}",
    ) -> Request {
        let mut headers = headers;
        headers.push(("Host".into(), "example.test".into()));
        Request { method: method.into(), path: format!("/{}", segments.join("/")), query: pairs.join("&"), headers, body }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_random_request_is_signed_as_amazons_own_crate_signs_it(
        request in requests(),
        seconds in 0..4_000_000_000_u64,
        service in prop::sample::select(vec!["sts", "s3", "execute-api"]),
        token in prop::option::of("[A-Za-z0-9+/=]{20,60}"),
        lasts in 1..=604_800_u64,
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let scope = Scope { region: "eu-west-3".into(), service: service.into() };
        let signatory = Signatory { access_key_id: "AKIDEXAMPLE", session_token: token.as_deref() };

        let unsigned = UnsignedRequest::new(request.signable(scope.path_rules()), signatory, scope.clone(), now);
        let key = day_key("not a secret", unsigned.mac_input());
        let mut ours: Vec<_> = unsigned.finish(key).into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
        let mut expected = theirs(&request, token.as_deref(), service, now, None);
        ours.sort();
        expected.sort();
        prop_assert_eq!(ours, expected);

        let lasts = Duration::from_secs(lasts);
        let mut signable = request.signable(scope.path_rules());
        signable.payload = UnsignedUrl::payload(service, signable.payload);
        let url = UnsignedUrl::new(&signable, signatory, scope, now, lasts);
        let key = day_key("not a secret", url.mac_input());
        let ours = url.finish(key);
        let expected = theirs(&request, token.as_deref(), service, now, Some(lasts));
        let signature = &expected.iter().find(|(name, _)| name == "X-Amz-Signature").expect("a signature").1;
        prop_assert!(ours.ends_with(&format!("X-Amz-Signature={signature}")), "{}", *ours);
    }
}
