//! Patterns that must match the whole of what they are held against.

use regex::Regex;

/// `text` as a pattern for a whole value: `^` and `$` may be written and change nothing.
pub(crate) fn whole(text: &str) -> Result<Regex, regex::Error> {
    // By itself first: else `a)|(b` would close our group.
    Regex::new(text)?;
    Regex::new(&format!("^(?:{text})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_gets_out_of_its_anchors() {
        assert!(whole("a)|(b").is_err());
        assert!(whole("(?x)a # b").is_err_and(|_| true) || !whole("(?x)a # b").expect("a pattern").is_match("xax"));
        for text in ["a|b", "(?m)a|b", "^a|b$"] {
            let pattern = whole(text).expect(text);
            assert!(pattern.is_match("a") && pattern.is_match("b"), "{text}");
            assert!(!pattern.is_match("xb") && !pattern.is_match("ax") && !pattern.is_match("a\nx") && !pattern.is_match("a\n"), "{text}");
        }
    }
}
