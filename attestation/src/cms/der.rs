//! Writing DER (X.690 §10).

/// An element: identifier octet, length, content.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    // At once with its final capacity: a private key may be in it.
    let mut element = Vec::with_capacity(len + 10);
    element.push(tag);
    match u8::try_from(len) {
        Ok(len @ ..0x80) => element.push(len),
        _ => {
            let bytes = len.to_be_bytes();
            let used = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            element.push(0x80 | used.len() as u8);
            element.extend(used);
        }
    }
    parts.iter().for_each(|part| element.extend_from_slice(part));
    element
}
