//! The variables of `-w`: curl's, and some of this protocol.

use std::net::SocketAddr;
use std::time::Duration;

use http::Version;
use serde_json::Value;

use super::facts::{Facts, Served};

/// What a variable says.
#[derive(Clone, Copy)]
enum Of {
    Text(fn(&Facts) -> Option<String>),
    Number(fn(&Facts) -> Option<u64>),
    /// Three digits.
    Status,
    /// Seconds, with six digits behind the point.
    Time(fn(&Facts) -> Duration),
    Maybe(fn(&Facts) -> Option<Duration>),
}

/// One variable.
pub(super) struct Variable {
    pub(super) name: &'static str,
    of: Of,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Variable").field(&self.name).finish()
    }
}

impl PartialEq for Variable {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn text(name: &'static str, of: fn(&Facts) -> Option<String>) -> Variable {
    Variable { name, of: Of::Text(of) }
}

const fn number(name: &'static str, of: fn(&Facts) -> Option<u64>) -> Variable {
    Variable { name, of: Of::Number(of) }
}

const fn time(name: &'static str, of: fn(&Facts) -> Duration) -> Variable {
    Variable { name, of: Of::Time(of) }
}

static ALL: &[Variable] = &[
    text("content_type", |facts| facts.content_type().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())),
    text("credential", |facts| Some(facts.credential.clone())),
    text("errormsg", |facts| facts.error.clone()),
    number("exitcode", |facts| Some(facts.exit_code.into())),
    text("filename_effective", |facts| facts.file_name.clone()),
    Variable { name: "http_code", of: Of::Status },
    text("http_version", |facts| served(facts).map(|served| version(served.version).to_owned())),
    text("kid", |facts| Some(facts.kid.clone())),
    text("local_ip", |facts| served(facts)?.local.map(|address| address.ip().to_string())),
    number("local_port", |facts| served(facts)?.local.as_ref().map(SocketAddr::port).map(u64::from)),
    Variable { name: "mac_time", of: Of::Maybe(|facts| served(facts).map(|served| served.mac_time)) },
    text("method", |facts| Some(facts.method.to_string())),
    number("num_connects", |facts| Some(facts.connections.len() as u64)),
    number("num_headers", |facts| Some(facts.fields.len() as u64)),
    number("num_redirects", |facts| Some(facts.redirects)),
    number("num_retries", |facts| Some(facts.retries)),
    text("redirect_url", |facts| facts.redirect_url.clone()),
    text("referer", |facts| facts.referer.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())),
    text("remote_ip", |facts| served(facts)?.remote.map(|address| address.ip().to_string())),
    number("remote_port", |facts| served(facts)?.remote.as_ref().map(SocketAddr::port).map(u64::from)),
    Variable { name: "response_code", of: Of::Status },
    text("scheme", |_| Some("HTTPS".to_owned())),
    number("server_proven", |facts| served(facts).map(|served| u64::from(served.is_proven))),
    number("size_download", |facts| Some(facts.size_download)),
    number("size_header", |facts| Some(facts.size_header)),
    number("size_upload", |facts| Some(facts.size_upload)),
    number("speed_download", |facts| Some(speed(facts.size_download, facts))),
    number("speed_upload", |facts| Some(speed(facts.size_upload, facts))),
    number("ssl_verify_result", |_| Some(0)),
    time("time_appconnect", |facts| facts.times.app_connect),
    time("time_connect", |facts| facts.times.connect),
    time("time_namelookup", |facts| facts.times.name_lookup),
    time("time_pretransfer", |facts| facts.times.pre_transfer),
    time("time_redirect", |facts| facts.times.redirect),
    time("time_starttransfer", |facts| facts.times.start_transfer),
    time("time_total", |facts| facts.times.total),
    text("tls_cipher", |facts| served(facts).map(|served| served.cipher.clone())),
    text("tls_group", |facts| served(facts).map(|served| served.group.clone())),
    text("tls_version", |facts| served(facts).map(|served| served.tls_version.clone())),
    text("url", |facts| Some(facts.url.clone())),
    text("url_effective", |facts| Some(facts.url_effective.clone())),
    number("urlnum", |_| Some(0)),
];

impl Variable {
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        ALL.iter()
    }

    pub(super) fn named(name: &str) -> Result<&'static Self, String> {
        Self::all().find(|variable| variable.name == name).ok_or_else(|| {
            let nearest = Self::all().map(|variable| variable.name).max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
            format!("there is no variable {name} here. Is it {}? docs/command-line.md has all", nearest.unwrap_or_default())
        })
    }

    pub(super) fn text(&self, facts: &Facts) -> String {
        match self.of {
            Of::Text(of) => of(facts).unwrap_or_default(),
            Of::Number(of) => of(facts).map(|number| number.to_string()).unwrap_or_default(),
            Of::Status => format!("{:03}", facts.status.unwrap_or_default()),
            Of::Time(of) => seconds(of(facts)),
            Of::Maybe(of) => of(facts).map(seconds).unwrap_or_default(),
        }
    }

    /// What is not known is null.
    pub(super) fn json(&self, facts: &Facts) -> Value {
        match self.of {
            Of::Text(of) => of(facts).into(),
            Of::Number(of) => of(facts).into(),
            Of::Status => facts.status.unwrap_or_default().into(),
            Of::Time(of) => of(facts).as_secs_f64().into(),
            Of::Maybe(of) => of(facts).map(|time| time.as_secs_f64()).into(),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.6}", time.as_secs_f64())
}

fn served(facts: &Facts) -> Option<&Served> {
    facts.served.as_ref()
}

/// Bytes in a second.
fn speed(bytes: u64, facts: &Facts) -> u64 {
    let microseconds = facts.times.total.as_micros().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}

pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
