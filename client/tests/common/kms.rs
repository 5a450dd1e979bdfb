//! A KMS, what boto3 encrypts with it, and the client as its user. All names, keys and secrets are test data.

use std::fs;
use std::process::{Command, Output, Stdio};

use super::cloud::{Peer, python};
use super::{Bench, text};

pub const ID: &str = "AKIATESTTESTTESTTEST";
pub const SECRET: &str = "test/data/only+0123456789abcdefghijklmno";
pub const PLAINTEXT: &str = "open sesame";

pub fn kms(bench: &Bench, flags: &[&str]) -> Peer {
    Peer::start("aws/kms.py", flags, bench.swtpm.dir())
}

/// The client in the folder, with nothing of this machine's own credentials.
pub fn client(bench: &Bench) -> Command {
    let mut client = super::client();
    client.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("HOME", bench.swtpm.dir());
    for name in ["AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        client.env_remove(name);
    }
    client.env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    client
}

/// The client as a user whose access key is in the environment.
pub fn user(bench: &Bench, kms: &Peer) -> Command {
    let mut client = client(bench);
    client.env("AWS_ACCESS_KEY_ID", ID).env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_REGION", "eu-west-1");
    client.env("AWS_ENDPOINT_URL_KMS", kms.url("http"));
    client
}

/// `kms decrypt`, of what [`encrypt`] makes.
pub fn decrypt(bench: &Bench) -> Command {
    let mut client = client(bench);
    client.args(DECRYPT);
    client
}

pub fn output(command: &mut Command) -> Output {
    command.output().expect("the client")
}

/// What boto3 encrypts, in `secret.kms`.
pub fn encrypt(bench: &Bench, kms: &Peer, plaintext: &[u8]) {
    fs::write(bench.path("plain"), plaintext).expect("writing");
    let code = "
import boto3, sys
kms = boto3.client('kms', 'eu-west-1', endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])
made = kms.encrypt(KeyId='alias/app', Plaintext=open('plain', 'rb').read(), EncryptionContext={'app': 'web'})
open('secret.kms', 'wb').write(made['CiphertextBlob'])
";
    let made = python(code, &[&kms.url("http"), ID, SECRET], &[], bench.swtpm.dir());
    assert!(made.status.success(), "{}", text(&made.stderr));
}

pub const DECRYPT: [&str; 6] = ["kms", "decrypt", "--ciphertext", "secret.kms", "--context", "app=web"];
