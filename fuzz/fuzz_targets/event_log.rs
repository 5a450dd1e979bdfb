//! The firmware's event log: what is read leads to the values that OpenSSL comes to, says nothing that steers a terminal, and, with SHA-1 alone, is the same
//! once it is written again.
#![no_main]

use std::collections::BTreeMap;

use ekm_otp_attestation::event_log::{Event, EventLog};
use ekm_otp_attestation::tpm::Hash;
use libfuzzer_sys::fuzz_target;
use openssl::hash::{MessageDigest, hash};

const NO_ACTION: u32 = 3;

fuzz_target!(|input: &[u8]| {
    let Ok(log) = EventLog::parse(input) else { return };
    let events = log.events();
    assert!(!events.is_empty());
    for event in events {
        assert!(!event.in_words().chars().any(char::is_control));
    }
    let is_legacy = !events[0].data.starts_with(b"Spec ID Event03\0") || events[0].kind != NO_ACTION;
    if is_legacy {
        assert_eq!(events.iter().flat_map(written).collect::<Vec<u8>>(), input);
    }
    let locality = events[1..].iter().filter_map(locality_of).next_back().unwrap_or(0);
    for (bank, digest) in
        [(Hash::Sha1, MessageDigest::sha1()), (Hash::Sha256, MessageDigest::sha256()), (Hash::Sha384, MessageDigest::sha384())]
    {
        let mut values = BTreeMap::<u8, Vec<u8>>::new();
        for event in events.iter().filter(|event| event.kind != NO_ACTION && event.register < 24) {
            let Some(extended) = event.digests.get(&bank) else { continue };
            let first = [&vec![0; bank.len() - 1][..], &[if event.register == 0 { locality } else { 0 }]].concat();
            let old = values.entry(event.register).or_insert(first);
            *old = hash(digest, &[&old[..], extended].concat()).expect("a digest").to_vec();
        }
        let replayed = log.replay();
        let of_bank: BTreeMap<u8, Vec<u8>> =
            replayed.iter().filter(|(known, ..)| *known == bank).map(|(_, register, value)| (register, value.to_vec())).collect();
        assert_eq!(of_bank, values);
    }
});

fn locality_of(event: &Event) -> Option<u8> {
    let told = event.data.strip_prefix(b"StartupLocality\0").filter(|_| (event.register, event.kind) == (0, NO_ACTION))?;
    if let [locality] = told { Some(*locality) } else { None }
}

fn written(event: &Event) -> Vec<u8> {
    let register = if event.register == u8::MAX { u32::MAX } else { u32::from(event.register) };
    let size = u32::try_from(event.data.len()).expect("short").to_le_bytes();
    [&register.to_le_bytes()[..], &event.kind.to_le_bytes(), &event.digests[&Hash::Sha1], &size, &event.data].concat()
}
