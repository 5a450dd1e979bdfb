//! A NitroTPM that is none, and a KMS that wants its state. All names, keys and secrets are test data.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use ekm_otp_swtpm::NitroTpm;
use sha2::{Digest as _, Sha384};

use super::Bench;
use super::cloud::{PYTHON, Peer, testdata};
use super::kms::{DECRYPT, PLAINTEXT, encrypt, user};

/// A machine with a NitroTPM, a KMS whose key's policy wants its state, and a ciphertext in `secret.kms`.
pub struct Machine {
    pub bench: Bench,
    pub kms: Peer,
    pub at: String,
}

pub fn nsm(at: &str, words: &[&str], input: &[u8]) -> Vec<u8> {
    let mut python = Command::new(&*PYTHON);
    python.arg("-B").arg(testdata("attestation/nsm.py")).arg(at).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("Python");
    python.stdin.take().expect("its input").write_all(input).expect("writing");
    let made = python.wait_with_output().expect("Python");
    assert!(made.status.success(), "{words:?}");
    made.stdout
}

/// A register, as the documents have it.
pub fn register(number: u8) -> String {
    Sha384::digest(format!("register {number}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Machine {
    /// The policy wants these registers.
    pub fn new(registers: &[(u8, &str)], flags: &[&str]) -> Self {
        let bench = Bench::new();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs().to_string();
        fs::write(bench.path("root.der"), nsm(&at, &["root"], b"")).expect("writing");
        let name = |number: &u8| format!("kms:RecipientAttestation:NitroTPMPCR{number}");
        let wanted: serde_json::Map<_, _> = registers.iter().map(|(number, value)| (name(number), (*value).into())).collect();
        let policy = serde_json::json!({ "Effect": "Allow", "Action": "kms:Decrypt", "Condition": { "StringEqualsIgnoreCase": wanted } });
        fs::write(bench.path("policy.json"), policy.to_string()).expect("writing");
        let kms = Peer::start("aws/kms.py", &[&["--root", "root.der", "--policy", "policy.json"], flags].concat(), bench.swtpm.dir());
        encrypt(&bench, &kms, PLAINTEXT.as_bytes());
        kms.told();
        Self { bench, kms, at }
    }

    /// Its policy wants what it is.
    pub fn right(flags: &[&str]) -> Self {
        Self::new(&[(4, &register(4)), (7, &register(7).to_uppercase())], flags)
    }

    /// The NitroTPM, which answers with what `words` say.
    pub fn nitro(&self, words: &'static [&'static str]) -> NitroTpm {
        let (at, folder) = (self.at.clone(), self.bench.swtpm.dir().to_owned());
        NitroTpm::on(&self.bench.swtpm, move |request| {
            let words: Vec<_> = words.iter().map(|word| word.replace("FOLDER", folder.to_str().expect("UTF-8"))).collect();
            let words: Vec<_> = std::iter::once("answer").chain(words.iter().map(String::as_str)).collect();
            nsm(&at, &words, request)
        })
    }

    /// `kms decrypt`, with this TPM.
    pub fn decrypt(&self, tcti: &str, flags: &[&str]) -> Command {
        let mut client = user(&self.bench, &self.kms);
        client.args(DECRYPT).args(["--key-id", "alias/app"]).args(flags).env("TPM2TOOLS_TCTI", tcti);
        client
    }

    pub fn is_clean(&self) {
        let handles = ["handles-transient", "handles-loaded-session", "handles-saved-session", "handles-nv-index", "handles-persistent"];
        assert!(handles.iter().all(|kind| self.bench.swtpm.tool("tpm2_getcap", &[kind]).is_empty()));
    }
}
