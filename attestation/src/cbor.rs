//! CBOR (RFC 8949) as attestation documents use it, read strictly: definite and indefinite arrays and maps, no tags, no chunked strings, no key
//! twice, nothing after the end, and bounds on how deep and how much.

use cbor4ii::core::dec::{Decode as _, Read, Reference, if_major, is_break};
use cbor4ii::core::error::Never;
use cbor4ii::core::types::{Array, Bytes, F16, Map, Negative};
use cbor4ii::core::{major, marker};

/// Arrays and maps in one another. A document has two.
const MAX_DEPTH: usize = 8;
/// Entries of one array or map. A document's longest has 32 registers.
const MAX_ENTRIES: usize = 256;

/// One value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// 0 and above.
    Unsigned(u64),
    /// −1 − this.
    Negative(u64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A text string.
    Text(String),
    /// In order.
    Array(Vec<Value>),
    /// In order; no key stands there twice.
    Map(Vec<(Value, Value)>),
    /// `false` or `true`.
    Bool(bool),
    /// `null`.
    Null,
    /// `undefined`.
    Undefined,
    /// A number with a binary point.
    Float(f64),
}

/// Why bytes are not the CBOR that is taken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// It ends too early, or a length or a head is none.
    #[error("it is cut off or damaged at byte {0}")]
    Damaged(usize),
    /// Something stands behind the value.
    #[error("{0} bytes follow it, which belong to nothing")]
    Trailing(usize),
    /// Arrays and maps in one another.
    #[error("it is nested more than {MAX_DEPTH} deep")]
    Deep,
    /// Too long.
    #[error("an array or a map has more than {MAX_ENTRIES} entries")]
    Long,
    /// The same key.
    #[error("a map has the same key twice")]
    DuplicateKey,
    /// A tag.
    #[error("it has a tag (at byte {0}), and none belongs there")]
    Tag(usize),
    /// A string in pieces.
    #[error("it has a string in pieces (at byte {0}), which no attestation document has")]
    Chunked(usize),
    /// A value that stands for nothing here.
    #[error("it has a simple value (at byte {0}) that means nothing here")]
    Simple(usize),
}

/// Reads the whole input as one value.
///
/// # Errors
/// When it is not exactly one.
pub(crate) fn decode(input: &[u8]) -> Result<Value, CborError> {
    let mut reader = Reader { input, at: 0 };
    let value = reader.value(0)?;
    match input.len() - reader.at {
        0 => Ok(value),
        rest => Err(CborError::Trailing(rest)),
    }
}

/// cbor4ii reads the heads and strings; which of them follow each other is decided here.
struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Read<'a> for Reader<'a> {
    type Error = Never;

    fn fill<'short>(&'short mut self, want: usize) -> Result<Reference<'a, 'short>, Never> {
        let rest = &self.input[self.at..];
        Ok(Reference::Long(&rest[..want.min(rest.len())]))
    }

    fn advance(&mut self, n: usize) {
        self.at += n.min(self.input.len() - self.at);
    }
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, CborError> {
        let at = self.at;
        let damaged = |_| CborError::Damaged(at);
        let head = *self.input.get(at).ok_or(CborError::Damaged(at))?;
        match if_major(head) {
            major::UNSIGNED => u64::decode(self).map(Value::Unsigned).map_err(damaged),
            major::NEGATIVE => Negative::<u64>::decode(self).map(|n| Value::Negative(n.0)).map_err(damaged),
            major::BYTES | major::STRING if head & 0x1f == 0x1f => Err(CborError::Chunked(at)),
            major::BYTES => Bytes::<&[u8]>::decode(self).map(|bytes| Value::Bytes(bytes.0.to_vec())).map_err(damaged),
            major::STRING => <&str>::decode(self).map(|text| Value::Text(text.to_owned())).map_err(damaged),
            major::ARRAY => {
                let len = Array::len(self).map_err(damaged)?;
                self.entries(len, depth, |reader| reader.value(depth + 1)).map(Value::Array)
            }
            major::MAP => {
                let len = Map::len(self).map_err(damaged)?;
                let entries = self.entries(len, depth, |reader| Ok((reader.value(depth + 1)?, reader.value(depth + 1)?)))?;
                let is_twice = |(i, (key, _)): (usize, &(Value, Value))| entries[..i].iter().any(|(other, _)| other == key);
                if entries.iter().enumerate().any(is_twice) { Err(CborError::DuplicateKey) } else { Ok(Value::Map(entries)) }
            }
            major::TAG => Err(CborError::Tag(at)),
            _ => self.simple(head),
        }
    }

    fn entries<T>(
        &mut self,
        len: Option<usize>,
        depth: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, CborError>,
    ) -> Result<Vec<T>, CborError> {
        if depth >= MAX_DEPTH {
            return Err(CborError::Deep);
        }
        if len.is_some_and(|len| len > MAX_ENTRIES) {
            return Err(CborError::Long);
        }
        let mut entries = Vec::new();
        loop {
            let is_end = match len {
                Some(len) => entries.len() == len,
                None => is_break(self).map_err(|_| CborError::Damaged(self.at))?,
            };
            if is_end {
                return Ok(entries);
            }
            if entries.len() == MAX_ENTRIES {
                return Err(CborError::Long);
            }
            entries.push(one(self)?);
        }
    }

    fn simple(&mut self, head: u8) -> Result<Value, CborError> {
        let at = self.at;
        let mut constant = |value| {
            self.at += 1;
            Ok(value)
        };
        match head {
            marker::FALSE => constant(Value::Bool(false)),
            marker::TRUE => constant(Value::Bool(true)),
            marker::NULL => constant(Value::Null),
            marker::UNDEFINED => constant(Value::Undefined),
            marker::F16 => F16::decode(self).map(|n| Value::Float(half(n.0))).map_err(|_| CborError::Damaged(at)),
            marker::F32 => f32::decode(self).map(|n| Value::Float(n.into())).map_err(|_| CborError::Damaged(at)),
            marker::F64 => f64::decode(self).map(Value::Float).map_err(|_| CborError::Damaged(at)),
            _ => Err(CborError::Simple(at)),
        }
    }
}

