//! `-d`, `--data-binary`, `--data-raw`, `--data-urlencode` and `--json`: one body of several pieces, in the order in which they are given, as curl
//! makes it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::body::{Body, Part};
use super::input::Input;
use crate::cli::CliError;

/// How a piece is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, or a file without its line ends.
    Lines,
    /// As it is, or a file as it is.
    Binary,
    /// As it is, whatever it begins with.
    Raw,
    /// Percent-encoded.
    UrlEncoded,
    /// As it is, or a file as it is; nothing goes between two of them.
    Json,
}

/// The flags, with what they are called and told as.
const FLAGS: [(Kind, &str, &str); 5] = [
    (
        Kind::Lines,
        "data",
        "Send this (POST unless -X says otherwise), as a form does: application/x-www-form-urlencoded. @FILE is that file without its line ends, @- \
         standard input. Several are joined by &, in their order, with those of the flags below",
    ),
    (Kind::Binary, "data-binary", "The same, and a file is sent as it is"),
    (Kind::Raw, "data-raw", "The same, and @ means nothing"),
    (
        Kind::UrlEncoded,
        "data-urlencode",
        "The same, percent-encoded: CONTENT, =CONTENT, NAME=CONTENT, @FILE or NAME@FILE (the name is encoded already)",
    ),
    (
        Kind::Json,
        "json",
        "Send this as JSON: as --data-binary, with Content-Type and Accept application/json. Several are put one behind the other",
    ),
];

/// What the flags are called.
pub(super) fn names() -> [&'static str; 5] {
    FLAGS.map(|(_, name, _)| name)
}

/// What the flags say, in the order of the command line: clap keeps each flag's own values apart.
#[derive(Clone, Debug, Default)]
pub(super) struct DataArgs {
    pub(super) pieces: Vec<(Kind, OsString)>,
}

impl Args for DataArgs {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (kind, name, help)| {
            let arg = Arg::new(*name).long(*name).value_name("DATA").help(*help).help_heading("Body");
            let arg = arg.action(ArgAction::Append).value_parser(value_parser!(OsString)).allow_hyphen_values(true);
            command.arg(if *kind == Kind::Lines { arg.short('d').alias("data-ascii") } else { arg })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DataArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().flat_map(|(kind, name, _)| {
            let values = matches.get_many::<OsString>(name).into_iter().flatten();
            matches.indices_of(name).into_iter().flatten().zip(values.map(|value| (*kind, value.clone())))
        });
        let mut given: Vec<_> = given.collect();
        given.sort_by_key(|(at, _)| *at);
        Ok(Self { pieces: given.into_iter().map(|(_, piece)| piece).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl DataArgs {
    pub(super) fn is_json(&self) -> bool {
        self.pieces.iter().any(|(kind, _)| *kind == Kind::Json)
    }

    /// The body that they make. Files of `--data-binary` and `--json` are read while they are sent; all others, and what can be read once only, now.
    pub(super) async fn body(&self, input: &mut Input) -> Result<Body, CliError> {
        let mut parts = Vec::new();
        for (kind, piece) in &self.pieces {
            if *kind != Kind::Json && !parts.is_empty() {
                parts.push(Part::Bytes(Bytes::from_static(b"&")));
            }
            parts.push(part(*kind, piece, input).await?);
        }
        Ok(Body::new(parts))
    }

    /// The same as a query.
    pub(super) async fn query(&self, input: &mut Input) -> Result<Vec<u8>, CliError> {
        let mut query = Vec::new();
        for part in self.body(input).await?.into_parts() {
            match part {
                Part::Bytes(bytes) => query.extend_from_slice(&bytes),
                Part::File(file) => query.extend_from_slice(&input.whole(file.path()).await?),
                Part::Input => {}
            }
        }
        Ok(query)
    }
}

async fn part(kind: Kind, piece: &OsStr, input: &mut Input) -> Result<Part, CliError> {
    let bytes = piece.as_bytes();
    let file = bytes.strip_prefix(b"@").map(|name| Path::new(OsStr::from_bytes(name)));
    let bytes = match (kind, file) {
        (Kind::Binary | Kind::Json, Some(path)) => return input.file(path).await,
        (Kind::Lines, Some(path)) => {
            let mut text = input.whole(path).await?;
            // curl does so: what remains of a text is one line, and NUL ends nothing.
            text.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
            text
        }
        (Kind::UrlEncoded, _) => url_encoded(bytes, input).await?,
        (Kind::Raw, _) | (_, None) => bytes.to_vec(),
    };
    Ok(Part::Bytes(bytes.into()))
}

/// `CONTENT`, `=CONTENT`, `NAME=CONTENT`, `@FILE`, `NAME@FILE`: whichever of `=` and `@` comes first decides.
async fn url_encoded(piece: &[u8], input: &mut Input) -> Result<Vec<u8>, CliError> {
    let Some(at) = piece.iter().position(|byte| matches!(byte, b'=' | b'@')) else { return Ok(encoded(piece)) };
    let (name, rest) = piece.split_at(at);
    let content = &rest[1..];
    let content =
        if rest.starts_with(b"@") { encoded(&input.whole(Path::new(OsStr::from_bytes(content))).await?) } else { encoded(content) };
    let joint: &[u8] = if name.is_empty() { b"" } else { b"=" };
    Ok([name, joint, &content].concat())
}

/// Everything but the unreserved characters (RFC 3986 §2.3) as %XX, and a space as +, as forms have it (URL Standard, application/x-www-form-urlencoded).
fn encoded(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' => encoded.push(b'+'),
            byte => escape(*byte, &mut encoded),
        }
    }
    encoded
}

/// The byte, or its %XX.
pub(super) fn escape(byte: u8, into: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        into.push(byte);
    } else {
        into.extend_from_slice(format!("%{byte:02X}").as_bytes());
    }
}
