//! Whether a key may be used, and what that does to its connections.

use super::*;

fn key() -> RegisteredKey {
    RegisteredKey::new(KeyId::new("k").expect("a key id"), "c", Secret::new(vec![7; 32]).expect("a secret"))
}

fn ago(seconds: u64) -> Option<SystemTime> {
    Some(SystemTime::now() - Duration::from_secs(seconds))
}

fn ahead(seconds: u64) -> Option<SystemTime> {
    Some(SystemTime::now() + Duration::from_secs(seconds))
}

#[test]
fn a_key_with_its_counters_fits_128_bytes() {
    assert!(size_of::<RegisteredKey>() + 2 * size_of::<usize>() <= 128, "{}", size_of::<RegisteredKey>());
}

#[test]
fn a_key_is_usable_in_its_time_and_for_its_names_only() {
    let (here, there) = (ServerName::from_host("here.test").expect("a name"), ServerName::from_host("there.test").expect("a name"));
    assert_eq!(key().usable_for(&here), Ok(()));
    assert_eq!(key().with_server_names([there.clone()]).usable_for(&here), Err(Unusable::OtherServerName));
    assert_eq!(key().with_server_names([there, here.clone()]).usable_for(&here), Ok(()));
    assert_eq!(key().with_validity(None, ago(10)).usable_for(&here), Err(Unusable::Expired));
    assert_eq!(key().with_validity(ahead(100), None).usable(), Err(Unusable::NotYetValid));
    assert_eq!(key().with_validity(ago(10), ahead(100)).usable(), Ok(()));
    let revoked = key();
    revoked.revoke();
    assert_eq!(revoked.usable(), Err(Unusable::Revoked));
    revoked.reinstate();
    assert_eq!(revoked.usable(), Ok(()));
}

#[test]
fn a_key_that_is_awaited_is_followed_until_it_is_not() {
    let (key, fresh) = (key().with_awaited(true).with_validity(None, ahead(100)), key());
    assert!(key.is_awaited() && key.follow(&fresh) && !key.follow(&fresh));
    assert!(!key.is_awaited() && key.not_after().is_none());
}

#[test]
fn what_expires_is_cut_and_what_is_used_is_told_once() {
    let (key, connection) = (key(), Arc::new(Lifeline::new()));
    assert_eq!(key.take_last_use(), None);
    key.attach(&connection, 1).expect("a place");
    assert!(key.take_last_use().is_some() && key.take_last_use().is_none() && key.last_use().is_some());
    key.set_validity(None, ahead(100));
    assert_eq!((connection.state(), key.connections()), (State::Open, 1));
    key.set_validity(None, ago(10));
    assert_eq!((connection.state(), key.connections()), (State::Cut, 0));
    let late = Arc::new(Lifeline::new());
    assert_eq!(key.attach(&late, 1), Err(NotAttached::Unusable(Unusable::Expired)));
}
