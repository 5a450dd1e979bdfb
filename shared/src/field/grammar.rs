//! RFC 9110 §5.6 and §11.2: tokens, quoted-strings, and lists of auth-params.

use std::borrow::Cow;

/// The longest field value that is read, in bytes. An `otp` credential has at most 227.
pub(super) const MAX_FIELD_LEN: usize = 4096;

/// What stands where the grammar wants something else.
pub(super) type Fault = &'static str;

/// Reads a field value from left to right.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(field: &'a [u8]) -> Result<Self, Fault> {
        if field.len() > MAX_FIELD_LEN { Err("the field is longer than 4096 bytes") } else { Ok(Self { rest: field }) }
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|b| !accept(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// OWS = *( SP / HTAB )
    pub(super) fn skip_ows(&mut self) {
        self.take_while(|b| b == b' ' || b == b'\t');
    }

    /// 1*SP
    pub(super) fn spaces(&mut self) -> bool {
        !self.take_while(|b| b == b' ').is_empty()
    }

    /// token = 1*tchar
    pub(super) fn token(&mut self) -> Option<&'a [u8]> {
        Some(self.take_while(is_tchar)).filter(|token| !token.is_empty())
    }

    /// token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=", as long as the list element ends behind it
    pub(super) fn token68(&mut self) -> bool {
        let mut ahead = self.clone();
        let body = ahead.take_while(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
        ahead.take_while(|b| b == b'=');
        ahead.skip_ows();
        let is_token68 = !body.is_empty() && (ahead.at_end() || ahead.rest[0] == b',');
        if is_token68 {
            *self = ahead;
        }
        is_token68
    }

    /// auth-param = token BWS "=" BWS ( token / quoted-string )
    pub(super) fn auth_param(&mut self) -> Result<Param<'a>, Fault> {
        let name = self.token().ok_or("a parameter's name is not a token")?;
        self.skip_ows();
        if !self.eat(b'=') {
            return Err("a parameter has no value");
        }
        self.skip_ows();
        let value =
            if self.eat(b'"') { self.quoted_string()? } else { Cow::Borrowed(self.token().ok_or("a parameter's value is not a token")?) };
        Ok(Param { name, value })
    }

    /// *qdtext, up to the quote or backslash that ends it, or to a byte that has no place in it. The end is looked for first, and the bytes
    /// up to it are then judged all at once: a token of a thousand bytes stands between two quotes.
    fn qdtext(&mut self) -> &'a [u8] {
        let end = memchr::memchr2(b'"', b'\\', self.rest).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        if text.iter().fold(true, |all, b| all & is_qdtext(*b)) {
            self.rest = rest;
            return text;
        }
        self.take_while(is_qdtext)
    }

    /// quoted-string, after its opening quote
    fn quoted_string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        let mut value = Cow::Borrowed(self.qdtext());
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(value);
                }
                [b'\\', escaped, rest @ ..] if is_quoted_pair_byte(*escaped) => {
                    self.rest = rest;
                    value.to_mut().push(*escaped);
                    let more = self.qdtext();
                    value.to_mut().extend_from_slice(more);
                }
                [] | [b'\\'] => return Err("a quoted-string is not closed"),
                _ => return Err("a quoted-string holds a control character"),
            }
        }
    }

    /// The comma that ends a list element, or the end of the field.
    pub(super) fn end_of_element(&mut self) -> Result<(), Fault> {
        self.skip_ows();
        if self.at_end() || self.eat(b',') { Ok(()) } else { Err("two parameters without a comma between them") }
    }

    /// Empty list elements, which a recipient ignores (RFC 9110 §5.6.1.2).
    pub(super) fn skip_empty_elements(&mut self) {
        self.take_while(|b| matches!(b, b' ' | b'\t' | b','));
    }
}

pub(super) struct Param<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: Cow<'a, [u8]>,
}

impl Param<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// All parameters of one `#auth-param` list: at most 16, no name twice.
pub(super) fn auth_params<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Param<'a>>, Fault> {
    const MAX_PARAMS: usize = 16;
    let mut params: Vec<Param<'a>> = Vec::with_capacity(4);
    loop {
        cursor.skip_empty_elements();
        if cursor.at_end() {
            return Ok(params);
        }
        let param = cursor.auth_param()?;
        cursor.end_of_element()?;
        if params.iter().any(|p| p.name.eq_ignore_ascii_case(param.name)) {
            return Err("a parameter stands twice");
        }
        if params.len() == MAX_PARAMS {
            return Err("more than 16 parameters");
        }
        params.push(param);
    }
}

fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// qdtext = HTAB / SP / %x21 / %x23-5B / %x5D-7E / obs-text
fn is_qdtext(b: u8) -> bool {
    matches!(b, b'\t' | b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e | 0x80..=0xff)
}

/// quoted-pair = "\" ( HTAB / SP / VCHAR / obs-text )
fn is_quoted_pair_byte(b: u8) -> bool {
    matches!(b, b'\t' | b' ' | 0x21..=0x7e | 0x80..=0xff)
}
