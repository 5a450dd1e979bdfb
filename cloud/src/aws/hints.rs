//! What to do about AWS's refusals ("Common errors", AWS STS API Reference).

/// Whether a refusal may come of a clock that is off: the signature is dated.
pub(super) fn is_of_time(code: &str, message: &str) -> bool {
    let is_said = message.contains("expired") || message.contains("not yet current");
    matches!(code, "RequestExpired" | "RequestTimeTooSkewed")
        || matches!(code, "SignatureDoesNotMatch" | "InvalidSignatureException") && is_said
}

/// What to do, where that is known.
pub(super) fn of(code: &str, message: &str) -> Option<String> {
    let is_time = is_of_time(code, message);
    Some(
        match code {
            _ if message.contains("valid region") => "it is signed for another region than the endpoint's: name that with --aws-region",
            "SignatureDoesNotMatch" | "InvalidSignatureException" if !is_time => {
                "the key holds another secret than this access key's, or holds it without the prefix AWS4 that signing wants \
                 (`key import --aws-secret-file` adds it)"
            }
            "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed" => {
                "set the clock of this machine (timedatectl set-ntp true)"
            }
            "InvalidClientTokenId" | "UnrecognizedClientException" => {
                "there is no such access key, it is switched off, or it belongs to another partition (--aws-region) or another endpoint"
            }
            "ExpiredToken" | "ExpiredTokenException" => "the session's credentials have ended: make new ones",
            "AccessDenied" | "AccessDeniedException" => {
                "the access key was taken, its user may not do this: look at the user's policies, the role's trust policy, and what either \
                 asks for (external id, source identity, tags, MFA)"
            }
            "RegionDisabledException" => {
                "STS is not switched on in this region (IAM console, account settings), or name another one with --aws-region"
            }
            "MalformedPolicyDocument" | "PackedPolicyTooLarge" => "look at the session policy and the tags",
            _ => return None,
        }
        .to_owned(),
    )
}

/// Whether the service asks for patience: with status 400, too.
pub(super) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
    )
}
