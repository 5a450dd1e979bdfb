//! How long a verdict takes does not tell where nonce, user data, public key or registers differ from what is expected. Counted in instructions by callgrind, which are the
//! same each time; times are not, and no limit of time is set. What is compared here is public as a rule; that of a signature is, always.

mod common;

use std::path::{Path, PathBuf};

use common::{at, json, unhex};
use ekm_otp_attestation::Root;
use ekm_otp_attestation::nitro::{Document, Expected, States};

/// Set for the process that callgrind counts: this test's own binary, which then goes through the cases.
const COUNTED: &str = "EKM_OTP_COUNTED";

/// What is expected: the case's name, and the expectation. Those of one group may differ in nothing but the place.
fn cases() -> Vec<(&'static str, Expected)> {
    let file = json("made-up.json");
    let document = Document::decode(&unhex(&file["document"])).expect("a document");
    let expected = || Expected::at(at(file["at"].as_u64().expect("a time"))).root(Root::from_der(&unhex(&file["root"])).expect("a root"));
    let changed = |bytes: &[u8], at: usize| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        changed
    };
    let mut cases = Vec::new();
    let (nonce, data, key) = (document.nonce().expect("it"), document.user_data().expect("it"), document.public_key().expect("it"));
    for place in [0, nonce.len() / 2, nonce.len() - 1] {
        cases.push(("nonce", expected().nonce(&changed(nonce, place))));
    }
    for place in [0, data.len() / 2, data.len() - 1] {
        cases.push(("user data", expected().user_data(&changed(data, place))));
    }
    for place in [0, key.len() / 2, key.len() - 1] {
        cases.push(("public key", expected().public_key(&changed(key, place))));
    }
    let pcrs = document.pcrs();
    for place in [0, 24, 47] {
        cases.push(("a register", expected().pcr(4, &changed(&pcrs[&4], place))));
    }
    // All registers, of which one differs: each is compared, whichever it is.
    for other in [0, 11, 23] {
        let all = pcrs.iter().fold(expected(), |expected, (number, value)| {
            expected.pcr(*number, &if *number == other { changed(value, 7) } else { value.clone() })
        });
        cases.push(("one of all registers", all));
    }
    // Of a state, the first register is another one, the second, or both.
    for (other_4, other_7) in [(true, false), (false, true), (true, true)] {
        let value = |number: u8, is_other: bool| common::hex(&if is_other { changed(&pcrs[&number], 3) } else { pcrs[&number].clone() });
        let states = format!(r#"{{"one": {{"4": "{}", "7": "{}"}}}}"#, value(4, other_4), value(7, other_7));
        cases.push(("a state", expected().states(States::from_json(states.as_bytes()).expect("states"))));
    }
    cases
}

fn verify_each(cases: Vec<(&'static str, Expected)>) {
    let document = Document::decode(&unhex(&json("made-up.json")["document"])).expect("a document");
    for (name, expected) in cases {
        assert!(document.clone().verify(&expected).is_err(), "{name}");
    }
}

/// The instructions that were counted for each verdict, in order.
fn counts(folder: &Path) -> Vec<u64> {
    let mut dumps: Vec<(u32, PathBuf)> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter_map(|path| Some((path.to_str()?.rsplit_once("out.")?.1.parse().ok()?, path)))
        .collect();
    dumps.sort();
    let total = |path: &PathBuf| {
        let dump = std::fs::read_to_string(path).expect("a dump");
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
        total.expect("a total").trim().parse().expect("a number")
    };
    dumps.iter().map(|(_, path)| total(path)).filter(|count| *count > 0).collect()
}

#[test]
fn where_something_differs_is_not_told_by_how_long_it_takes() {
    let cases = cases();
    if std::env::var_os(COUNTED).is_some() {
        return verify_each(cases);
    }
    let folder = tempfile::tempdir().expect("a folder");
    // All comparisons of a verdict, and nothing else: what memory costs varies by a few instructions.
    let (counted, verdict) = ("ekm_otp_attestation::same::same", "ekm_otp_attestation::nitro::expected::Expected::compare");
    let output = ekm_otp_swtpm::command("valgrind", "valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=out", "--collect-atstart=no"])
        .args([format!("--toggle-collect={counted}"), format!("--dump-after={verdict}")])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "where_something_differs_is_not_told_by_how_long_it_takes", "--test-threads=1"])
        .env(COUNTED, "1")
        .current_dir(folder.path())
        .output()
        .expect("valgrind");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts = counts(folder.path());
    assert_eq!(counts.len(), cases.len(), "{counts:?}\n{}", String::from_utf8_lossy(&output.stderr));
    for group in cases.iter().map(|(name, _)| *name).zip(counts).collect::<Vec<_>>().chunks(3) {
        let (name, first) = group[0];
        assert!(first > 100, "{name}: the comparison is not in what was counted");
        assert!(group.iter().all(|(_, count)| *count == first), "{group:?}");
    }
}
