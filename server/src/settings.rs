//! What a part of this program can be set to: keys of the configuration file, most of them flags, too; and the mistakes that are found in them,
//! all of them, so that one reading tells what there is to mend.

use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};

/// One part's settings. Each field is optional; its name is the file's key and clap's id, its flag may be spelled otherwise.
pub(crate) trait Settings: Default + DeserializeOwned {
    /// Makes relative paths that the file holds relative to the file's folder.
    fn relative_to(&mut self, folder: &Path);
}

/// What is wrong with settings that could be read. No text of these holds a value that may be a secret.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<Mistake>);

#[derive(Debug)]
pub(crate) struct Mistake {
    /// The file's key, which is the flag's id.
    pub(crate) key: &'static str,
    /// Which member of the key's list, from 0 on.
    pub(crate) index: Option<usize>,
    /// What is wrong, and what to write instead.
    pub(crate) what: String,
}

impl Mistakes {
    /// `what` is wrong with the value of `key`, and what to write instead.
    pub(crate) fn add(&mut self, key: &'static str, what: impl Into<String>) {
        self.0.push(Mistake { key, index: None, what: what.into() });
    }

    /// The same of one member of a list.
    pub(crate) fn add_at(&mut self, key: &'static str, index: usize, what: impl Into<String>) {
        self.0.push(Mistake { key, index: Some(index), what: what.into() });
    }

    pub(crate) fn into_vec(self) -> Vec<Mistake> {
        self.0
    }
}

/// `path` as seen from `folder`, where it is relative.
pub(crate) fn rebase(path: &mut Option<PathBuf>, folder: &Path) {
    if let Some(path) = path {
        *path = folder.join(&*path);
    }
}

/// A text, or a list of texts. For `#[serde(deserialize_with = …)]`.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text in quotes, or a list of such")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = members.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

/// The same, where an empty list is not the same as none.
pub(crate) fn some_one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    one_or_many(deserializer).map(Some)
}

/// `"text": ` for a message, where the text is plainly no secret: a word, a host or a URL without a user, a time. Else nothing.
pub(crate) fn named(text: &str) -> String {
    let are = |allowed: fn(char) -> bool| !text.is_empty() && text.chars().all(allowed);
    let is_word = text.len() <= 16 && are(|c| c.is_ascii_lowercase() || "_-".contains(c));
    let is_time = text.len() <= 10
        && text.starts_with(|c: char| c.is_ascii_digit())
        && are(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ' ');
    let is_place =
        text.len() <= 80 && text.contains([':', '.']) && are(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:/-[]".contains(c));
    if is_word || is_time || is_place { format!("\"{text}\": ") } else { String::new() }
}
