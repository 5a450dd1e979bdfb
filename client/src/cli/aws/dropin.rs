//! Called by the name of the Go original, the client takes its flags: profiles that name it go on working.

use std::ffi::OsString;
use std::path::Path;

/// The name to be called by.
const NAME: &str = "aws-tpm-process-credential";

/// The handle that the original takes where no key is named.
const DEFAULT_HANDLE: &str = "0x81008003";

/// The arguments of `aws process` for those of the original. Go takes `-x` and `--x`, and a value after `=` or as the next word; flags of its own kind are
/// switches, which take a value after `=` only.
pub(crate) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["ekm-otp-client", "aws", "process"].map(OsString::from).into();
    let mut names_key = false;
    for word in given.skip(1) {
        let Some(text) = word.to_str() else {
            words.push(word);
            continue;
        };
        let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-').filter(|rest| rest.len() > 1));
        let Some(flag) = flag else {
            words.push(word);
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        names_key |= ["credential-file", "persistentHandle"].contains(&name) && value != Some("");
        // An empty value is Go's default for text: as if it was not given.
        if value == Some("") {
            continue;
        }
        let name = match name {
            // There it bounds the TPM's answer.
            "timeout" => "tpm-timeout",
            "version" => return vec!["ekm-otp-client".into(), "--version".into()],
            name => name,
        };
        words.push(match value {
            Some(value) => format!("--{name}={value}").into(),
            None => format!("--{name}").into(),
        });
    }
    if !names_key {
        words.push(format!("--persistentHandle={DEFAULT_HANDLE}").into());
    }
    words
}

/// Whether the program was called by that name.
pub(crate) fn is_called(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_go_original_become_ours() {
        let given =
            "x -aws-region=us-east-1 --aws-session-name mysession -assumeRole=false -timeout=2s --credential-file=/k.pem --aws-arn=";
        let words = arguments(given.split(' ').map(OsString::from));
        let expected = "ekm-otp-client aws process --aws-region=us-east-1 --aws-session-name mysession --assumeRole=false --tpm-timeout=2s \
                        --credential-file=/k.pem";
        assert_eq!(words, expected.split(' ').map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_key_it_is_the_one_at_the_originals_handle() {
        let words = arguments(["x", "--aws-access-key-id=AKIA"].map(OsString::from).into_iter());
        assert_eq!(words.last().map(|word| word == "--persistentHandle=0x81008003"), Some(true));
    }
}
