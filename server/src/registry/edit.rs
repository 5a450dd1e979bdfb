//! Changes to the text of a registry file. What is not changed, comments included, stays as somebody wrote it; in JSON, which has none, all is
//! written anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::SystemTime;

use ekm_otp::KeyId;
use ekm_otp_tower::registry_file::{Entry, Format, Intake, KeyState, parse, pieces};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::error::ServerError;

/// One change.
pub(crate) enum Edit {
    Add(Box<Entry>),
    State(KeyId, KeyState),
    /// Another key takes its place; it is valid until then.
    Succeed {
        kid: KeyId,
        successor: KeyId,
        not_after: SystemTime,
    },
    /// It was used for the first time since it left in a bundle.
    Enrol(KeyId, SystemTime),
    /// It is gone; its key id stays taken.
    Remove(KeyId),
}

impl Edit {
    pub(crate) fn kid(&self) -> &KeyId {
        match self {
            Self::Add(entry) => &entry.kid,
            Self::State(kid, _) | Self::Succeed { kid, .. } | Self::Enrol(kid, _) | Self::Remove(kid) => kid,
        }
    }

    pub(crate) fn no_such(kid: &KeyId) -> ServerError {
        ServerError::Config(format!("the registry holds no key {kid}: `key list` shows those that it holds"))
    }
}

/// All entries of a file, in their order.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) list: Vec<Entry>,
    kids: HashSet<KeyId>,
    secrets: HashMap<u64, Vec<usize>>,
    hasher: RandomState,
}

impl Intake for Entries {
    fn take(&mut self, entry: Entry) -> Result<(), String> {
        if !self.kids.insert(entry.kid.clone()) {
            return Err(format!("the key id {} is registered already", entry.kid));
        }
        if let Some(secret) = &entry.secret {
            let significant = secret.expose().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let alike = self.secrets.entry(self.hasher.hash_one(&secret.expose()[..significant])).or_default();
            let is_same = |at: &&usize| self.list[**at].secret.as_ref().is_some_and(|other| other.same_hmac_key(secret));
            if let Some(other) = alike.iter().find(is_same) {
                return Err(format!(
                    "the secret of {} is the same as that of {}: each key id needs a secret of its own",
                    entry.kid, self.list[*other].kid
                ));
            }
            alike.push(self.list.len());
        }
        self.list.push(entry);
        Ok(())
    }
}

/// The text with these changes. Refused where a change does not fit what is there, or where the text is written in a way that this cannot change.
pub(crate) fn apply(text: &str, format: Format, weak: bool, edits: Vec<Edit>) -> Result<Zeroizing<String>, ServerError> {
    let read = |text: &str| parse::<Entries>(text, format, weak).map_err(ServerError::Config);
    let mut entries = read(text)?;
    let mut changed = BTreeMap::new();
    for edit in edits {
        let kid = edit.apply(&mut entries)?;
        changed.insert(kid.as_str().to_owned(), ());
    }
    let wanted = &entries.list;
    let new = match format {
        Format::Json => json(wanted),
        _ => toml(text, wanted, &changed, weak)?,
    };
    // Whatever was written how: it must say what is wanted, no more and no less.
    let written = parse::<Entries>(&new, format, weak).map_err(|why| cannot(&why))?;
    let told = |list: &[Entry]| list.iter().map(|entry| (entry.kid.as_str().to_owned(), block(entry))).collect::<BTreeMap<_, _>>();
    if told(&written.list) != told(wanted) {
        return Err(cannot("an entry is not written as a table [KID] of its own"));
    }
    Ok(new)
}

fn cannot(why: &str) -> ServerError {
    ServerError::Config(format!(
        "the file is written in a way that cannot be changed here ({why}): `key export --with-secrets --out FILE` writes all of it in the usual way"
    ))
}

impl Edit {
    fn apply(self, entries: &mut Entries) -> Result<KeyId, ServerError> {
        let kid = self.kid().clone();
        if let Self::Add(entry) = self {
            entries.take(*entry).map_err(ServerError::Config)?;
            return Ok(kid);
        }
        let entry = entries.list.iter_mut().find(|entry| entry.kid == kid && entry.state != KeyState::Removed);
        let entry = entry.ok_or_else(|| Self::no_such(&kid))?;
        self.change(entry)?;
        Ok(kid)
    }

