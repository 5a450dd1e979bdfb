//! The layering of the workspace and the licences of all that it is built from, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Who may import whom. Development dependencies are not looked at, but for `ekm-otp-swtpm`, which may be nothing else.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("ekm-otp", &[]),
    ("ekm-otp-tower", &["ekm-otp", "ekm-otp-files"]),
    ("ekm-otp-files", &[]),
    ("ekm-otp-relay", &[]),
    ("ekm-otp-tpm", &["ekm-otp-files"]),
    ("ekm-otp-attestation", &["ekm-otp-files"]),
    ("ekm-otp-cloud", &["ekm-otp-files"]),
    ("ekm-otp-client", &["ekm-otp", "ekm-otp-attestation", "ekm-otp-cloud", "ekm-otp-files", "ekm-otp-relay", "ekm-otp-tpm"]),
    ("ekm-otp-server", &["ekm-otp", "ekm-otp-attestation", "ekm-otp-files", "ekm-otp-relay", "ekm-otp-tower"]),
    ("ekm-otp-swtpm", &[]),
];

/// What must not be reached from a member, however far down.
const FORBIDDEN: [(&str, &[&str]); 7] = [
    ("ekm-otp", &["tokio", "hyper", "tss-esapi"]),
    ("ekm-otp-files", &["tokio", "hyper", "tss-esapi"]),
    ("ekm-otp-relay", &["tss-esapi", "clap", "rustls"]),
    ("ekm-otp-tower", &["tss-esapi"]),
    ("ekm-otp-attestation", &["tokio", "hyper", "tss-esapi", "clap"]),
    ("ekm-otp-cloud", &["tss-esapi", "clap", "aws-sigv4"]),
    ("ekm-otp-server", &["tss-esapi"]),
];

/// Each dependency must be usable under one of these.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--all-features", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no {name}"))
}

/// Package id → the ids that it is built with, development dependencies left out.
fn graph(metadata: &Value) -> BTreeMap<&str, Vec<&str>> {
    list(&metadata["resolve"], "nodes")
        .iter()
        .map(|node| {
            let built_with = list(node, "deps").iter().filter(|dep| list(dep, "dep_kinds").iter().any(|kind| kind["kind"] != "dev"));
            (text(node, "id"), built_with.map(|dep| text(dep, "pkg")).collect())
        })
        .collect()
}

fn names(metadata: &Value) -> BTreeMap<&str, &str> {
    list(metadata, "packages").iter().map(|package| (text(package, "id"), text(package, "name"))).collect()
}

fn id_of<'a>(names: &BTreeMap<&'a str, &str>, name: &str) -> &'a str {
    names.iter().find(|(_, n)| **n == name).map_or_else(|| panic!("no member {name}"), |(id, _)| id)
}

#[test]
fn members_import_each_other_in_one_direction_only() {
    let metadata = metadata();
    let (graph, names) = (graph(&metadata), names(&metadata));
    let members: BTreeSet<&str> = list(&metadata, "workspace_members").iter().map(|id| names[id.as_str().expect("an id")]).collect();
    assert_eq!(members, ALLOWED.iter().map(|(name, _)| *name).collect(), "a new member needs its rule here");
    for (member, allowed) in ALLOWED {
        for dependency in graph[id_of(&names, member)].iter().map(|id| names[id]).filter(|name| members.contains(name)) {
            assert!(allowed.contains(&dependency), "{member} must not import {dependency}");
        }
    }
}

#[test]
fn the_protocol_knows_no_io_and_only_tpm_sees_tss_esapi() {
    let metadata = metadata();
    let (graph, names) = (graph(&metadata), names(&metadata));
    for (member, forbidden) in FORBIDDEN {
        let (mut reached, mut open) = (BTreeSet::new(), vec![id_of(&names, member)]);
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(&graph[id]);
            }
        }
        for id in reached {
            assert!(!forbidden.contains(&names[id]), "{member} reaches {}", names[id]);
        }
    }
    let tss = id_of(&names, "tss-esapi");
    let users: Vec<&str> = graph.iter().filter(|(_, built_with)| built_with.contains(&tss)).map(|(id, _)| names[id]).collect();
    assert_eq!(users, ["ekm-otp-tpm"]);
}

