//! Times on the command line: how long, and when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `3600`, `3600s`, `60m`, `1h`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)).map(Duration::from_millis);
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| "not a time: 3600, 3600s, 60m, 1h or 500ms".to_owned())
}

/// A moment: seconds since 1970, or RFC 3339.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|time| u64::try_from(time.unix_timestamp()).ok()),
    };
    let moment = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    moment.ok_or_else(|| "not a moment: seconds since 1970, or like 2026-02-03T10:12:02Z".to_owned())
}

/// As RFC 3339 in UTC, to the second.
pub(super) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let calendar = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    calendar.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "a time of no calendar".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_number_of_seconds_or_a_date() {
        let known = UNIX_EPOCH + Duration::from_secs(1_770_113_522);
        for text in ["1770113522", "2026-02-03T10:12:02Z", "2026-02-03T11:12:02+01:00", "2026-02-03T10:12:02.9Z"] {
            assert_eq!(moment(text), Ok(known), "{text}");
        }
        assert_eq!(utc(known), "2026-02-03T10:12:02Z");
        for text in ["", "now", "-1", "1969-12-31T23:59:59Z", "2026-02-03", "2026-02-30T00:00:00Z", "99999999999999999999"] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(u64::MAX / 4)), "a time of no calendar");
    }
}
