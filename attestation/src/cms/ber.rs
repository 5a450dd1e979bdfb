//! BER (X.690) as far as CMS needs it: elements in one another, of definite or indefinite length, with bounds. RustCrypto's `der` reads BER, too, but no
//! string in pieces whose length is definite, and none in pieces of pieces; both may come.

use super::error::CmsError;

/// The most bytes of a message.
const MAX_LEN: usize = 64 << 20;
/// A message has eight.
const MAX_DEPTH: usize = 16;
/// OpenSSL writes a piece for each 4 KiB or so.
const MAX_ELEMENTS: usize = 1 << 16;

/// Class and form in an identifier octet (X.690 §8.1.2).
const CONSTRUCTED: u8 = 0x20;
const CONTEXT: u8 = 0x80;

/// INTEGER
pub(super) const INTEGER: u8 = 0x02;
/// OCTET STRING
pub(super) const OCTET_STRING: u8 = 0x04;
/// NULL
pub(super) const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// SEQUENCE
pub(super) const SEQUENCE: u8 = 0x30;
/// SET
pub(super) const SET: u8 = 0x31;

/// [n], of the form that an EXPLICIT tag, or an IMPLICIT one of something constructed, has.
pub(super) const fn context(number: u8) -> u8 {
    CONTEXT | CONSTRUCTED | number
}

/// One element: its identifier octet, all its bytes, and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Element<'a> {
    tag: u8,
    pub(super) bytes: &'a [u8],
    content: Content<'a>,
}

#[derive(Clone, Debug)]
enum Content<'a> {
    Primitive(&'a [u8]),
    Constructed(Vec<Element<'a>>),
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

/// Reads the whole input as one element.
pub(super) fn read(input: &[u8]) -> Result<Element<'_>, CmsError> {
    if input.len() > MAX_LEN {
        return Err(CmsError::Long(MAX_LEN));
    }
    let mut reader = Reader { rest: input, left: MAX_ELEMENTS };
    let element = reader.element(0)?;
    if reader.rest.is_empty() { Ok(element) } else { Err(CmsError::Syntax("something follows it")) }
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], CmsError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CmsError::Syntax("it is cut off, or no ASN.1"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, CmsError> {
        self.take(1).map(|byte| byte[0])
    }

    /// `None` for an indefinite one (X.690 §8.1.3).
    fn length(&mut self) -> Result<Option<usize>, CmsError> {
        match self.byte()? {
            short @ ..0x80 => Ok(Some(short.into())),
            0x80 => Ok(None),
            long => {
                let bytes = self.take(usize::from(long & 0x7f))?;
                let len = bytes.iter().try_fold(0_usize, |len, byte| len.checked_mul(256)?.checked_add(usize::from(*byte)));
                len.map(Some).ok_or(CmsError::Syntax("a length in it is too great"))
            }
        }
    }

    fn element(&mut self, depth: usize) -> Result<Element<'a>, CmsError> {
        if depth == MAX_DEPTH {
            return Err(CmsError::Syntax("it is nested too deep"));
        }
        self.left = self.left.checked_sub(1).ok_or(CmsError::Syntax("it has too many elements"))?;
        let start = self.rest;
        let tag = self.byte()?;
        if tag & 0x1f == 0x1f {
            return Err(CmsError::Syntax("it has a tag that CMS does not have"));
        }
        let len = self.length()?;
        let content = match (tag & CONSTRUCTED != 0, len) {
            (false, Some(len)) => Content::Primitive(self.take(len)?),
            (false, None) => return Err(CmsError::Syntax("a length is missing in it")),
            (true, Some(len)) => {
                let mut inner = Reader { rest: self.take(len)?, left: self.left };
                let mut elements = Vec::new();
                while !inner.rest.is_empty() {
                    elements.push(inner.element(depth + 1)?);
                }
                self.left = inner.left;
                Content::Constructed(elements)
            }
            (true, None) => {
                let mut elements = Vec::new();
                // Up to the end-of-contents octets (X.690 §8.1.5).
                while !self.rest.starts_with(&[0, 0]) {
                    elements.push(self.element(depth + 1)?);
                }
                self.take(2)?;
                Content::Constructed(elements)
            }
        };
        Ok(Element { tag, bytes: &start[..start.len() - self.rest.len()], content })
    }
}

impl<'a> Element<'a> {
    pub(super) fn is(&self, tag: u8) -> bool {
        self.tag == tag
    }

    /// What is in it, if it has this tag and is constructed.
    pub(super) fn inner(&self, tag: u8) -> Option<&[Self]> {
        match &self.content {
            Content::Constructed(elements) if self.tag == tag => Some(elements),
            _ => None,
        }
    }

    /// The one element in it, if it has this tag.
    pub(super) fn only(&self, tag: u8) -> Option<&Self> {
        if let Some([one]) = self.inner(tag) { Some(one) } else { None }
    }

    /// Its content, if it has this tag and is primitive.
    pub(super) fn primitive(&self, tag: u8) -> Option<&'a [u8]> {
        match self.content {
            Content::Primitive(bytes) if self.tag == tag => Some(bytes),
            _ => None,
        }
    }

    /// The content of an octet string, in one piece or many (X.690 §8.7). `tag` is OCTET STRING, or the IMPLICIT tag that stands in its place.
    pub(super) fn octets(&self, tag: u8) -> Option<Vec<u8>> {
        match &self.content {
            Content::Primitive(bytes) if self.tag == tag => Some(bytes.to_vec()),
            Content::Constructed(pieces) if self.tag == tag | CONSTRUCTED => pieces.iter().try_fold(Vec::new(), |mut all, piece| {
                all.extend(piece.octets(OCTET_STRING)?);
                Some(all)
            }),
            _ => None,
        }
    }
}
