//! `/.well-known/ekm-otp/key`: who takes the key's place, and giving it a successor (docs/protocol.md §24).

use bytes::Bytes;
use ekm_otp::{KeyId, Secret};
use ekm_otp_client::{Client, ErrorKind};
use http::{Method, StatusCode};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::enroll::server::{asked, explained, unexpected, word};
use crate::cli::error::CliError;
use crate::cli::shown::printable;

const KEY: &str = "key";
/// How often the same is sent: an answer may be lost, and the server knows the same secret again.
const TRIES: usize = 3;

/// A key's successor.
pub(super) struct Successor {
    pub(super) kid: KeyId,
    /// Until when the key before it holds.
    pub(super) old_until: Option<String>,
}

/// What became of the new secret.
pub(super) enum Answer {
    Given(Successor),
    /// The server does not have it.
    Refused(CliError),
    /// It may have it.
    Unknown(CliError),
}

impl Successor {
    fn of(told: &Value) -> Option<Self> {
        let kid = KeyId::new(told["kid"].as_str()?).ok()?;
        Some(Self { kid, old_until: told["old_until"].as_str().map(printable) })
    }
}

/// Who takes the place of the key that this client shows; `None` while nobody does.
pub(super) async fn successor(client: &Client) -> Result<Option<Successor>, CliError> {
    let kept = "nothing was changed";
    let (status, told) = asked(client, Method::GET, KEY, Bytes::new()).await.map_err(|e| explained(&e, kept))?;
    match (status, &told["successor"]) {
        (StatusCode::OK, Value::Null) => Ok(None),
        (StatusCode::OK, known) => {
            Successor::of(known).map(Some).ok_or_else(|| CliError::Other(format!("the server's answer is not understood: {kept}")))
        }
        (status, _) => Err(refused(status, word(&told))),
    }
}

/// Gives it a successor with this secret.
pub(super) async fn give(client: &Client, secret: &Secret) -> Answer {
    let encoded = secret.encode_base64();
    // With its capacity at once, and wiped at the end.
    let mut body = Zeroizing::new(Vec::with_capacity(encoded.len() + 16));
    for part in ["{\"secret\":\"", &encoded, "\"}"] {
        body.extend_from_slice(part.as_bytes());
    }
    let body = Bytes::from_owner(body);
    let mut last = None;
    for _ in 0..TRIES {
        match asked(client, Method::POST, KEY, body.clone()).await {
            Ok((StatusCode::CREATED | StatusCode::OK, told)) => match Successor::of(&told) {
                Some(known) => return Answer::Given(known),
                None => last = Some(CliError::Other("the server's answer is not understood".into())),
            },
            Ok((status, told)) if status.is_client_error() => return Answer::Refused(refused(status, word(&told))),
            Ok((status, told)) => last = Some(unexpected(status, word(&told), "it is tried again")),
            Err(error) => {
                let is_sent = !matches!(
                    error.kind(),
                    ErrorKind::Refused | ErrorKind::NotProven | ErrorKind::Intercepted | ErrorKind::Certificate | ErrorKind::Usage
                );
                last = Some(explained(&error, "the answer was lost"));
                if !is_sent {
                    break;
                }
            }
        }
    }
    Answer::Unknown(last.unwrap_or_else(|| CliError::Other("there was no answer".into())))
}

fn refused(status: StatusCode, word: &str) -> CliError {
    let kept = "Nothing was changed";
    match word {
        "rotation_off" => CliError::NotPermitted(format!(
            "this server lets no client rotate its key (`rotation = true` in its configuration does). {kept}"
        )),
        "not_post_quantum" => {
            CliError::NotPermitted(format!("the server takes no new secret over this key exchange, which is not X25519MLKEM768. {kept}"))
        }
        "has_successor" => CliError::Usage(format!("the key has another successor already. {kept}")),
        "not_active" => CliError::NotPermitted(format!("the key is not active any more. {kept}")),
        "too_often" => CliError::Unavailable(format!("this client has rotated too often in the last hour: later. {kept}")),
        word => unexpected(status, word, "nothing was changed"),
    }
}
