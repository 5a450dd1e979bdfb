//! The rooms inside each crate: a file is short, and files import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 400;

/// A crate's sources: module path (`operation::hmac`, the root is empty) → text. A binary's root and a library's count as one.
type Sources = BTreeMap<String, String>;

fn members() -> Vec<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = std::fs::read_dir(workspace).expect("the workspace").map(|entry| entry.expect("an entry").path());
    let members: Vec<PathBuf> = folders.map(|folder| folder.join("src")).filter(|source| source.is_dir()).collect();
    assert!(members.len() >= 6, "{members:?}");
    members
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn sources(root: &Path) -> Sources {
    let mut sources = Sources::new();
    for file in files(root) {
        let module = file.strip_prefix(root).expect("in it").with_extension("").display().to_string().replace('/', "::");
        let module = match module.as_str() {
            "lib" | "main" => String::new(),
            module => module.strip_suffix("::mod").unwrap_or(module).to_owned(),
        };
        *sources.entry(module).or_default() += &std::fs::read_to_string(&file).expect("source");
    }
    sources
}

/// Without comments and unit tests, which may look at everything.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// A path as it is imported, and the name that it gets here: `a::b as c` is `a::b`, `c`.
type Import = (String, String);

/// What a `use` tree imports, and the text that follows it.
fn tree(text: &str) -> (Vec<Import>, &str) {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut imports = Vec::new();
        loop {
            rest = rest.trim_start_matches([',', ' ', '\n']);
            if rest.is_empty() || rest.starts_with('}') {
                return (imports, rest.get(1..).unwrap_or_default());
            }
            let (branch, after) = tree(rest);
            assert!(after.len() < rest.len(), "not read as a use: {text}");
            imports.extend(branch);
            rest = after;
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if let Some(branch) = rest.strip_prefix("::").filter(|branch| branch.starts_with(|c: char| c.is_alphabetic() || "_{*".contains(c))) {
        let (imports, rest) = tree(branch);
        return (imports.into_iter().map(|(path, to)| (format!("{name}::{path}"), to)).collect(), rest);
    }
    let alias = rest.trim_start().strip_prefix("as ").map(tree);
    let (to, rest) = alias.and_then(|(mut to, rest)| Some((to.pop()?.1, rest))).unwrap_or((name.to_owned(), rest));
    (vec![(name.to_owned(), to)], rest)
}

/// Each path that begins with `crate`, `self`, `super` or a module declared here, wherever it stands: (is it handed on, what it imports).
fn paths(source: &str) -> Vec<(bool, Import)> {
    let code = code(source);
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let declared = code.lines().filter_map(|line| line.rsplit_once("mod ")?.1.strip_suffix(';'));
    let starts: BTreeSet<&str> = ["crate", "self", "super"].into_iter().chain(declared).collect();
    let mut found = Vec::new();
    for start in starts {
        for (at, _) in code.match_indices(&format!("{start}::")).filter(|(at, _)| !code[..*at].ends_with(is_name)) {
            let statement = code[..at].rsplit([';', '}']).next().unwrap_or_default().trim();
            let is_handed_on = statement.ends_with("use") && statement.lines().last().is_some_and(|line| line.starts_with("pub"));
            found.extend(tree(&code[at..]).0.into_iter().map(|import| (is_handed_on, import)));
        }
    }
    found
}

/// The module in which a path ends, handed on or not.
fn target(sources: &Sources, module: &str, path: &str, depth: usize) -> Option<String> {
    let mut at = module.to_owned();
    let mut segments = path.split("::").peekable();
    while let Some(segment) = segments.peek().copied() {
        let child = if at.is_empty() { segment.to_owned() } else { format!("{at}::{segment}") };
        match segment {
            "crate" => at = String::new(),
            "self" => {}
            "super" => at = at.rsplit_once("::").map_or_else(String::new, |(parent, _)| parent.to_owned()),
            _ if sources.contains_key(&child) => at = child,
            name => {
                let handed_on = paths(sources.get(&at)?).into_iter().filter(|(is_handed_on, _)| *is_handed_on);
                let mut named = handed_on.filter(|(_, (_, to))| to == name);
                return match named.next() {
                    Some((_, (path, _))) if depth < 8 => target(sources, &at, &path, depth + 1),
                    _ => Some(at),
                };
            }
        }
        segments.next();
    }
    Some(at)
}

/// Module → the modules that it imports. What a root hands on is not its own import.
fn imports(sources: &Sources) -> BTreeMap<&str, BTreeSet<String>> {
    let of = |module: &str, source: &str| -> BTreeSet<String> {
        let own = paths(source).into_iter().filter(|(is_handed_on, _)| !is_handed_on);
        own.filter_map(|(_, (path, _))| target(sources, module, &path, 0)).filter(|to| to != module).collect()
    };
    sources.iter().map(|(module, source)| (module.as_str(), of(module, source))).collect()
}

/// What is left when every module that imports nothing of the rest, or is imported by nothing of it, is taken away, again and again.
fn circles(sources: &Sources) -> BTreeMap<&str, BTreeSet<String>> {
    let mut rest = imports(sources);
    loop {
        let before = rest.len();
        let names: BTreeSet<String> = rest.keys().map(|name| (*name).to_owned()).collect();
        rest.values_mut().for_each(|imports| imports.retain(|to| names.contains(to)));
        let imported: BTreeSet<String> = rest.values().flatten().cloned().collect();
        rest.retain(|module, imports| !imports.is_empty() && imported.contains(*module));
        if rest.len() == before {
            return rest;
        }
    }
}

#[test]
fn every_file_of_sources_has_at_most_400_lines() {
    for file in members().iter().flat_map(|member| files(member)) {
        let lines = std::fs::read_to_string(&file).expect("source").lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines", file.display());
    }
}

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    for member in members() {
        let sources = sources(&member);
        let circles = circles(&sources);
        assert!(circles.is_empty(), "{}: {circles:#?}", member.display());
    }
}

