//! One field of a form, as curl's `-F` writes it: `NAME=CONTENT[;type=MEDIA/TYPE][;filename=NAME]`, with quotation marks where content or name has
//! a `;`, `,` or blank of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::media::media_type;

/// Where a field's content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Text(Vec<u8>),
    /// A file as a file.
    File(OsString),
    /// A file as text.
    TextOf(OsString),
}

/// A field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: Vec<u8>,
    pub(super) source: Source,
    media_type: Option<Vec<u8>>,
    filename: Option<Vec<u8>>,
}

impl Field {
    /// `is_plain` is `--form-string`'s: nothing but the name is looked at.
    pub(super) fn read(text: &[u8], is_plain: bool) -> Result<Self, String> {
        let at = text.iter().position(|byte| *byte == b'=').ok_or("write it as NAME=CONTENT")?;
        let (name, content) = (text[..at].to_vec(), &text[at + 1..]);
        if name.is_empty() {
            return Err("the field has no name: write it as NAME=CONTENT".to_owned());
        }
        let mut field = Self { name, source: Source::Text(content.to_vec()), media_type: None, filename: None };
        if is_plain {
            return Ok(field);
        }
        let (mark, content) = match content.first() {
            Some(mark @ (b'@' | b'<')) => (Some(*mark), &content[1..]),
            _ => (None, content),
        };
        let (value, mut rest) = word(content, mark == Some(b'@'))?;
        if mark.is_some() && value.is_empty() {
            return Err("no file is named".to_owned());
        }
        field.source = match mark {
            Some(b'@') => Source::File(OsStr::from_bytes(&value).to_owned()),
            Some(_) => Source::TextOf(OsStr::from_bytes(&value).to_owned()),
            None => Source::Text(value),
        };
        while let Some(parameter) = rest.strip_prefix(b";") {
            let parameter = parameter.trim_ascii_start();
            if let Some(value) = parameter.strip_prefix(b"filename=") {
                let (name, after) = word(value, false)?;
                (field.filename, rest) = (Some(name), after);
            } else if let Some(value) = parameter.strip_prefix(b"type=") {
                let (media_type, after) = of_type(value);
                if !media_type.contains(&b'/') || media_type.iter().any(|byte| byte.is_ascii_control() || !byte.is_ascii()) {
                    return Err("write the type as ;type=MEDIA/TYPE".to_owned());
                }
                (field.media_type, rest) = (Some(media_type.to_vec()), after);
            } else {
                return Err(format!(
                    "{:?} is not known: behind the content stand ;type=MEDIA/TYPE and ;filename=NAME. Where the ; is the content's own, write the content in \
                     quotation marks, or take --form-string",
                    String::from_utf8_lossy(parameter)
                ));
            }
        }
        if rest.starts_with(b",") {
            return Err("one file for each -F: write a second -F with the same name. Where the comma is the name's own, write the name in quotation marks".into());
        }
        Ok(field)
    }

    /// The part's header section (RFC 7578 §4.2, with names as the HTML standard writes them). `file` is the name of the file that the content comes from.
    pub(super) fn head(&self, file: Option<&[u8]>) -> Vec<u8> {
        let mut head = [b"Content-Disposition: form-data; name=\"".as_slice(), &quoted(&self.name), b"\""].concat();
        let filename = self.filename.as_deref().or(file);
        if let Some(filename) = filename {
            head.extend([b"; filename=\"".as_slice(), &quoted(filename), b"\""].concat());
        }
        head.extend(b"\r\n");
        let guessed = || media_type(filename?, file).map(String::into_bytes);
        if let Some(media_type) = self.media_type.clone().or_else(guessed) {
            head.extend([b"Content-Type: ".as_slice(), &media_type, b"\r\n"].concat());
        }
        head
    }
}

/// What stands before the next `;` (for files also `,`), or in quotation marks, where a backslash takes the next one as it is. And what follows.
fn word(text: &[u8], is_file: bool) -> Result<(Vec<u8>, &[u8]), String> {
    let is_end = |byte: u8| byte == b';' || is_file && byte == b',';
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| is_end(*byte)).unwrap_or(text.len());
        return Ok((text[..end].to_vec(), &text[end..]));
    };
    let mut word = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some((_, next @ (b'"' | b'\\'))) => word.push(*next),
                Some((_, next)) => word.extend([b'\\', *next]),
                None => break,
            },
            b'"' => {
                let rest = quoted[at + 1..].trim_ascii_start();
                return match rest.first() {
                    Some(next) if !is_end(*next) => Err("after the closing quotation mark stands a ; or nothing".to_owned()),
                    _ => Ok((word, rest)),
                };
            }
            byte => word.push(*byte),
        }
    }
    Err("the closing quotation mark is missing".to_owned())
}

/// A media type with its own parameters: up to the next `;filename=`, or all.
fn of_type(text: &[u8]) -> (&[u8], &[u8]) {
    let end =
        (0..text.len()).find(|at| text[*at..].strip_prefix(b";").is_some_and(|next| next.trim_ascii_start().starts_with(b"filename=")));
    text.split_at(end.unwrap_or(text.len()))
}

/// What would end the name early (HTML, "multipart/form-data encoding algorithm").
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'"' => quoted.extend(b"%22"),
            b'\r' => quoted.extend(b"%0D"),
            b'\n' => quoted.extend(b"%0A"),
            byte => quoted.push(*byte),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_taken_as_it_is_where_that_is_asked_for() {
        assert_eq!(Field::read(b"a=@b;type=c", true).expect("a field").source, Source::Text(b"@b;type=c".to_vec()));
    }

    #[test]
    fn quotation_marks_keep_what_would_end_a_word() {
        let read = |text: &str| Field::read(text.as_bytes(), false);
        let field = read(r#"f=@"a;b,c\".txt";type=text/x; charset=y;filename="d\\e""#).expect("a field");
        assert_eq!(field.source, Source::File(r#"a;b,c".txt"#.into()));
        assert_eq!((field.media_type.as_deref(), field.filename.as_deref()), (Some(&b"text/x; charset=y"[..]), Some(&br"d\e"[..])));
        for wrong in ["nothing", "=x", "f=@", "f=@a,b", r#"f="open"#, r#"f="a"b"#, "f=a;b=c", "f=a;type=text", "f=@a;type=a/b\r\nX: y"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_cannot_end_its_line() {
        let field = Field::read(b"a\"\r\nX: y=1", true).expect("a field");
        assert_eq!(field.head(None), b"Content-Disposition: form-data; name=\"a%22%0D%0AX: y\"\r\n");
    }

    #[test]
    fn a_file_has_its_name_and_its_media_type() {
        let field = Field::read(b"f=@x/y.json", false).expect("a field");
        let head = String::from_utf8(field.head(Some(b"y.json"))).expect("text");
        assert_eq!(head, "Content-Disposition: form-data; name=\"f\"; filename=\"y.json\"\r\nContent-Type: application/json\r\n");
    }
}
