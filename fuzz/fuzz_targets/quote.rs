//! What TPMs marshal: quotes, signatures, public areas, files of registers, credentials. What is read and written again by a second, small writer is the same.
#![no_main]

use std::collections::BTreeSet;

use ekm_otp_attestation::tpm::{
    Attest, Credential, EkCertificate, EncryptionKey, Hash, PcrSelection, PublicArea, PublicKey, Scheme, Selected, Signature, read_pcr_file,
};
use libfuzzer_sys::fuzz_target;
use openssl::sha::{sha256, sha384, sha512};

fuzz_target!(|input: &[u8]| match input.split_first() {
    Some((0, bytes)) => attest(bytes),
    Some((1, bytes)) => public(bytes),
    Some((2, bytes)) => signature(bytes),
    Some((3, bytes)) => registers(bytes),
    Some((4, bytes)) => credential(bytes),
    Some((5, bytes)) => {
        if let Ok(certificate) = EkCertificate::read(bytes) {
            assert!(!certificate.as_der().is_empty());
        }
    }
    _ => {}
});

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

fn attest(bytes: &[u8]) {
    let Ok(attest) = Attest::read(bytes) else { return };
    let clock = attest.clock_info();
    let selected = &attest.selected().0;
    let mut written = [&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..], &sized(attest.signer()), &sized(attest.extra_data())].concat();
    written.extend(clock.clock.to_be_bytes());
    written.extend(clock.reset_count.to_be_bytes());
    written.extend(clock.restart_count.to_be_bytes());
    written.push(u8::from(clock.is_safe));
    written.extend(attest.firmware_version().to_be_bytes());
    written.extend(u32::try_from(selected.len()).expect("few").to_be_bytes());
    // The selection's bits may be written longer than it takes: their length is taken from what was read.
    let mut at = written.len();
    for PcrSelection { bank, registers } in selected {
        let len = attest.as_bytes()[at + 2];
        written.extend(bank.id().to_be_bytes());
        written.push(len);
        let bits = (0..len)
            .map(|byte| (0..8).fold(0, |bits, bit| bits | u8::from(registers.contains(&byte.wrapping_mul(8).wrapping_add(bit))) << bit));
        written.extend(bits.collect::<Vec<u8>>());
        at = written.len();
        if len > 32 {
            return; // registers beyond 255, which are none
        }
    }
    written.extend(sized(attest.digest()));
    assert_eq!(written, attest.as_bytes());
    assert!(bytes.ends_with(attest.as_bytes()));
}

fn public(bytes: &[u8]) {
    let Ok(area) = PublicArea::read(bytes) else { return };
    assert!(bytes.ends_with(area.as_bytes()));
    let digest = match area.name_hash() {
        Hash::Sha256 => sha256(area.as_bytes()).to_vec(),
        Hash::Sha384 => sha384(area.as_bytes()).to_vec(),
        _ => sha512(area.as_bytes()).to_vec(),
    };
    assert_eq!(area.name(), [&area.name_hash().id().to_be_bytes()[..], &digest].concat());
    assert!(!(area.is_attestation_key() && area.is_storage_key()));
    assert_eq!(EncryptionKey::from_area(&area).is_ok(), area.is_storage_key() && matches!(area.symmetric_bits(), Some(128 | 256)));
    if let PublicKey::Ecc { .. } = area.key() {
        assert_eq!(PublicKey::from_spki(&area.key().to_spki()).as_ref(), Ok(area.key()));
    }
}

fn signature(bytes: &[u8]) {
    let key = PublicKey::Ecc { curve: ekm_otp_attestation::tpm::Curve::P256, x: vec![7; 32], y: vec![8; 32] };
    for signature in [Signature::from_tpmt(bytes), Signature::plain(Scheme::Ecdsa, Hash::Sha256, bytes)].into_iter().flatten() {
        assert!(!signature.is_right(&key, b"a message"), "the point is on no curve");
    }
}

fn registers(bytes: &[u8]) {
    let of = |bank, registers: &[u8]| PcrSelection { bank, registers: registers.iter().copied().collect::<BTreeSet<u8>>() };
    let selected = Selected(vec![of(Hash::Sha1, &[0]), of(Hash::Sha256, &[0, 7, 8, 9, 10, 11, 12, 13, 23])]);
    let Ok(values) = read_pcr_file(bytes, &selected) else { return };
    assert!(values.iter().map(|(bank, register, _)| (bank, register)).eq(selected.iter()));
    assert!(values.iter().all(|(bank, _, value)| value.len() == bank.len()));
}

fn credential(bytes: &[u8]) {
    if let Ok(credential) = Credential::from_file(bytes) {
        assert_eq!(credential.to_file(), bytes);
    }
}
