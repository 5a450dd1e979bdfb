//! The one comparison of what is attested with what is wanted.

use constant_time_eq::constant_time_eq;

/// Whether both are the same, in a time that depends on their lengths alone. What is compared here is no secret as a rule; but a nonce or user data may
/// stand for one, and nobody has to think about it.
pub(crate) fn same(attested: &[u8], wanted: &[u8]) -> bool {
    constant_time_eq(attested, wanted)
}

/// The same where there may be nothing.
pub(crate) fn same_as(attested: Option<&[u8]>, wanted: &[u8]) -> bool {
    attested.is_some_and(|attested| same(attested, wanted))
}