/// A number of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The head of a byte string (RFC 8949 §3), as deterministic encoding has it (§4.2.1).
pub(crate) fn bytes_head(len: usize) -> Vec<u8> {
    const BYTES: u8 = major::BYTES << 5;
    let len = len as u64;
    match (u8::try_from(len), u16::try_from(len), u32::try_from(len)) {
        (Ok(len @ ..24), ..) => vec![BYTES | len],
        (Ok(len), ..) => vec![BYTES | 24, len],
        (_, Ok(len), _) => [&[BYTES | 25][..], &len.to_be_bytes()].concat(),
        (.., Ok(len)) => [&[BYTES | 26][..], &len.to_be_bytes()].concat(),
        _ => [&[BYTES | 27][..], &len.to_be_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definite_and_indefinite_maps_are_the_same() {
        let definite = decode(&[0xa2, 0x61, b'a', 0x01, 0x61, b'b', 0xf6]);
        let indefinite = decode(&[0xbf, 0x61, b'a', 0x01, 0x61, b'b', 0xf6, 0xff]);
        assert_eq!(definite, indefinite);
        let key = |key: &str| Value::Text(key.to_owned());
        assert_eq!(definite, Ok(Value::Map(vec![(key("a"), Value::Unsigned(1)), (key("b"), Value::Null)])));
    }

    #[test]
    fn what_is_not_exactly_one_value_is_refused() {
        for (input, error) in [
            (&[][..], CborError::Damaged(0)),
            (&[0x01, 0x00], CborError::Trailing(1)),
            (&[0x01, 0xff], CborError::Trailing(1)),
            (&[0xff], CborError::Simple(0)),
            (&[0xd2, 0x00], CborError::Tag(0)),
            (&[0x81, 0xc0, 0x00], CborError::Tag(1)),
            (&[0x5f, 0x41, 0x00, 0xff], CborError::Chunked(0)),
            (&[0x7f, 0x61, b'a', 0xff], CborError::Chunked(0)),
            (&[0x42, 0x00], CborError::Damaged(0)),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], CborError::Damaged(0)),
            (&[0x62, 0xc3, 0x28], CborError::Damaged(0)),
            (&[0x1c], CborError::Damaged(0)),
            (&[0x1f], CborError::Damaged(0)),
            (&[0x9f, 0x00], CborError::Damaged(2)),
            (&[0xbf, 0x00, 0xff], CborError::Simple(2)),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], CborError::DuplicateKey),
            // 1 in one byte, and in two.
            (&[0xa2, 0x01, 0x00, 0x18, 0x01, 0x00], CborError::DuplicateKey),
            (&[0xbf, 0x61, b'a', 0x00, 0x61, b'a', 0x00, 0xff], CborError::DuplicateKey),
            (&[0xf8, 0x20], CborError::Simple(0)),
            (&[0xf9, 0x3c], CborError::Damaged(0)),
        ] {
            assert_eq!(decode(input), Err(error), "{input:02x?}");
        }
    }

    #[test]
    fn depth_and_length_have_bounds() {
        for open in [0x81, 0x9f] {
            assert!(decode(&[&[0x81; MAX_DEPTH][..], &[0x00]].concat()).is_ok());
            assert_eq!(decode(&[&vec![open; MAX_DEPTH + 1][..], &[0x00]].concat()), Err(CborError::Deep));
            assert_eq!(decode(&vec![open; 60_000]), Err(CborError::Deep));
        }
        let most = [&[0x99, 0x01, 0x00][..], &[0; MAX_ENTRIES]].concat();
        assert!(decode(&most).is_ok());
        assert_eq!(decode(&[0x99, 0x01, 0x01]), Err(CborError::Long));
        assert_eq!(decode(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(CborError::Long));
        assert_eq!(decode(&[&[0x9f][..], &[0; 300], &[0xff]].concat()), Err(CborError::Long));
    }

    #[test]
    fn numbers_of_16_bits_are_those_of_the_standard() {
        for (bits, number) in
            [(0x0000, 0.0), (0x3c00, 1.0), (0x3e00, 1.5), (0x7bff, 65504.0), (0x0001, 5.960_464_477_539_063e-8), (0xc400, -4.0)]
        {
            let [high, low] = u16::to_be_bytes(bits);
            assert_eq!(decode(&[0xf9, high, low]), Ok(Value::Float(number)));
        }
        assert_eq!(half(0xfc00), f64::NEG_INFINITY);
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn a_head_has_the_least_bytes() {
        assert_eq!(bytes_head(0), [0x40]);
        assert_eq!(bytes_head(23), [0x57]);
        assert_eq!(bytes_head(24), [0x58, 24]);
        assert_eq!(bytes_head(255), [0x58, 255]);
        assert_eq!(bytes_head(256), [0x59, 1, 0]);
        assert_eq!(bytes_head(65_536), [0x5a, 0, 1, 0, 0]);
    }
}
