//! `/.well-known/ekm-otp/key`: a client asks who takes its key's place (GET), or gives it a successor whose secret it made (POST).

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use ekm_otp::Secret;
use ekm_otp_tower::VerifiedClient;
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::{failed, later, not_allowed, refused, told};
use super::{Enrolment, end_of};
use crate::registry::{NoSuccessor, Successor, instant};

/// More than a secret of 64 bytes takes.
const MOST: usize = 1024;
/// How long the body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// The shortest secret, in bytes: a client's tool makes 32.
const SHORTEST: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// In base64.
    secret: Zeroizing<String>,
}

impl Enrolment {
    /// Answers either.
    pub(crate) async fn key<B: Body<Data = Bytes> + Send>(&self, method: &Method, body: B, client: &VerifiedClient) -> Response<String> {
        match *method {
            Method::GET => self.tell_successor(client).await,
            Method::POST => self.rotate(body, client).await,
            _ => not_allowed("GET, POST"),
        }
    }

    async fn tell_successor(&self, client: &VerifiedClient) -> Response<String> {
        if self.registry.rotation().is_none() {
            return refused(StatusCode::FORBIDDEN, "rotation_off");
        }
        match self.registry.successor(client.kid()).await {
            Ok(successor) => {
                let told_successor = successor.as_ref().map_or(Value::Null, shown);
                told(StatusCode::OK, Some(json!({ "kid": client.kid().as_str(), "successor": told_successor })))
            }
            Err(why) => {
                tracing::error!(kid = %client.kid(), %why, "the registry does not tell a key's successor");
                failed()
            }
        }
    }

    async fn rotate<B: Body<Data = Bytes> + Send>(&self, body: B, client: &VerifiedClient) -> Response<String> {
        let refuse = |status, word: &str| {
            self.watch.audit().tell_of_key("rotation_refused", client, |fields| fields.text("reason", word));
            refused(status, word)
        };
        let Some(overlap) = self.registry.rotation() else { return refuse(StatusCode::FORBIDDEN, "rotation_off") };
        // A secret never travels where a recording could be opened some day.
        if !client.tls().is_post_quantum() {
            return refuse(StatusCode::FORBIDDEN, "not_post_quantum");
        }
        let secret = match read(body).await {
            Ok(secret) => secret,
            Err(status) => return refuse(status, "body"),
        };
        if let Err(wait) = self.pace.take(client.client(), Instant::now()) {
            self.watch.audit().tell_of_key("rotation_refused", client, |fields| fields.text("reason", "too_often"));
            return later(StatusCode::TOO_MANY_REQUESTS, "too_often", wait.as_secs() + 1);
        }
        match self.registry.succeed(client.kid(), secret, end_of(overlap)).await {
            Ok(successor) => {
                if successor.is_new {
                    self.watch.audit().tell_of_key("rotated", client, |fields| fields.text("successor", successor.kid.as_str()));
                }
                told(if successor.is_new { StatusCode::CREATED } else { StatusCode::OK }, Some(shown(&successor)))
            }
            Err(NoSuccessor::Another) => refuse(StatusCode::CONFLICT, "has_successor"),
            Err(NoSuccessor::SecretTaken) => refuse(StatusCode::CONFLICT, "secret_taken"),
            Err(NoSuccessor::NotActive) => refuse(StatusCode::CONFLICT, "not_active"),
            Err(NoSuccessor::Failed(why)) => {
                tracing::error!(kid = %client.kid(), %why, "a client's rotation could not be written into the registry");
                failed()
            }
        }
    }
}

fn shown(successor: &Successor) -> Value {
    json!({ "kid": successor.kid.as_str(), "old_until": successor.old_until.map(instant) })
}

/// The secret of the body; else the status of what is wrong.
async fn read<B: Body<Data = Bytes> + Send>(body: B) -> Result<Secret, StatusCode> {
    // With its capacity at once: a Vec that grows leaves pieces of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST));
    let mut body = std::pin::pin!(body);
    let whole = async {
        while let Some(frame) = body.as_mut().frame().await {
            let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
            if bytes.len() + data.remaining() > MOST {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    tokio::time::timeout(BODY_WITHIN, whole).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))?;
    let asked: Asked = serde_json::from_slice(&bytes).map_err(|_| StatusCode::BAD_REQUEST)?;
    let secret = Secret::decode_base64(&asked.secret).ok().filter(|secret| secret.len() >= SHORTEST);
    secret.and_then(|secret| Secret::new(secret).ok()).ok_or(StatusCode::BAD_REQUEST)
}
