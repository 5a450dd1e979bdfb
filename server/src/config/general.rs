//! What holds for all sites: who is taken for how long, over which TLS, and what is logged.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use ekm_otp::{KeyId, Profile, TlsPolicy};
use serde::Deserialize;

use crate::log_lines::LogFormat;
use crate::logging;
use crate::settings::{Mistakes, Settings, one_or_many};

#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(super) struct GeneralSettings {
    /// Realm shown in challenges [default: ekm-otp]
    #[arg(long, help_heading = "Registry and credentials")]
    realm: Option<String>,
    /// How far clocks may differ where tokens are checked, in seconds, 0 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry and credentials")]
    leeway: Option<u64>,
    /// File key: `profiles`. Wire that is spoken; repeat for more; v1 always is. go is that of the Go original, for keys with `profile = "go"` in
    /// the registry, and weaker: the server proves nothing to the client, the server's name is not covered, a token is bound to the
    /// connection, not to the request or the time; its secrets are often weak [default: v1]
    #[arg(long = "profile", hide_short_help = true, value_name = "PROFILE", value_parser = PossibleValuesParser::new(Profile::ALL.map(Profile::as_str)), help_heading = "Compatibility")]
    #[serde(deserialize_with = "one_or_many")]
    profiles: Vec<String>,
    /// With the profile go: the key id that its JWS are checked with; they name none
    #[arg(long, hide_short_help = true, value_name = "KID", help_heading = "Compatibility")]
    go_default_kid: Option<String>,
    /// Take TLS 1.2 too, with extended master secret and without resumption
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "TLS")]
    tls12: Option<bool>,
    /// Refuse every key exchange but X25519MLKEM768
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "TLS")]
    require_post_quantum: Option<bool>,
    /// How long a connection lives at most, in seconds [default: 3600]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    max_age: Option<NonZeroU64>,
    /// How long connections may take to finish after SIGTERM or SIGINT, in seconds; a second signal cuts them [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    drain: Option<u64>,
    /// What to log, as tracing's filters write it: info, debug, ekm_otp_tower=debug,… [default: info]
    #[arg(long, value_name = "FILTER", env = "EKM_OTP_LOG", help_heading = "Log")]
    pub(super) log: Option<String>,
    /// How to log [default: text]
    #[arg(long, value_enum, help_heading = "Log")]
    log_format: Option<LogFormat>,
    /// Log the credential of each connection once it is closed. For demonstrations
    #[arg(long, hide_short_help = true, help_heading = "Log")]
    #[serde(skip)]
    unsafe_show_otp: bool,
}

impl Settings for GeneralSettings {
    fn relative_to(&mut self, _: &Path) {}
}

/// The same, complete.
#[derive(Debug)]
pub(crate) struct General {
    pub(crate) realm: String,
    pub(crate) leeway: Duration,
    /// Whether the profile `go` is on.
    pub(crate) go: bool,
    pub(crate) go_default_kid: Option<KeyId>,
    pub(crate) tls: TlsPolicy,
    pub(crate) max_age: Duration,
    pub(crate) drain: Duration,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) show_otp: bool,
}

impl GeneralSettings {
    pub(super) fn resolve(self, mistakes: &mut Mistakes) -> General {
        let realm = self.realm.unwrap_or_else(|| "ekm-otp".to_owned());
        if !realm.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            mistakes.add("realm", "a realm consists of printable ASCII");
        }
        let leeway = self.leeway.unwrap_or(60);
        if leeway > 600 {
            mistakes.add("leeway", format!("{leeway}: at most 600 seconds, else no token would ever be too old"));
        }
        let mut profiles = Vec::new();
        for (at, text) in self.profiles.iter().enumerate() {
            match text.parse::<Profile>() {
                Ok(profile) => profiles.push(profile),
                Err(e) => mistakes.add_at("profiles", at, e.to_string()),
            }
        }
        let go = profiles.contains(&Profile::Go);
        if go && !profiles.contains(&Profile::V1) {
            mistakes.add("profiles", "go: v1 is always spoken, so name it too (--profile v1 --profile go)");
        }
        if self.go_default_kid.is_some() && !go {
            mistakes.add("go_default_kid", "the profile go is not switched on (--profile v1 --profile go)");
        }
        let go_default_kid =
            self.go_default_kid.and_then(|kid| KeyId::new(&kid).map_err(|e| mistakes.add("go_default_kid", e.to_string())).ok());
        let log = self.log.unwrap_or_else(|| "info".to_owned());
        if let Err(why) = logging::filter(&log) {
            mistakes.add("log", why);
        }
        General {
            realm,
            leeway: Duration::from_secs(leeway),
            go,
            go_default_kid,
            tls: TlsPolicy { tls12: self.tls12.unwrap_or(false), require_post_quantum: self.require_post_quantum.unwrap_or(false) },
            max_age: Duration::from_secs(self.max_age.map_or(3600, NonZeroU64::get)),
            drain: Duration::from_secs(self.drain.unwrap_or(30)),
            log,
            log_format: self.log_format.unwrap_or_default(),
            show_otp: self.unsafe_show_otp,
        }
    }
}
