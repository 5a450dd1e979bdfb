//! What somebody may have meant.

/// The name that is nearest to `word`, if any is near: at most a third of its letters left out, added, changed or swapped with their neighbour.
pub(crate) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
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
