//! What somebody may have meant.

/// The name that is nearest to `word`, if any is near: at most a third of its letters left out, added, changed or swapped with their neighbour.
pub(super) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let spelt = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let word = spelt(word);
    let near = names.into_iter().map(|name| (strsim::osa_distance(&word, &spelt(name)), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.chars().count().div_ceil(3)).then_some(name)
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
    }
}
