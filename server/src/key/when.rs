//! Times as people write them.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::ServerError;

/// RFC 3339, or how long from now.
pub(super) fn point(flag: &str, text: &str) -> Result<SystemTime, ServerError> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at.into());
    }
    let span = span(text).ok_or_else(|| {
        ServerError::Config(format!("--{flag} {text}: write it as 2027-01-31T12:00:00Z, or how long from now, as 90m, 12h or 7d"))
    })?;
    Ok(SystemTime::now() + span)
}

/// `90s`, `90m`, `12h`, `7d`: at most a century.
pub(super) fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (seconds <= 100 * 366 * 24 * 3600).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_a_unit() {
        assert_eq!(span("90m"), Some(Duration::from_secs(5400)));
        assert_eq!(span("7d"), Some(Duration::from_secs(604_800)));
        for faulty in ["", "d", "7", "-1d", "7w", "7 d", "1e3s", "99999999999999999999d", "9999999d", "ä"] {
            assert_eq!(span(faulty), None, "{faulty}");
        }
    }
}
