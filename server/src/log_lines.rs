//! What a log line looks like. Written by hand, since there is one for each request: the usual formatter costs more than the request's check.

use std::cell::RefCell;
use std::fmt::{self, Debug, Write as _};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime as _;
use tracing_subscriber::layer::Context;

use crate::log_queue::LogQueue;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Makes lines of events and queues them. Spans are passed over: this program has none.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) format: LogFormat,
    pub(crate) has_colours: bool,
    pub(crate) queue: LogQueue,
}

/// The field whose value stands without its name.
const MESSAGE: &str = "message";

thread_local! {
    static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers { line: Vec::new(), second: u64::MAX, date: String::new() }) };
}

struct Buffers {
    line: Vec<u8>,
    /// The second, since 1970, that `date` is of.
    second: u64,
    /// `2026-11-26T23:59:59`
    date: String,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.write(*event.metadata().level(), event.metadata().target(), |fields| event.record(fields));
    }
}

impl Lines {
    /// Queues one line, whatever the filter says. A line within another line's own making is passed over.
    pub(crate) fn write(&self, level: Level, target: &str, fields: impl FnOnce(&mut Fields<'_>)) {
        self.queue_line(|line, buffers| match self.format {
            LogFormat::Text => {
                self.begin_text(line, buffers, level, target);
                fields(&mut Fields { line, format: LogFormat::Text, is_first: true });
            }
            LogFormat::Json => {
                begin_json(line, buffers, level);
                fields(&mut Fields { line, format: LogFormat::Json, is_first: true });
                line.extend_from_slice(b"},\"target\":");
                json_value(line, target);
                line.push(b'}');
            }
        });
    }

    /// Queues one line that is a JSON object of the time and these fields, and nothing else.
    pub(crate) fn write_object(&self, fields: impl FnOnce(&mut Fields<'_>)) {
        self.queue_line(|line, buffers| {
            line.extend_from_slice(b"{\"time\":\"");
            buffers.time(line);
            line.push(b'"');
            fields(&mut Fields { line, format: LogFormat::Json, is_first: false });
            line.push(b'}');
        });
    }

    /// Queues what `make` makes.
    fn queue_line(&self, make: impl FnOnce(&mut Vec<u8>, &mut Buffers)) {
        BUFFERS.with(|buffers| {
            if let Ok(mut buffers) = buffers.try_borrow_mut() {
                let mut line = std::mem::take(&mut buffers.line);
                line.clear();
                make(&mut line, &mut buffers);
                line.push(b'\n');
                self.queue.push(&line);
                buffers.line = line;
            }
        });
    }

    fn begin_text(&self, line: &mut Vec<u8>, buffers: &mut Buffers, level: Level, target: &str) {
        let (level, colour) = match level {
            Level::ERROR => ("ERROR", "31"),
            Level::WARN => (" WARN", "33"),
            Level::INFO => (" INFO", "32"),
            Level::DEBUG => ("DEBUG", "34"),
            Level::TRACE => ("TRACE", "35"),
        };
        buffers.time(line);
        if self.has_colours {
            let _ = write!(line, " \x1b[{colour}m{level}\x1b[0m ");
        } else {
            line.push(b' ');
            line.extend_from_slice(level.as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(target.as_bytes());
        line.push(b':');
    }
}

fn begin_json(line: &mut Vec<u8>, buffers: &mut Buffers, level: Level) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    buffers.time(line);
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(level.as_str().as_bytes());
    line.extend_from_slice(b"\",\"fields\":{");
}

impl Buffers {
    /// RFC 3339, in UTC, to the microsecond.
    fn time(&mut self, line: &mut Vec<u8>) {
        let mut now = since_1970();
        while now.as_secs() != self.second {
            self.date.clear();
            let _ = tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut self.date));
            self.date.truncate("2026-11-26T23:59:59".len());
            self.second = now.as_secs();
            // It was formatted in this second, unless the next one has begun meanwhile.
            now = since_1970();
        }
        line.extend_from_slice(self.date.as_bytes());
        let mut digits = *b".000000Z";
        let mut rest = now.subsec_micros();
        for digit in digits[1..7].iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        line.extend_from_slice(&digits);
    }
}

fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A line's fields: ` message name=value …`, or `"message":"…","name":value,…`.
pub(crate) struct Fields<'a> {
    line: &'a mut Vec<u8>,
    format: LogFormat,
    is_first: bool,
}

impl Fields<'_> {
    /// A text, whatever it holds: no value can forge a line or a field, or steer a terminal.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@+%".contains(&byte);
        match self.format {
            LogFormat::Json => json_value(self.line, value),
            LogFormat::Text if name == MESSAGE => drop(OneLine(self.line).write_str(value)),
            LogFormat::Text if !value.is_empty() && value.bytes().all(is_plain) => self.line.extend_from_slice(value.as_bytes()),
            LogFormat::Text => drop(write!(self.line, "{value:?}")),
        }
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let mut digits = [0; 20];
        let (mut at, mut rest) = (digits.len(), value);
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.line.extend_from_slice(&digits[at..]);
    }

    /// What shows itself, such as an address.
    pub(crate) fn shown(&mut self, name: &str, value: impl fmt::Display) {
        self.debug(name, &format_args!("{value}"));
    }

    fn debug(&mut self, name: &str, value: &dyn Debug) {
        self.name(name);
        // Writing to a buffer does not fail; a value that cannot be shown is shown as far as it can.
        match self.format {
            LogFormat::Text => drop(write!(OneLine(self.line), "{value:?}")),
            LogFormat::Json => json_value(self.line, format_args!("{value:?}")),
        }
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Text => {
                self.line.push(b' ');
                if name != MESSAGE {
                    self.line.extend_from_slice(name.as_bytes());
                    self.line.push(b'=');
                }
            }
            LogFormat::Json => {
                if !std::mem::take(&mut self.is_first) {
                    self.line.push(b',');
                }
                json_value(self.line, name);
                self.line.push(b':');
            }
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.debug(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field.name());
        let _ = write!(self.line, "{value}");
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field.name());
        let _ = write!(self.line, "{value}");
    }
}

/// Lets no value forge a line, or steer a terminal.
struct OneLine<'a>(&'a mut Vec<u8>);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            self.0.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        for character in text.chars() {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default()).map_err(|_| fmt::Error)?;
            } else {
                self.0.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}

fn json_value(line: &mut Vec<u8>, value: impl serde::Serialize) {
    let _ = serde_json::to_writer(line, &value);
}