    /// Makes the change in the entry, if it still fits: somebody else may have been faster.
    pub(super) fn change(self, entry: &mut Entry) -> Result<(), ServerError> {
        match self {
            Self::Add(_) => {}
            Self::State(_, state) => entry.state = state,
            Self::Succeed { kid, .. } if entry.state != KeyState::Active => {
                return Err(ServerError::Config(format!("{kid} is {}: add a key of its own for the client", entry.state)));
            }
            Self::Succeed { kid, successor, not_after } => {
                if let Some(other) = &entry.successor {
                    return Err(ServerError::Config(format!("{kid} has a successor already: rotate {other}")));
                }
                entry.successor = Some(successor);
                entry.not_after = Some(entry.not_after.map_or(not_after, |before| before.min(not_after)));
            }
            Self::Enrol(kid, _) if !entry.is_awaited() => {
                return Err(ServerError::Config(format!("{kid} waits for no first use: somebody was faster")));
            }
            Self::Enrol(_, at) => entry.enrolled = Some(at),
            Self::Remove(kid) => {
                let mut removed = Entry::new(kid, std::mem::take(&mut entry.client), None);
                removed.state = KeyState::Removed;
                *entry = removed;
            }
        }
        Ok(())
    }
}

/// The text in TOML: pieces of changed entries are changed, new ones stand at the end.
fn toml(text: &str, wanted: &[Entry], changed: &BTreeMap<String, ()>, weak: bool) -> Result<Zeroizing<String>, ServerError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let wanted: HashMap<&str, &Entry> =
        wanted.iter().filter(|entry| changed.contains_key(entry.kid.as_str())).map(|entry| (entry.kid.as_str(), entry)).collect();
    let mut new = Zeroizing::new(String::with_capacity(text.len() + 1024 * changed.len()));
    let mut placed = HashSet::new();
    for piece in pieces(text) {
        let within = parse::<Entries>(piece, Format::Toml, weak).map_err(|why| cannot(&why))?.list;
        let to_change: Vec<&&Entry> = within.iter().filter_map(|entry| wanted.get(entry.kid.as_str())).collect();
        match (to_change.as_slice(), within.len()) {
            ([], _) => new.push_str(piece),
            ([entry], 1) => {
                placed.insert(entry.kid.as_str());
                change_piece(piece, entry, &mut new);
            }
            _ => return Err(cannot("several entries stand in one another")),
        }
    }
    for (kid, entry) in changed.keys().filter_map(|kid| wanted.get_key_value(kid.as_str())) {
        if !placed.contains(kid) {
            if !new.is_empty() {
                let gap = if new.ends_with('\n') { "\n" } else { "\n\n" };
                new.push_str(gap);
            }
            new.push_str(&block(entry));
        }
    }
    Ok(new)
}

/// One entry's piece: its header and comments stay, and each line whose field is as it was.
fn change_piece(piece: &str, entry: &Entry, new: &mut Zeroizing<String>) {
    let is_table = piece.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    if !is_table.is_some_and(|line| line.trim_start().starts_with('[')) {
        // An inline table of the root, in one line or more.
        let fields: Vec<String> = fields(entry).into_iter().map(|(name, value)| format!("{name} = {}", *value)).collect();
        new.push_str(&Zeroizing::new(format!("\"{}\" = {{ {} }}\n", entry.kid, fields.join(", "))));
        return;
    }
    let mut fields = fields(entry);
    let mut missing_at = None;
    for line in piece.split_inclusive('\n') {
        let name = line.split('=').next().unwrap_or_default().trim();
        let is_other = line.trim().is_empty() || line.trim_start().starts_with(['#', '[']);
        if is_other {
            new.push_str(line);
            if line.trim_start().starts_with('[') {
                if !new.ends_with('\n') {
                    new.push('\n');
                }
                // Right behind the header: an entry that is cut off has lost its secret, too, not its end alone.
                missing_at = Some(new.len());
            }
            continue;
        }
        if let Some(at) = fields.iter().position(|(field, _)| *field == name) {
            let (name, value) = fields.remove(at);
            // As it was written, where it says the same.
            let wanted = Zeroizing::new(format!("{name} = {}\n", *value));
            new.push_str(if says_the_same(line, &wanted) { line } else { &wanted });
        }
    }
    let missing: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name} = {}\n", *value)).collect();
    let mut missing = Zeroizing::new(missing.concat());
    let at = missing_at.unwrap_or(new.len());
    if !missing.is_empty() && !new[..at].ends_with('\n') {
        missing.insert(0, '\n');
    }
    new.insert_str(at, &missing);
}