#[test]
fn a_circle_is_found_through_groups_front_doors_and_inline_paths() {
    let crate_of = |files: [(&str, &str); 3]| files.map(|(module, source)| (module.to_owned(), source.to_owned())).into();
    let root = "mod a;\nmod b;\npub use a::{One, Two as Second};\npub use b::Three;";
    for (a, b) in [
        ("use crate::b::Three;", "use crate::a::One;"),
        ("use crate::{Three, Four};", "use crate::One;"),
        ("use std::fmt;\nuse super::{\n    b::{Three, x},\n};", "fn f() { crate::a::one() }"),
        ("fn f() { let _: crate::Three; }", "pub(crate) use crate::other;\nuse crate::Second as _;"),
    ] {
        let sources: Sources = crate_of([("", root), ("a", a), ("b", b)]);
        assert_eq!(circles(&sources).into_keys().collect::<Vec<_>>(), ["a", "b"], "{a} / {b}");
    }
    for (a, b) in [
        ("use crate::b::Three;", "// use crate::a::One;"),
        ("use crate::Three;", "#[cfg(test)]\nmod tests {\n    use crate::One;\n}"),
        ("use crate::Three;", "use other::One;\nuse std::a::One;"),
    ] {
        let sources: Sources = crate_of([("", root), ("a", a), ("b", b)]);
        assert_eq!(imports(&sources)["a"], BTreeSet::from(["b".to_owned()]), "{a}");
        assert!(circles(&sources).is_empty(), "{a} / {b}");
    }
}

/// tpm: operation → actor → connection → object, none back.
#[test]
fn the_wings_of_tpm_import_in_one_direction() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tpm/src"));
    let wing =
        |module: &str| ["object", "connection", "actor", "operation"].iter().position(|wing| module.split("::").next() == Some(wing));
    for (module, to) in imports(&sources).iter().flat_map(|(module, imports)| imports.iter().map(move |to| (module, to))) {
        if let (Some(from), Some(into)) = (wing(module), wing(to)) {
            assert!(into <= from, "{module} imports {to}");
        }
    }
    assert!(
        sources.keys().filter_map(|module| wing(module)).collect::<BTreeSet<_>>().len() == 4,
        "the wings are not where this test looks"
    );
}

/// Whom a session is salted to is decided in one place: see `salt`.
#[test]
fn sessions_of_the_tpm_start_in_one_file() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tpm/src"));
    let starters: Vec<_> =
        sources.iter().filter(|(_, source)| code(source).contains("start_auth_session")).map(|(module, _)| module).collect();
    assert_eq!(starters, ["connection::salt"]);
}
