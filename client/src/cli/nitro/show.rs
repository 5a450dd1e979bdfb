//! `nitro show`: what a document claims.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use ekm_otp_attestation::nitro::Document;

use super::super::encoded;
use super::super::error::CliError;
use super::super::moment::utc;
use super::super::output::{self, note};
use super::super::shown::{hex, printable, shown};

/// A document has 64 KiB at most; in hexadecimal digits, or base64 in lines, it is longer.
pub(super) const MAX_FILE: usize = 256 * 1024;

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// File with the document: as it is (CBOR), in base64, or in hexadecimal digits; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    document: PathBuf,
    /// As JSON: all fields, byte strings in hexadecimal digits
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: ShowArgs) -> Result<(), CliError> {
    let document = read(&args.document).await?;
    if args.json {
        json(&document.to_json())?
    } else {
        output::result(table(&document).as_bytes())?
    }
    note!("ekm-otp-client: nothing of this is proven: nitro verify tells who has signed it");
    Ok(())
}

/// A file with a document.
pub(super) async fn read(path: &Path) -> Result<Document, CliError> {
    let bytes = encoded::decoded(encoded::read(path, MAX_FILE).await?);
    let name = shown(path);
    Document::decode(&bytes).map_err(|e| CliError::Usage(format!("{name}: not an attestation document: {e}")))
}

/// For people: one field a line, a register a line.
pub(super) fn table(document: &Document) -> String {
    let mut table = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(table, "{name:<12} {value}");
    };
    line("kind", &document.kind().to_string());
    line("module", &printable(document.module_id()));
    let made = UNIX_EPOCH.checked_add(Duration::from_millis(document.timestamp()));
    line("made", &made.map_or_else(|| "a time of no calendar".to_owned(), utc));
    line("digest", &printable(document.digest()));
    for (name, value) in [("public key", document.public_key()), ("user data", document.user_data()), ("nonce", document.nonce())] {
        line(name, &value.map_or_else(|| "none".to_owned(), with_text));
    }
    for (number, value) in document.pcrs() {
        let remark = match value {
            value if value.iter().all(|byte| *byte == 0) => "  (nothing was measured)",
            value if value.iter().all(|byte| *byte == 0xff) => "  (not in use)",
            _ => "",
        };
        line(&format!("PCR{number}"), &format!("{}{remark}", hex(value)));
    }
    line(
        "chain",
        &format!("{} certificates from the root, and the leaf of {} bytes", document.cabundle().len(), document.certificate().len()),
    );
    for (name, value) in document.others() {
        line(&printable(name), &printable(&value.to_json().to_string()));
    }
    table
}

/// What is text is shown as such, too.
fn with_text(bytes: &[u8]) -> String {
    let digits = hex(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(|c| !c.is_control() || c == '\n') => format!("{digits}  ({:?})", text),
        _ => digits,
    }
}

/// In lines, for people, too.
pub(super) fn json(value: &serde_json::Value) -> Result<(), CliError> {
    output::line(&format!("{value:#}"))
}