fn says_the_same(line: &str, other: &str) -> bool {
    let read = |text: &str| toml::from_str::<BTreeMap<String, OneOrMany>>(text).ok();
    read(line).is_some_and(|said| read(other) == Some(said))
}

/// A field's value.
#[derive(serde::Deserialize, PartialEq)]
#[serde(untagged)]
enum OneOrMany {
    One(Zeroizing<String>),
    Many(Vec<String>),
}

/// An entry as a table of TOML.
pub(crate) fn block(entry: &Entry) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("[\"{}\"]\n", entry.kid));
    for (name, value) in fields(entry) {
        text.push_str(&Zeroizing::new(format!("{name} = {}\n", *value)));
    }
    text
}

/// All entries as TOML.
pub(crate) fn as_toml(entries: &[Entry]) -> Zeroizing<String> {
    Zeroizing::new(entries.iter().map(|entry| block(entry).to_string()).collect::<Vec<_>>().join("\n"))
}

/// All entries as JSON, one a line.
pub(crate) fn json(entries: &[Entry]) -> Zeroizing<String> {
    let line = |entry: &Entry| {
        let fields: Vec<String> = fields(entry).into_iter().map(|(name, value)| format!("\"{name}\": {}", *value)).collect();
        format!("\"{}\": {{{}}}", entry.kid, fields.join(", "))
    };
    Zeroizing::new(format!("{{\n{}\n}}\n", entries.iter().map(line).collect::<Vec<_>>().join(",\n")))
}

