//! `-w`: a text with variables, as curl has it, that is shown when the transfer is over, however it ended.

use std::path::Path;

use serde_json::{Map, Value};

use super::facts::Facts;
use super::input::Input;
use super::variable::Variable;
use crate::cli::CliError;
use crate::cli::output;

/// A piece of the text.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    Variable(&'static Variable),
    /// `%header{NAME}`.
    Field(String),
    Json,
    HeaderJson,
    /// What follows goes there.
    Standard,
    Error,
    /// What follows is for failures.
    OnError,
}

/// A format that can be filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WriteOut(Vec<Piece>);

impl WriteOut {
    /// The format itself, or `@FILE` where it stands.
    pub(super) async fn read(text: &str, input: &mut Input) -> Result<Self, CliError> {
        let text = match text.strip_prefix('@') {
            Some(path) => String::from_utf8(input.whole(Path::new(path)).await?)
                .map_err(|_| CliError::Usage(format!("-w @{path}: it is no text (UTF-8)")))?,
            None => text.to_owned(),
        };
        Self::parse(&text).map_err(|why| CliError::Usage(format!("-w: {why}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let named = |prefix: &str| rest.strip_prefix(prefix).and_then(|rest| rest.split_once('}'));
            let (piece, after) = if let Some(after) = rest.strip_prefix("%%") {
                plain.push(b'%');
                (None, after)
            } else if let Some((name, after)) = named("%{") {
                (Some(named_piece(name)?), after)
            } else if let Some((name, after)) = named("%header{") {
                (Some(Piece::Field(name.trim().to_owned())), after)
            } else if let Some((escape, after)) = ["\\n", "\\r", "\\t"].iter().find_map(|escape| Some((escape, rest.strip_prefix(escape)?)))
            {
                plain.push(match *escape {
                    "\\n" => b'\n',
                    "\\r" => b'\r',
                    _ => b'\t',
                });
                (None, after)
            } else {
                plain.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
                (None, &rest[first.len_utf8()..])
            };
            if let Some(piece) = piece {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(piece);
            }
            rest = after;
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// What goes to standard output, and what to standard error.
    fn fill(&self, facts: &Facts) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut is_error = false;
        for piece in &self.0 {
            let text = match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable(variable) => variable.text(facts).into_bytes(),
                Piece::Field(name) => facts.fields.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default(),
                Piece::Json => {
                    Value::from(Map::from_iter(Variable::all().map(|variable| (variable.name.to_owned(), variable.json(facts)))))
                        .to_string()
                        .into_bytes()
                }
                Piece::HeaderJson => header_json(facts).to_string().into_bytes(),
                Piece::Standard | Piece::Error => {
                    is_error = *piece == Piece::Error;
                    continue;
                }
                Piece::OnError if facts.exit_code == 0 => break,
                Piece::OnError => continue,
            };
            if is_error { &mut err } else { &mut out }.extend_from_slice(&text);
        }
        (out, err)
    }

    pub(super) fn show(&self, facts: &Facts) -> Result<(), CliError> {
        let (out, err) = self.fill(facts);
        output::show_bytes(&err);
        if out.is_empty() { Ok(()) } else { output::result(&out) }
    }
}

fn named_piece(name: &str) -> Result<Piece, String> {
    Ok(match name {
        "json" => Piece::Json,
        "header_json" => Piece::HeaderJson,
        "stdout" => Piece::Standard,
        "stderr" => Piece::Error,
        "onerror" => Piece::OnError,
        name => Piece::Variable(Variable::named(name)?),
    })
}

/// Each name once, in the order of the answer, with all its values.
fn header_json(facts: &Facts) -> Value {
    let text = |value: &http::HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned());
    let of = |name: &http::HeaderName| facts.fields.get_all(name).iter().map(text).collect::<Vec<_>>();
    Value::from(Map::from_iter(facts.fields.keys().map(|name| (name.to_string(), Value::from(of(name))))))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn facts() -> Facts {
        let mut facts = Facts::new("https://a.test/".into(), "client1".into(), "otp".into());
        facts.status = Some(200);
        facts.fields.append("x-a", HeaderValue::from_static("1"));
        facts.fields.append("x-a", HeaderValue::from_static("2"));
        facts
    }

    fn filled(text: &str, facts: &Facts) -> (String, String) {
        let (out, err) = WriteOut::parse(text).expect("a format").fill(facts);
        (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    #[test]
    fn a_format_is_read_as_curl_reads_it() {
        for (text, expected) in [
            (r"%{http_code}\n", "200\n"),
            ("100%% %{method}", "100% GET"),
            (r"a\tb\r\n\\x", "a\tb\r\n\\\\x"),
            ("%header{X-A}|%header{x-b}|", "1||"),
            ("%{header_json}", r#"{"x-a":["1","2"]}"#),
            ("é%{kid}%", "éclient1%"),
            ("%{open", "%{open"),
        ] {
            assert_eq!(filled(text, &facts()).0, expected, "{text}");
        }
        let why = WriteOut::parse("%{http_cod}").expect_err("no such variable");
        assert!(why.contains("http_cod") && why.contains("http_code"), "{why}");
    }

    #[test]
    fn what_is_for_standard_error_and_for_failures_goes_there() {
        let text = "a%{stderr}b%{stdout}c%{onerror}d%{exitcode}";
        assert_eq!(filled(text, &facts()), ("ac".into(), "b".into()));
        let failed = Facts { exit_code: 69, status: None, ..facts() };
        assert_eq!(filled(text, &failed), ("acd69".into(), "b".into()));
        assert_eq!(filled("%{http_code} %{response_code}", &failed).0, "000 000");
    }

    #[test]
    fn json_has_every_variable() {
        let json: Value = serde_json::from_str(&filled("%{json}", &facts()).0).expect("JSON");
        assert_eq!(json.as_object().expect("an object").len(), Variable::all().count());
        assert_eq!((&json["http_code"], &json["server_proven"], &json["content_type"]), (&200.into(), &Value::Null, &Value::Null));
    }
}
