//! `-F` and `--form-string`: a form with files (multipart/form-data, RFC 7578), whose files are read while they are sent.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use http::HeaderValue;

use super::body::{Body, Part};
use super::form_field::{Field, Source};
use super::input::Input;
use crate::cli::CliError;

/// What the flags say, in the order of the command line.
#[derive(Clone, Debug, Default)]
pub(super) struct FormArgs {
    pub(super) fields: Vec<Field>,
}

impl Args for FormArgs {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str| {
            let arg = Arg::new(name).long(name).value_name("NAME=CONTENT").help_heading("Body");
            arg.action(ArgAction::Append).value_parser(value_parser!(OsString)).conflicts_with_all(super::data::names())
        };
        let form = flag("form").short('F').help(
            "A field of a form (POST, multipart/form-data). NAME=@FILE sends a file with its name and media type, NAME=<FILE the text of one; - is \
             standard input. ;type=MEDIA/TYPE and ;filename=NAME behind it say otherwise",
        );
        command.arg(form).arg(flag("form-string").help("A field of a form whose content is just that: @, < and ; mean nothing"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FormArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = ["form", "form-string"].into_iter().flat_map(|name| {
            let values = matches.get_many::<OsString>(name).into_iter().flatten();
            matches.indices_of(name).into_iter().flatten().zip(values.map(move |value| (name, value)))
        });
        let mut given: Vec<_> = given.collect();
        given.sort_by_key(|(at, _)| *at);
        let read = |(_, (name, text)): (usize, (&str, &OsString))| {
            Field::read(text.as_bytes(), name == "form-string")
                .map_err(|why| clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("--{name} {}: {why}\n", text.display())))
        };
        Ok(Self { fields: given.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl FormArgs {
    /// The body, and the Content-Type that tells its boundary.
    pub(super) async fn body(&self, input: &mut Input) -> Result<(Body, HeaderValue), CliError> {
        let boundary = boundary()?;
        let mut parts = Vec::new();
        for field in &self.fields {
            let (head, content) = match &field.source {
                Source::Text(text) => (field.head(None), Part::Bytes(text.clone().into())),
                Source::File(path) => {
                    let name = Path::new(path).file_name().unwrap_or(path).as_bytes();
                    (field.head(Some(name)), input.file(Path::new(path)).await?)
                }
                Source::TextOf(path) => (field.head(None), input.file(Path::new(path)).await?),
            };
            let start = [b"--".as_slice(), boundary.as_bytes(), b"\r\n", &head, b"\r\n"].concat();
            parts.extend([Part::Bytes(start.into()), content, Part::Bytes("\r\n".into())]);
        }
        parts.push(Part::Bytes(format!("--{boundary}--\r\n").into()));
        let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        Ok((Body::new(parts), content_type.map_err(|e| CliError::Other(e.to_string()))?))
    }
}

/// Nobody can have put it into a file on purpose, and it is in none by chance.
fn boundary() -> Result<String, CliError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| CliError::Other(format!("no random number: {e}")))?;
    Ok(format!("------------------------{:032x}", u128::from_be_bytes(random)))
}
