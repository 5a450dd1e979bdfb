//! What a program says of its configuration file: where a line begins, which keys there are, and which one was meant.

use serde::de::{DeserializeOwned, Deserializer, Visitor};

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Of this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line, from 1 on, in which this byte stands.
    #[must_use]
    pub fn line(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at)
    }
}

/// The name that is nearest to `word`, if any is near: at most a third of its letters left out, added, changed or swapped with their neighbour.
#[must_use]
pub fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let spelt = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let word = spelt(word);
    let near = names.into_iter().map(|name| (strsim::osa_distance(&word, &spelt(name)), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.chars().count().div_ceil(3)).then_some(name)
}

/// The keys that a struct of settings knows: the names of its fields, as serde has them.
#[must_use]
pub fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // It always fails: nothing is read, only asked for.
    let _: Result<T, _> = T::deserialize(Asked(&mut keys));
    keys
}

/// Remembers which fields it is asked for.
struct Asked<'k>(&'k mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_recognised_and_another_word_is_not() {
        let names = ["listen", "server_names", "certificate", "private_key", "upstream", "realm"];
        for (word, meant) in [
            ("lissten", Some("listen")),
            ("server-name", Some("server_names")),
            ("Certifcate", Some("certificate")),
            ("pirvate_key", Some("private_key")),
            ("password", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
        let names = ["origins", "kid", "key", "credential", "require_post_quantum", "password_file"];
        for (word, meant) in [
            ("orgins", Some("origins")),
            ("origin", Some("origins")),
            ("Credentials", Some("credential")),
            ("require-post-quantum", Some("require_post_quantum")),
            ("pasword_file", Some("password_file")),
            ("timeout", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
    }
}
