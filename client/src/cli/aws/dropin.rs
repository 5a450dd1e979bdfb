//! Called by the name of the Go original, the client takes its flags: profiles that name it go on working.

use std::ffi::OsString;
use std::path::Path;

/// The name to be called by.
const NAME: &str = "aws-tpm-process-credential";

/// The handle that the original takes where no key is named.
const DEFAULT_HANDLE: &str = "0x81008003";

/// Flags that take no word after them.
const SWITCHES: [&str; 3] = ["assumeRole", "useEKParent", "version"];

/// The arguments of `aws process` for those of the original. Go takes `-x` and `--x`, and a value after `=` or as the next word; switches take one after `=`
/// only.
pub(crate) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["ekm-otp-client", "aws", "process"].map(OsString::from).into();
    let (mut names_key, mut says_role) = (false, false);
    let mut given = given.skip(1);
    while let Some(word) = given.next() {
        let flag =
            word.to_str().and_then(|text| text.strip_prefix("--").or_else(|| text.strip_prefix('-').filter(|rest| !rest.is_empty())));
        let Some(flag) = flag.map(str::to_owned) else {
            words.push(word);
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None if SWITCHES.contains(&flag.as_str()) => (flag.as_str(), None),
            None => (flag.as_str(), given.next()),
        };
        let Some(value) = value else {
            if name == "version" {
                return vec!["ekm-otp-client".into(), "--version".into()];
            }
            says_role |= name == "assumeRole";
            words.push(format!("--{name}").into());
            continue;
        };
        // Go's default for text: as if it was not given.
        if value.is_empty() {
            continue;
        }
        names_key |= ["credential-file", "persistentHandle"].contains(&name);
        says_role |= name == "assumeRole";
        let (name, value) = match name {
            // There it bounds the TPM's answer.
            "timeout" => ("tpm-timeout", value),
            "persistentHandle" => (name, handle(value)),
            name => (name, value),
        };
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        words.push(word);
    }
    if !says_role {
        words.push("--assumeRole=false".into());
    }
    if !names_key {
        words.push(format!("--persistentHandle={DEFAULT_HANDLE}").into());
    }
    words
}

/// Go reads numbers in decimal digits, too.
fn handle(value: OsString) -> OsString {
    let text = value.to_str().unwrap_or_default();
    match (text.strip_prefix("0X"), text.parse::<u32>()) {
        (Some(digits), _) => format!("0x{digits}").into(),
        (None, Ok(number)) if text.len() > 8 => format!("0x{number:08x}").into(),
        _ => value,
    }
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
        let expected = "ekm-otp-client aws process --aws-region=us-east-1 --aws-session-name=mysession --assumeRole=false --tpm-timeout=2s \
                        --credential-file=/k.pem";
        assert_eq!(words, expected.split(' ').map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        let words = |given: &[&str]| arguments(given.iter().map(OsString::from)).split_off(3);
        assert_eq!(words(&["x", "--persistentHandle", "2164293635", "--assumeRole"]), ["--persistentHandle=0x81008003", "--assumeRole"]);
        assert_eq!(
            words(&["x", "-persistentHandle=0X81010002", "--keypass", "-pw"]),
            ["--persistentHandle=0x81010002", "--keypass=-pw", "--assumeRole=false"]
        );
        assert_eq!(words(&["x", "--credential-file", ""]), ["--assumeRole=false", "--persistentHandle=0x81008003"]);
        assert_eq!(arguments(["x", "--version"].map(OsString::from).into_iter()).len(), 2);
    }

    #[test]
    fn without_a_key_it_is_the_one_at_the_originals_handle() {
        let words = arguments(["x", "--aws-access-key-id=AKIA"].map(OsString::from).into_iter());
        assert_eq!(words.last().map(|word| word == "--persistentHandle=0x81008003"), Some(true));
    }
}
