//! Credentials that AWS gives to whatever runs on a machine or in a container: by the instance metadata service, version 2 ("Use the Instance Metadata Service", Amazon EC2
//! User Guide), and by the container credential provider (AWS SDKs and Tools Reference Guide). The other side of [`Metadata`](super::Metadata).

use bytes::Bytes;
use http::{HeaderName, Method, Request, StatusCode, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::access_key::AccessKey;
use crate::http::one_line;
use crate::{CloudError, Http};

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// A role's name has at most 64 characters, a token some more.
const MAX_WORD: usize = 1024;

/// What both answer with.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    code: Option<String>,
    message: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<Zeroizing<String>>,
    token: Option<Zeroizing<String>>,
}

/// Credentials of the role of this instance. `service` is the metadata service's URL, which AWS has at 169.254.169.254.
///
/// # Errors
/// As [`CloudError`] tells.
pub async fn instance_credentials(http: &Http, service: &str) -> Result<AccessKey, CloudError> {
    let name = "the instance metadata service";
    let service = service.trim_end_matches('/');
    let put = (Method::PUT, format!("{service}/latest/api/token"));
    let token = word(&ask(http, name, put, Some((TOKEN_TTL, "60"))).await?, name)?;
    let get = |path: &str| (Method::GET, format!("{service}{ROLES}{path}"));
    let role = match ask(http, name, get(""), Some((TOKEN, &token))).await {
        Err(CloudError::Refused { code, .. }) if code.starts_with("404") => {
            return Err(CloudError::Usage(
                "this instance has no role: give it one (an instance profile), or name other credentials".into(),
            ));
        }
        role => word(&role?, name)?,
    };
    if !role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@-_".contains(&b)) {
        return Err(wrong(name, "its role's name is none"));
    }
    read(&ask(http, name, get(&role), Some((TOKEN, &token))).await?, name)
}

/// Credentials of the role of this container, from the URL that its environment names, and with what it wants to be shown.
///
/// # Errors
/// As [`CloudError`] tells.
pub async fn container_credentials(http: &Http, url: &str, authorization: Option<&str>) -> Result<AccessKey, CloudError> {
    let name = "the container's credential provider";
    let field = authorization.map(|shown| (header::AUTHORIZATION, shown));
    read(&ask(http, name, (Method::GET, url.to_owned()), field).await?, name)
}

async fn ask(http: &Http, service: &str, (method, url): (Method, String), field: Option<(HeaderName, &str)>) -> Result<Bytes, CloudError> {
    let mut tries = http.tries(service);
    loop {
        let mut request = Request::builder().method(method.clone()).uri(&url);
        if method == Method::PUT {
            request = request.header(header::CONTENT_LENGTH, "0");
        }
        if let Some((name, value)) = &field {
            request = request.header(name, *value);
        }
        let request = request.body(Bytes::new()).map_err(|e| CloudError::Usage(format!("{service}: {e}")))?;
        let Some(answer) = tries.send(request).await? else { continue };
        if answer.status == StatusCode::OK {
            return Ok(answer.body);
        }
        let (code, message) = (answer.status.to_string(), one_line(&String::from_utf8_lossy(&answer.body)));
        return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint: None });
    }
}

/// The first line.
fn word(body: &[u8], service: &str) -> Result<Zeroizing<String>, CloudError> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= MAX_WORD);
    let word = text.and_then(|text| text.lines().next()).map(str::trim).filter(|word| !word.is_empty());
    word.map(|word| Zeroizing::new(word.to_owned())).ok_or_else(|| wrong(service, "there is no token or role in it"))
}

fn read(body: &[u8], service: &str) -> Result<AccessKey, CloudError> {
    // What is wrong is told by its kind only: the answer holds secrets.
    let read: Credentials = serde_json::from_slice(body).map_err(|_| wrong(service, "it is no such JSON"))?;
    if let Some(code) = read.code.filter(|code| code != "Success") {
        return Err(wrong(service, &format!("{} {}", one_line(&code), one_line(&read.message.unwrap_or_default()))));
    }
    let given = |text: Option<Zeroizing<String>>| text.filter(|text| !text.is_empty());
    match (read.access_key_id.filter(|id| !id.is_empty()), given(read.secret_access_key), given(read.token)) {
        (Some(access_key_id), Some(secret_access_key), Some(token)) => {
            Ok(AccessKey { access_key_id, secret_access_key, session_token: Some(token) })
        }
        _ => Err(wrong(service, "one of their three parts is missing")),
    }
}

fn wrong(service: &str, why: &str) -> CloudError {
    CloudError::Answer { service: service.to_owned(), wanted: "credentials", why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::HttpSettings;

    const GOOD: &str = r#"{"Code": "Success", "AccessKeyId": "ASIA", "SecretAccessKey": "secret", "Token": "token", "Expiration": "2999-01-01T00:00:00Z"}"#;

    /// Answers one request after the other so, and tells what was asked.
    async fn service(answers: &'static [(u16, &'static str)]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.expect("a request");
                asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.expect("an answer");
            }
            asked
        });
        (url, asked)
    }

    fn http() -> Http {
        Http::new(HttpSettings { roots: Vec::new(), within: Duration::from_secs(10) }).expect("settings")
    }

    #[tokio::test]
    async fn an_instance_is_asked_with_a_token_of_its_own() {
        let (url, asked) = service(&[(200, "a token\n"), (200, "app\n"), (200, GOOD)]).await;
        let key = instance_credentials(&http(), &format!("{url}/")).await.expect("credentials");
        assert_eq!((key.signatory().access_key_id, key.signatory().session_token), ("ASIA", Some("token")));
        let asked = asked.await.expect("requests");
        assert!(
            asked[0].starts_with("PUT /latest/api/token ") && asked[0].contains("x-aws-ec2-metadata-token-ttl-seconds: 60"),
            "{asked:?}"
        );
        assert!(asked[2].starts_with("GET /latest/meta-data/iam/security-credentials/app "), "{asked:?}");
        assert!(asked[1..].iter().all(|request| request.contains("x-aws-ec2-metadata-token: a token")), "{asked:?}");
    }

    #[tokio::test]
    async fn what_is_no_role_and_no_credentials_is_told_without_a_secret() {
        for (answers, word) in [
            (&[(200, "t"), (404, "")][..], "no role"),
            (&[(200, "")], "no token or role"),
            (&[(403, "no")], "refused (403"),
            (&[(200, "t"), (200, "../../x")], "its role's name"),
            (&[(200, "t"), (200, "app"), (200, r#"{"Code": "Failed", "SecretAccessKey": "secret"}"#)], "Failed"),
            (&[(200, "t"), (200, "app"), (200, r#"{"Code": "Success", "SecretAccessKey": "secret"}"#)], "missing"),
            (&[(200, "t"), (200, "app"), (200, "secret")], "no such JSON"),
        ] {
            let (url, _asked) = service(answers).await;
            let told = instance_credentials(&http(), &url).await.expect_err("no credentials").to_string();
            assert!(told.contains(word) && !told.contains("secret"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_container_shows_what_it_was_given_and_only_to_whom_it_may() {
        let (url, asked) = service(&[(200, GOOD)]).await;
        assert!(container_credentials(&http(), &format!("{url}/x"), Some("shown")).await.is_ok());
        assert!(asked.await.expect("requests")[0].contains("authorization: shown"));
        let refused = container_credentials(&http(), "http://example.test/x", Some("shown")).await.expect_err("in the clear");
        assert!(refused.to_string().contains("only https"), "{refused}");
    }
}