/// What an entry says, each value as it stands in TOML and in JSON: both take these texts in quotes.
fn fields(entry: &Entry) -> Vec<(&'static str, Zeroizing<String>)> {
    let quoted = |text: &str| Zeroizing::new(serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f"));
    let mut fields = Vec::new();
    let mut add = |name, value: Option<&str>| fields.extend(value.map(|value| (name, quoted(value))));
    // What narrows it stands before what makes it a key at all: an entry that is cut off is none, rather than more than it was.
    add("state", (entry.state != KeyState::Active).then(|| entry.state.as_str()));
    add("not_before", entry.not_before.map(instant).as_deref());
    add("not_after", entry.not_after.map(instant).as_deref());
    add("enrol_by", entry.enrol_by.map(instant).as_deref());
    add("enrolled", entry.enrolled.map(instant).as_deref());
    add("credential", (entry.minimum != Default::default()).then(|| entry.minimum.as_str()));
    add("profile", (entry.profile != Default::default()).then(|| entry.profile.as_str()));
    if !entry.server_names.is_empty() {
        // An address stands for connections without a name.
        let names = entry.server_names.iter().map(|name| if name.is_none() { "127.0.0.1" } else { name.as_str() });
        let names: Vec<String> = names.map(|name| quoted(name).to_string()).collect();
        fields.push(("server_names", Zeroizing::new(format!("[{}]", names.join(", ")))));
    }
    let mut add = |name, value: Option<&str>| fields.extend(value.map(|value| (name, quoted(value))));
    add("comment", entry.comment.as_deref());
    add("successor", entry.successor.as_ref().map(KeyId::as_str));
    add("created", entry.created.map(instant).as_deref());
    let secret = entry.secret.as_ref().map(ekm_otp::Secret::encode_base64);
    add("secret", secret.as_ref().map(|secret| secret.as_str()));
    add("client", Some(&entry.client));
    fields
}

/// As RFC 3339 writes it, to the second.
pub(crate) fn instant(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kid(text: &str) -> KeyId {
        KeyId::new(text).expect("a key id")
    }

    fn secret(byte: u8) -> ekm_otp::Secret {
        ekm_otp::Secret::new(vec![byte; 32]).expect("a secret")
    }

    fn edited(text: &str, edits: Vec<Edit>) -> String {
        apply(text, Format::Toml, false, edits).unwrap_or_else(|e| panic!("{e} in {text}")).to_string()
    }

    #[test]
    fn comments_order_and_other_entries_stay_as_somebody_wrote_them() {
        let s = |byte| secret(byte).encode_base64().to_string();
        let text = format!(
            "# top\ninline = {{ secret = '{}', client = 'I' }}\n\n# about a\n[a]\nsecret = '{}' # mind\nclient = \"A\"\n# below a\n[\"b.c\"]\n\
             client = 'B'\nsecret = '{}'",
            s(1),
            s(2),
            s(3)
        );
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let new = edited(
            &text,
            vec![
                Edit::State(kid("a"), KeyState::Revoked),
                Edit::Succeed { kid: kid("b.c"), successor: kid("d"), not_after: at },
                Edit::Add(Box::new(Entry::new(kid("d"), "D \"quoted\"\n", secret(4)))),
            ],
        );
        for kept in ["# top\ninline = {", "# about a\n[a]\n", "# below a\n[\"b.c\"]\nnot_after = "] {
            assert!(new.contains(kept), "{kept}: {new}");
        }
        assert!(new.contains("# about a\n[a]\nstate = \"revoked\"\n"), "{new}");
        assert!(new.contains("not_after = \"2033-05-18T03:33:20Z\"\n"), "{new}");
        let again = edited(&new, vec![Edit::State(kid("a"), KeyState::Active), Edit::Remove(kid("inline")), Edit::Remove(kid("d"))]);
        assert!(!again.contains("revoked") && !again.contains(&s(1)) && !again.contains(&s(4)), "{again}");
        let list = parse::<Entries>(&again, Format::Toml, false).expect("a registry").list;
        assert_eq!(list.iter().filter(|entry| entry.state == KeyState::Removed).count(), 2, "their key ids stay taken");
    }

    #[test]
    fn an_entry_that_is_cut_off_is_no_key_rather_than_one_that_is_not_revoked() {
        let text = as_toml(&[Entry::new(kid("a"), "A", secret(1))]);
        let revoked = edited(&text, vec![Edit::State(kid("a"), KeyState::Revoked)]);
        for at in 1..revoked.len() {
            let read = parse::<Entries>(&revoked[..at], Format::Toml, false);
            let is_active = read.is_ok_and(|read| read.list.iter().any(|entry| entry.state == KeyState::Active));
            assert!(!is_active, "{}", &revoked[..at]);
        }
    }

    #[test]
    fn a_value_is_what_it_says_not_what_stands_behind_it() {
        let secret = secret(1).encode_base64();
        let text = format!("[a]\nstate = \"active\" # was \"revoked\"\nsecret = '{}'\nclient = \"A\"\n", *secret);
        let revoked = edited(&text, vec![Edit::State(kid("a"), KeyState::Revoked)]);
        assert!(revoked.starts_with("[a]\nstate = \"revoked\"\nsecret = '"), "{revoked}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (mut succeeded, mut revoked) = (Entry::new(kid("s"), "A", secret(3)), Entry::new(kid("r"), "A", secret(4)));
        succeeded.successor = Some(kid("t"));
        revoked.state = KeyState::Revoked;
        let text = as_toml(&[Entry::new(kid("a"), "A", secret(1)), succeeded, revoked]);
        for (fault, edit) in [
            ("kid_taken", Edit::Add(Box::new(Entry::new(kid("a"), "B", secret(2))))),
            ("secret_taken", Edit::Add(Box::new(Entry::new(kid("b"), "B", secret(1))))),
            ("no_such_kid", Edit::State(kid("b"), KeyState::Revoked)),
            ("succeeded_already", Edit::Succeed { kid: kid("s"), successor: kid("u"), not_after: SystemTime::now() }),
            ("revoked", Edit::Succeed { kid: kid("r"), successor: kid("u"), not_after: SystemTime::now() }),
        ] {
            assert!(apply(&text, Format::Toml, false, vec![edit]).is_err(), "{fault}");
        }
        let removed = edited(&text, vec![Edit::Remove(kid("a"))]);
        assert!(apply(&removed, Format::Toml, false, vec![Edit::Add(Box::new(Entry::new(kid("a"), "A", secret(1))))]).is_err());
    }

    #[test]
    fn json_and_toml_say_the_same_of_an_entry() {
        let mut entry = Entry::new(kid("a/b@c"), "Ünï \u{7f} \"x\"\\", secret(1));
        entry.comment = Some("line\nline".into());
        entry.not_before = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        entry.server_names = vec![ekm_otp::ServerName::from_host("a.test").expect("a name"), ekm_otp::ServerName::none()];
        let text = [(Format::Json, json(std::slice::from_ref(&entry))), (Format::Toml, block(&entry))];
        for (format, text) in text {
            let read = parse::<Entries>(&text, format, false).unwrap_or_else(|why| panic!("{why}: {}", *text)).list;
            assert_eq!(*block(&read[0]), *block(&entry), "{format:?}");
        }
    }
}
