//! What real machines attested: a NitroTPM's document, and a quote of Google Cloud's virtual TPM. Every claim in them is checked, and nothing else passes.

mod common;

use std::time::Duration;

use common::{at, json, read, unhex};
use ekm_otp_attestation::nitro::{Document, Expected, Kind, Mismatch, NotProven, VerifiedDocument};
use ekm_otp_attestation::tpm::{AttestationKey, Evidence, Hash, PcrValues, PublicKey, QuoteExpected, QuoteNotProven};
use ekm_otp_attestation::{ChainError, Root};
use serde_json::Value;

/// The document's leaf was valid for three hours around this.
const NITRO: u64 = 1_770_113_522;
/// The quote's certificate is from the third of February 2026.
const GOOGLE: u64 = 1_770_113_522;

fn nitro() -> (Value, Vec<u8>) {
    let file = json("nitrotpm-document.json");
    let document = unhex(&file["attestation"]["nitro"]["document"]);
    (file, document)
}

fn verify(expected: &Expected) -> Result<VerifiedDocument, NotProven> {
    Document::decode(&nitro().1).expect("a document").verify(expected)
}

#[test]
fn the_document_of_a_real_nitrotpm_is_proven_with_all_that_it_claims() {
    let (file, raw) = nitro();
    let mut expected = Expected::at(at(NITRO)).kind(Kind::NitroTpm).max_age(Duration::from_secs(3600));
    for (register, value) in file["pcrs"]["sha384"].as_object().expect("registers") {
        expected = expected.pcr(register.parse().expect("a number"), &unhex(value));
    }
    let verified = verify(&expected).expect("proven");
    let document = verified.document();
    assert_eq!(document.module_id(), "i-01cfb383223e42522-tpm0000000000000000");
    assert_eq!(document.pcrs().len(), 24);
    assert_eq!(document.raw(), raw, "every byte is kept");
    assert_eq!(document.to_json()["nitrotpm_pcrs"]["4"], file["pcrs"]["sha384"]["4"]);
    assert!(document.others().is_empty(), "{:?}", document.others());
}

#[test]
fn the_document_of_a_real_enclave_is_proven_and_is_no_tpms() {
    let raw = read("enclave-document.cose");
    let verify = |expected: Expected| Document::decode(&raw).expect("a document").verify(&expected);
    let verified = verify(Expected::at(at(1_736_179_625)).kind(Kind::Enclave).pcr(5, &[0; 48])).expect("proven");
    let document = verified.document();
    assert_eq!((document.kind(), document.raw()), (Kind::Enclave, &raw[..]));
    assert_eq!(document.module_id(), "i-0bee92034f3d60691-enc01943c5eaab3ad6a");
    assert_eq!((document.pcrs().len(), document.nonce()), (16, None));
    // Zeros are what nobody has measured, in a TPM as in an enclave: whose register it is has to be asked.
    let tpm = verify(Expected::at(at(1_736_179_625)).kind(Kind::NitroTpm).pcr(5, &[0; 48])).expect_err("an enclave's");
    assert_eq!(tpm, NotProven::Unexpected(vec![Mismatch::Kind(Kind::Enclave)]));
    assert!(verify(Expected::at(at(NITRO))).is_err(), "long over");
}

#[test]
fn the_pinned_roots_are_those_of_the_clouds() {
    let describe = Root::aws_nitro().describe();
    assert!(describe.contains("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"), "{describe}");
    assert!(describe.contains("aws.nitro-enclaves"), "{describe}");
    assert!(Root::google_cloud().describe().contains("EK/AK CA Root"), "{}", Root::google_cloud().describe());
}

#[test]
fn a_document_is_worth_nothing_before_and_after_its_certificates() {
    let leaf_is = |result: Result<VerifiedDocument, NotProven>, expired: bool| match result.expect_err("not valid") {
        NotProven::Chain(ChainError::Expired { which, .. }) => expired && which == "the leaf certificate",
        NotProven::Chain(ChainError::NotYetValid { which, .. }) => !expired && which == "the leaf certificate",
        other => panic!("{other}"),
    };
    assert!(leaf_is(verify(&Expected::at(at(NITRO + 3 * 3600 + 60))), true));
    assert!(leaf_is(verify(&Expected::at(at(NITRO - 3 * 3600 - 60))), false));
    assert!(leaf_is(verify(&Expected::at(at(0))), false));
}

#[test]
fn a_document_of_another_root_is_refused() {
    let refused = verify(&Expected::at(at(NITRO)).root(Root::google_cloud())).expect_err("another root");
    assert!(matches!(refused, NotProven::Root(_)), "{refused}");
}

#[test]
fn all_that_is_not_as_expected_is_told_at_once() {
    let expected = Expected::at(at(NITRO + 60))
        .nonce(b"another")
        .user_data(b"none")
        .public_key(b"none")
        .module_id("i-0")
        .kind(Kind::Enclave)
        .max_age(Duration::ZERO)
        .pcr(4, &[0; 48])
        .pcr(5, &[0; 32])
        .pcr(30, &[0; 48]);
    let NotProven::Unexpected(mismatches) = verify(&expected).expect_err("nothing is right") else { panic!("genuine") };
    let told: Vec<String> = mismatches.iter().map(|mismatch| format!("{mismatch:?}")).collect();
    for wanted in ["Nonce", "UserData", "PublicKey", "ModuleId", "Kind(NitroTpm)", "Age", "Pcr(4)", "Pcr(5)", "NoPcr(30)"] {
        assert!(told.iter().any(|told| told.starts_with(wanted)), "{wanted}: {told:?}");
    }
    assert_eq!(told.len(), 9);
    assert!(!mismatches.contains(&Mismatch::Digest("SHA384".to_owned())));
}

