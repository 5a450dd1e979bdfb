//! What an answer's status means to the caller: success, or which exit code.

use ekm_otp::Profile;
use ekm_otp_client::{ConnectError, Error};
use http::StatusCode;

use super::connect::Shown;
use crate::cli::CliError;

/// The status that is left when redirects and tries are over.
pub(super) fn outcome(status: StatusCode, redirect: Option<&str>, shown: &Shown) -> Result<(), CliError> {
    match status {
        status if status.is_success() => Ok(()),
        // It was asked for by a condition, and is the answer to it.
        StatusCode::NOT_MODIFIED => Ok(()),
        StatusCode::UNAUTHORIZED if shown.wire == Profile::Go => Err(CliError::NotPermitted(
            "the server answered 401 Unauthorized: unknown key id or one of v1, another secret, a kind that it does not take, or a JWS where it has no \
             default key id"
                .into(),
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
            Err(refused(&format!("the server answered {status}"), shown))
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            Err(CliError::Unavailable(format!("the server answered {status}: try again later, or let --retry do that")))
        }
        status if status.is_redirection() => Err(CliError::Other(match redirect {
            Some(to) => format!("the server answered {status}, it is at {to}: -L follows that within the same origin"),
            None => format!("the server answered {status}"),
        })),
        status => Err(CliError::Other(format!("the server answered {status}"))),
    }
}

/// What was shown to a server that refuses it, and who looks for the reason.
fn refused(text: &str, shown: &Shown) -> CliError {
    let asked = match &shown.profile {
        Some(profile) => format!("`ekm-otp-client doctor -P {profile}`"),
        None => "`ekm-otp-client doctor` with --url, --kid and --key".to_owned(),
    };
    CliError::NotPermitted(format!("{text}. The key id was {}, the server's name {}; {asked} says more", shown.kid, shown.name))
}

/// Why there is no answer, with what to do.
pub(super) fn failure(error: &Error, shown: &Shown) -> CliError {
    match error.connect_error() {
        Some(ConnectError::Refused { .. } | ConnectError::Intercepted { .. }) => refused(&error.to_string(), shown),
        Some(ConnectError::Key(error)) => error.into(),
        // Nothing was refused: the two have nothing in common.
        Some(ConnectError::Handshake(_) | ConnectError::Policy(_)) => CliError::Other(error.to_string()),
        _ => CliError::of_kind(error.kind(), error.to_string()),
    }
}
