//! Times in words.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// As RFC 3339 in UTC, to the second.
#[must_use]
pub fn utc(time: SystemTime) -> String {
    calendar(time).and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "a time of no calendar".into())
}

/// To the second. `None` before 1970 and after 9999.
pub(crate) fn calendar(time: SystemTime) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}
