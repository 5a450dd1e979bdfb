//! Times in words.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// As RFC 3339 in UTC, to the second.
#[must_use]
pub fn utc(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time).truncate_to_second();
    time.format(&Rfc3339).unwrap_or_else(|_| "a time of no calendar".into())
}
