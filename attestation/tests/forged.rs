//! Documents that are made up: the verdict on each is that of a verifier in Python (cbor2 and cryptography) that shares no line with ours.

mod common;
#[path = "common/python.rs"]
mod python;

use std::collections::BTreeMap;

use common::{at, testdata, unhex};
use ekm_otp_attestation::Root;
use ekm_otp_attestation::nitro::{Document, Expected};
use python::python;
use serde_json::Value;

fn verdict(case: &Value) -> Result<(), String> {
    let document = Document::decode(&unhex(&case["document"])).map_err(|e| e.to_string())?;
    let root = Root::from_der(&unhex(&case["root"])).map_err(|e| e.to_string())?;
    let mut expected = Expected::at(at(case["at"].as_u64().expect("a time"))).root(root);
    let wanted = &case["expected"];
    expected = if wanted["nonce"].is_null() { expected } else { expected.nonce(&unhex(&wanted["nonce"])) };
    expected = if wanted["user_data"].is_null() { expected } else { expected.user_data(&unhex(&wanted["user_data"])) };
    expected = if wanted["public_key"].is_null() { expected } else { expected.public_key(&unhex(&wanted["public_key"])) };
    for (register, value) in wanted["pcrs"].as_object().expect("registers") {
        expected = expected.pcr(register.parse().expect("a number"), &unhex(value));
    }
    document.verify(&expected).map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn the_verdict_on_1000_changed_documents_is_that_of_another_implementation() {
    let script = testdata("nitro.py");
    let cases = python(&[script.to_str().expect("UTF-8"), "mutated", "1000", "20261129"], &testdata(""));
    let mut of_kind: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut different = Vec::new();
    for line in String::from_utf8(cases).expect("UTF-8").lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let (ours, theirs) = (verdict(&case), case["refused"].as_str());
        let (proven, refused) = of_kind.entry(case["kind"].as_str().expect("a kind").to_owned()).or_default();
        *(if ours.is_ok() { proven } else { refused }) += 1;
        if ours.is_ok() != theirs.is_none() {
            different.push(format!("{}: ours {ours:?}, theirs {theirs:?}, {}", case["kind"], case["document"]));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert_eq!(of_kind.values().map(|(proven, refused)| proven + refused).sum::<usize>(), 1000);
    // Not all of one verdict: each kind is refused at times, and those whose change may be harmless are proven at times.
    for (kind, (proven, refused)) in of_kind {
        assert!(refused > 0, "{kind} is never refused");
        assert!(proven > 0 || kind.starts_with("bytes_") || kind == "certificate_bytes_flipped", "{kind} is never proven");
    }
}

fn cases(code: &str) -> Vec<Value> {
    let lines = String::from_utf8(python(&["-c", code], &testdata(""))).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What is wrong with the chain, and what is told of it. `None`: nothing is.
const CHAINS: [(&str, Option<&str>); 29] = [
    ("chain_without_intermediates", None),
    ("chain_of_one", None),
    ("chain_of_five", None),
    ("leaf_expired", Some("the leaf certificate was valid until")),
    ("leaf_ends_now", None),
    ("leaf_not_yet_valid", Some("the leaf certificate is valid only from")),
    ("leaf_begins_now", None),
    ("intermediate_expired", Some("certificate 1 above the leaf was valid until")),
    ("intermediate_not_yet_valid", Some("certificate 1 above the leaf is valid only from")),
    ("root_expired", Some("the root was valid until")),
    ("root_not_yet_valid", Some("the root is valid only from")),
    ("root_may_not_sign", Some("may not do so")),
    ("intermediate_is_no_ca", Some("no CA's")),
    ("intermediate_may_not_sign", Some("may not do so")),
    ("intermediate_without_usage", None),
    ("intermediate_of_another_issuer", Some("has the name and key")),
    ("intermediate_for_servers", Some("extended key usage")),
    ("path_too_long", Some("may not do so")),
    ("path_just_long_enough", None),
    ("leaf_is_a_ca", Some("key usage")),
    ("leaf_may_not_sign", Some("key usage")),
    ("leaf_without_usage", None),
    ("leaf_for_servers", Some("extended key usage")),
    ("leaf_for_clients", None),
    ("leaf_with_a_critical_extension", Some("UnsupportedCriticalExtension")),
    ("leaf_of_another_issuer", Some("has the name and key")),
    ("leaf_signed_by_another", Some("not signed by the key")),
    ("leaf_on_p256", Some("96")),
    ("leaf_on_p521", Some("96")),
];

#[test]
fn each_link_of_the_chain_has_to_hold() {
    let made = cases(
        "import json\nfrom mutated import World\nfrom nitro import AT, make_document\n\
         for name, pki in World().chains.items(): print(json.dumps({'name': name, 'document': make_document(pki).hex(), 'root': pki.root.hex(), 'at': AT, 'expected': {'pcrs': {}}}))",
    );
    assert_eq!(made.len(), CHAINS.len());
    for case in made {
        let name = case["name"].as_str().expect("a name");
        let (_, told) = CHAINS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is not known here"));
        match (verdict(&case), told) {
            (Ok(()), None) => {}
            (Err(why), Some(told)) => assert!(why.contains(told), "{name}: {why}"),
            (verdict, _) => panic!("{name}: {verdict:?}"),
        }
    }
}

/// Each fault alone, everything else right and signed anew, and what is told of it.
#[test]
fn each_field_has_to_be_there_and_of_its_type() {
    let code = "
import json
from nitro import AT, Raw, default_pcrs, make_document, make_pki
pki = make_pki()
def show(told, document): print(json.dumps({'told': told, 'document': document.hex(), 'root': pki.root.hex(), 'at': AT, 'expected': {'pcrs': {}}}))
names = 'module_id digest timestamp nitrotpm_pcrs certificate cabundle'.split()
for name in names:
    show(f'no {name}', make_document(pki, edit=lambda pairs: [pair for pair in pairs if pair[0] != name]))
    show(f\"document's {name} is not\", make_document(pki, fields={name: -1}))
    show('twice', make_document(pki, edit=lambda pairs: pairs + [pair for pair in pairs if pair[0] == name]))
for name in 'public_key user_data nonce'.split():
    show('', make_document(pki, edit=lambda pairs: [pair for pair in pairs if pair[0] != name]))
    show('', make_document(pki, fields={name: b'x' * 1000}))
    show(f\"document's {name} is not\", make_document(pki, fields={name: 'text'}))
show(\"document's cabundle is not\", make_document(pki, fields={'cabundle': []}))
show('TPM (nitrotpm_pcrs)', make_document(pki, fields={'pcrs': default_pcrs()}))
show(\"registers are of the hash\", make_document(pki, digest='SHA256'))
show('', make_document(pki, kind='pcrs'))
show('', make_document(pki, fields={'new': [1, {'a': b'b'}]}))
show('', make_document(pki, indefinite=False))
show('', make_document(pki, tagged=True))
show('nested more than 8', make_document(pki, fields={'new': Raw(b'\\x81' * 9 + b'\\x00')}))
show('nested more than 8', make_document(pki, fields={'new': Raw(b'\\x9f' * 40000)}))
show('more than 256', make_document(pki, fields={'new': Raw(b'\\x99\\x01\\x01' + b'\\x00' * 257)}))
show('a tag', make_document(pki, fields={'new': Raw(b'\\xc0\\x61x')}))
show('in pieces', make_document(pki, fields={'nonce': Raw(b'\\x5f\\x41x\\xff')}))
show('at most 65536', make_document(pki, user_data=b'x' * 70000))
show('belong to nothing', make_document(pki) + b'\\x00')
show('belong to nothing', make_document(pki, tagged=True) + make_document(pki))
show('unprotected header', make_document(pki, unprotected=b'\\xa1\\x04\\x41x'))
show('ES384 alone', make_document(pki, protected=b'\\xa1\\x01\\x26'))
show('a tag', b'\\xd8\\x3d' + make_document(pki, tagged=True))
show('signature is wrong', make_document(pki, signature=lambda right: right[:-1] + bytes([right[-1] ^ 1])))
show('signature is wrong', make_document(pki, signature=bytes(96)))
show('95 bytes', make_document(pki, signature=bytes(95)))
";
    for case in cases(code) {
        let told = case["told"].as_str().expect("what is told");
        match verdict(&case) {
            Ok(()) => assert_eq!(told, "", "it was proven"),
            Err(why) => assert!(!told.is_empty() && why.contains(told), "{told}: {why}"),
        }
    }
}

#[test]
fn the_document_that_the_fuzzer_begins_with_is_what_the_script_makes() {
    let script = testdata("nitro.py");
    let made = python(&[script.to_str().expect("UTF-8"), "made-up", "-"], &testdata(""));
    assert_eq!(String::from_utf8(made).expect("UTF-8"), String::from_utf8(common::read("made-up.json")).expect("UTF-8"));
}