/// What a member is built from with its default features, as whoever embeds it gets it.
fn tree(member: &str, features: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges=normal,build", "--prefix=none", "--package", member, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .args(features.iter().map(|feature| format!("--features={feature}")))
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn who_embeds_passwords_alone_links_no_openssl() {
    for member in ["ekm-otp", "ekm-otp-tower"] {
        assert!(!tree(member, &[]).contains("openssl"), "{member}");
        assert!(tree(member, &["jose"]).contains("openssl-sys"), "{member} with jose: this test looks for the wrong name");
    }
}

/// A client with a software key: clap, the TPM's libraries and OpenSSL are behind features.
#[test]
fn who_embeds_the_client_without_features_links_neither_libtss2_nor_openssl() {
    let built_with = |features: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--edges=normal,build", "--prefix=none", "--package=ekm-otp-client", "--no-default-features"]);
        cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")]);
        let output = cargo.args(features.iter().map(|feature| format!("--features={feature}"))).output().expect("cargo tree");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).expect("UTF-8");
        ["openssl-sys", "tss-esapi-sys", "clap"].map(|name| tree.lines().any(|line| line.starts_with(&format!("{name} v"))))
    };
    assert_eq!(built_with(&[]), [false, false, false]);
    assert_eq!(built_with(&["tonic"]), [false, false, false]);
    assert_eq!(built_with(&["jose"]), [true, false, false]);
    assert_eq!(built_with(&["tpm"])[1..], [true, false]);
    assert_eq!(built_with(&["cli"]), [true, true, true]);
}

/// What only tests may make, nobody else can: the feature is off in what is built to run.
#[test]
fn no_program_is_built_with_what_is_for_tests() {
    for member in ["ekm-otp-server", "ekm-otp-client"] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--edges=normal,build,features", "--prefix=none", "--package", member, "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .output()
            .expect("cargo tree");
        let tree = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(tree.contains("ekm-otp feature \""), "{member}: this test looks for the wrong name");
        assert!(!tree.contains("ekm-otp-tower feature \"test-util\""), "{member}");
    }
}

/// The Go original's wire is one module per crate: the crate's root names it, and nothing else.
#[test]
fn nothing_imports_the_profile_go() {
    for member in ["shared", "middleware", "client"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(member).join("src");
        let mut importers = Vec::new();
        let mut folders = vec![source.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if names_go(&std::fs::read_to_string(&path).expect("source")) {
                    importers.push(path.strip_prefix(&source).expect("in it").display().to_string());
                }
            }
        }
        importers.sort();
        // The crate's root declares it; the binary switches it on.
        assert!(importers.iter().all(|file| ["go.rs", "lib.rs"].contains(&file.as_str())), "{member}: {importers:?}");
        assert!(importers.contains(&"lib.rs".to_owned()), "{member}: this test looks for the wrong name");
    }
}

#[test]
fn the_profile_go_is_found_in_every_spelling_and_nowhere_else() {
    for source in [
        "pub mod go;",
        "mod go {",
        "use crate::go as _;",
        "use super::go;",
        "use ekm_otp::go::ApiKey;",
        "    pub(crate) use crate::go;",
        "use crate::{field, go};",
        "use crate::{\n    field,\n    go,\n};",
        "use crate::{go as other, kid};",
        "#[cfg(feature = \"jose\")]\nuse crate::{field::{self, grammar}, go};",
        "let token = go::sign(key);",
        "let token = crate::go::sign(key);",
    ] {
        assert!(names_go(source), "{source}");
    }
    for source in [
        "// use crate::go;",
        "/// As [`crate::go`] has it.",
        "Self::Go => \"go\",",
        "#[error(\"a profile is one of v1, go\")]",
        "eprintln!(\"warning: --profile go: the server\");",
        "connector.profile_go().go_default_kid",
        "use crate::algorithm::gopher;",
        "let go = config.go;",
    ] {
        assert!(!names_go(source), "{source}");
    }
}

/// Whether `go` is a segment of a path, in a `use`, or declared as a module. Comments do not count.
fn names_go(source: &str) -> bool {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices("go").any(|(at, go)| {
        let (before, after) = (&code[..at], &code[at + go.len()..]);
        // A `use` goes on to the next semicolon, over groups and lines.
        let mut lines = before.rsplit(';').next().unwrap_or_default().lines().map(str::trim_start);
        let is_used = lines.any(|line| line.starts_with("use ") || line.starts_with("pub") && line.contains(" use "));
        !before.ends_with(is_name)
            && !after.starts_with(is_name)
            && (is_used || before.ends_with("::") || before.ends_with("mod ") || after.starts_with("::"))
    })
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let metadata = metadata();
    for package in list(&metadata, "packages") {
        let (name, licence) = (text(package, "name"), package["license"].as_str().unwrap_or_default());
        // `A OR B` offers a choice, `A AND B` asks for both; older manifests write `/` for OR.
        let licence = licence.replace(['(', ')'], " ").replace('/', " OR ");
        let usable = licence.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())));
        assert!(usable, "{name}: {licence:?} is not allowed");
    }
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let metadata = metadata();
    for package in list(&metadata, "packages") {
        let source = package["source"].as_str();
        assert!(source.is_none_or(|source| source.starts_with("registry+")), "{}: {source:?}", text(package, "name"));
    }
}
