//! Cuts a TOML text into pieces that can be read one after the other: the `toml` crate needs twenty times the memory of what it reads.
//!
//! The cuts are guesses. If each piece is TOML by itself and no two have a first-level key in common, the text is TOML and holds what they
//! hold together: a piece that is whole ends between two lines of TOML, and the next one goes on in the root or with a table of its own.
//! Where a guess was wrong (in a string or array of several lines, or a table that is not in one place), one of the two does not hold.

/// Passed over where a text begins, and a fault elsewhere: no piece but the first one may begin with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The pieces, in order and without a gap. Each begins with a table's header, or behind an inline table of the root.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut is_root = true;
    std::iter::from_fn(move || {
        let mut length = 0;
        let mut is_closed = false;
        for line in rest.split_inclusive('\n') {
            let is_header = line.trim_start_matches(|c: char| c == BYTE_ORDER_MARK || c.is_whitespace()).starts_with('[');
            let is_cut = (is_header || is_root && is_closed) && !line.starts_with(BYTE_ORDER_MARK);
            if is_cut && length > 0 {
                break;
            }
            is_root &= !is_header;
            is_closed = line.trim_end().ends_with('}');
            length += line.len();
        }
        let (piece, after) = rest.split_at(length);
        rest = after;
        (length > 0).then_some(piece)
    })
}