fn google() -> (Evidence, Vec<Vec<u8>>) {
    let evidence = Evidence::from_json(&read("gcp-tdx-quote.json")).expect("evidence");
    let chain = Root::read_all(evidence.certificates.as_ref().expect("certificates").as_bytes()).expect("certificates");
    (evidence, chain.iter().map(|certificate| certificate.as_der().to_vec()).collect())
}

#[test]
fn the_quote_of_google_clouds_tpm_is_proven_by_its_certificate() {
    let (evidence, chain) = google();
    let (leaf, others) = chain.split_first().expect("a leaf");
    let key = AttestationKey::from_certificate(leaf, others, &[Root::google_cloud()], at(GOOGLE)).expect("its certificate");
    assert_eq!(*key.key(), evidence.key);
    assert_eq!(key.root(), Some(&Root::google_cloud()));
    let values = evidence.values.clone();
    let expected = QuoteExpected::by(key).nonce(&evidence.nonce).values(values.clone()).pcrs(values.clone());
    let verified = evidence.quote.verify(&expected).expect("proven");
    assert_eq!(verified.values(), Some(&values));
    let attest = verified.attest();
    assert_eq!(attest.selected().to_string(), format!("sha256:{}", (0..24).map(|i| i.to_string()).collect::<Vec<_>>().join(",")));
    assert_eq!((attest.clock_info().clock, attest.clock_info().reset_count, attest.clock_info().restart_count), (0x22d41, 15, 0));
    assert_eq!(attest.firmware_version(), 0x2016_0511_0016_2800);
}

#[test]
fn the_quote_is_not_proven_with_another_nonce_value_key_or_root() {
    let (evidence, chain) = google();
    let (leaf, others) = chain.split_first().expect("a leaf");
    let root = [Root::google_cloud()];
    let key = || AttestationKey::from_certificate(leaf, others, &root, at(GOOGLE)).expect("its certificate");
    let refused = |expected: QuoteExpected| evidence.quote.clone().verify(&expected).expect_err("refused");
    let with = |register, value: &[u8]| {
        let mut values = PcrValues::new();
        evidence
            .values
            .iter()
            .filter(|(_, other, _)| *other != register)
            .for_each(|(bank, register, value)| assert!(values.insert(bank, register, value)));
        assert!(value.is_empty() || values.insert(Hash::Sha256, register, value));
        values
    };
    let mut of_another = PcrValues::new();
    assert!(of_another.insert(Hash::Sha384, 4, &[0; 48]));
    assert_eq!(refused(QuoteExpected::by(key()).nonce(&[0; 32])), QuoteNotProven::Nonce);
    assert_eq!(refused(QuoteExpected::by(key()).nonce(&evidence.nonce[..31])), QuoteNotProven::Nonce);
    assert_eq!(refused(QuoteExpected::by(key()).values(with(4, &[0; 32]))), QuoteNotProven::Digest);
    assert_eq!(refused(QuoteExpected::by(key()).values(with(4, &[]))), QuoteNotProven::Missing(Hash::Sha256, 4));
    let values = || evidence.values.clone();
    assert_eq!(refused(QuoteExpected::by(key()).values(values()).pcrs(with(4, &[0; 32]))), QuoteNotProven::Pcrs(vec![(Hash::Sha256, 4)]));
    assert_eq!(refused(QuoteExpected::by(key()).values(values()).pcrs(of_another)), QuoteNotProven::NotQuoted(Hash::Sha384, 4));
    assert_eq!(refused(QuoteExpected::by(key()).pcrs(values())), QuoteNotProven::NoValues);
    let PublicKey::Ecc { curve, x, y } = evidence.key.clone() else { panic!("on P-256") };
    let other = AttestationKey::from_key(PublicKey::Ecc { curve, x: y, y: x });
    assert_eq!(refused(QuoteExpected::by(other)), QuoteNotProven::Signature);

    let chain_refused =
        |others: &[Vec<u8>], roots: &[Root], time| AttestationKey::from_certificate(leaf, others, roots, at(time)).expect_err("refused");
    assert!(chain_refused(others, &[Root::aws_nitro()], GOOGLE).to_string().contains("do not lead to the root"));
    assert!(chain_refused(&[], &root, GOOGLE).to_string().contains("do not lead to the root"));
    assert!(chain_refused(others, &root, GOOGLE - 24 * 3600).to_string().contains("valid only from"));
    assert!(chain_refused(others, &[], GOOGLE).to_string().contains("no root is given"));
}

#[test]
fn a_register_that_is_not_quoted_is_not_proven_by_the_quote() {
    let (evidence, _) = google();
    let mut values = evidence.values.clone();
    assert!(values.insert(Hash::Sha384, 4, &[7; 48]));
    let verified = evidence.quote.verify(&QuoteExpected::by(AttestationKey::from_key(evidence.key)).values(values)).expect("proven");
    assert_eq!(verified.values().expect("values").get(Hash::Sha384, 4), None);
}

/// Each bit of r and s, and bytes everywhere else: nothing in a document can be changed.
#[test]
fn a_genuine_document_with_one_bit_changed_is_proven_no_more() {
    let (_, raw) = nitro();
    let signature = raw.len() - 96;
    let bits = (signature..raw.len()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let elsewhere = (0..signature).step_by(5).map(|at| (at, at % 8));
    for (at, bit) in bits.chain(elsewhere) {
        let mut changed = raw.clone();
        changed[at] ^= 1 << bit;
        let is_proven = Document::decode(&changed).is_ok_and(|document| document.verify(&Expected::at(self::at(NITRO))).is_ok());
        assert!(!is_proven, "byte {at}, bit {bit}");
    }
}
