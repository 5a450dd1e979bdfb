//! What somebody may have meant.

/// The name that is nearest to `word`, if any is near: at most a third of its letters left out, added, changed or swapped with their neighbour.
pub(super) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let spelt = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let word = spelt(word);
    let near = names.into_iter().map(|name| (distance(&word, &spelt(name)), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.chars().count().div_ceil(3)).then_some(name)
}

/// How many letters are to be changed (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(x != y)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
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
