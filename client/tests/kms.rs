//! Secrets that KMS keeps: against a KMS of our own in Python, which lets botocore verify signatures and OpenSSL make its messages, with boto3 as the one who encrypts, and
//! against moto. All names, keys and secrets are test data.

#![cfg(feature = "cloud")]

mod common;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::cloud::{Peer, Running, control, failed, python};
use common::kms::{DECRYPT, ID, PLAINTEXT, SECRET, client, decrypt, encrypt, kms, output, user};
use common::{Bench, CLIENT, succeeds, text, write_private};
use serde_json::Value;

const APP: &str = "arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111";

#[test]
fn what_boto3_encrypts_is_decrypted_and_the_other_way_round() {
    let bench = Bench::new();
    let kms = kms(&bench, &[]);
    // Each byte counts, and none is added.
    for plaintext in [PLAINTEXT.as_bytes(), b"\0\xff\n", &[b'x'; 4096]] {
        encrypt(&bench, &kms, plaintext);
        let made = output(user(&bench, &kms).args(DECRYPT).args(["--key-id", "alias/app"]));
        succeeds(&made);
        assert_eq!(made.stdout, plaintext);
    }
    let mut made = user(&bench, &kms)
        .args(["kms", "encrypt", "--key-id", APP, "--context", "app=web", "--out", "ours.kms"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the client");
    made.stdin.take().expect("its input").write_all(PLAINTEXT.as_bytes()).expect("writing");
    assert!(made.wait().expect("its end").success());
    let code = "
import boto3, sys
kms = boto3.client('kms', 'eu-west-1', endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])
print(kms.decrypt(CiphertextBlob=open('ours.kms', 'rb').read(), EncryptionContext={'app': 'web'})['Plaintext'].decode())
";
    let opened = python(code, &[&kms.url("http"), ID, SECRET], &[], bench.swtpm.dir());
    assert_eq!(text(&opened.stdout).trim_end(), PLAINTEXT, "{}", text(&opened.stderr));
    // As the AWS CLI prints it.
    write_private(&bench.path("plain"), PLAINTEXT);
    let made = output(user(&bench, &kms).args(["kms", "encrypt", "--key-id", "alias/app", "--plaintext", "plain", "--base64"]));
    fs::write(bench.path("base64.kms"), succeeds(&made)).expect("writing");
    assert_eq!(succeeds(&output(user(&bench, &kms).args(["kms", "decrypt", "--ciphertext", "base64.kms"]))), PLAINTEXT);
}

#[test]
fn credentials_come_from_the_tpm_from_a_profile_from_the_environment_and_from_what_serves_them() {
    let bench = Bench::new();
    // The session that the STS makes first.
    let session = ["--session", "ASIATESTTESTTEST0001", "test data, secret of session 1", "test/data/token/1=="];
    let kms = kms(&bench, &session);
    let sts = Peer::start("aws/sts.py", &[], bench.swtpm.dir());
    encrypt(&bench, &kms, PLAINTEXT.as_bytes());
    kms.told();
    write_private(&bench.path("key.secret"), SECRET);
    let made = bench.client(&["key", "import", "--kid", ID, "--aws-secret-file", "key.secret", "--out", "aws.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let (there, own) = (kms.url("http"), ["--aws-access-key-id", ID, "--key", "aws.pem"]);
    let role = ["--aws-arn", "arn:aws:iam::123456789012:role/app"];
    let asked = |command: &mut Command| {
        let key = ["--key-id", APP, "--endpoint", &there];
        assert_eq!(succeeds(&output(command.args(key).env("AWS_ENDPOINT_URL_STS", sts.url("http")))), PLAINTEXT);
        kms.told()[0].split(' ').nth(1).expect("who").to_owned()
    };
    // The key in the TPM signs by itself, and assumes a role. What the environment says does not count.
    assert_eq!(asked(decrypt(&bench).args(own).env("AWS_ACCESS_KEY_ID", "AKIAOTHEROTHEROTHER0")), ID);
    assert!(sts.told().is_empty(), "nothing else was asked");
    assert_eq!(asked(decrypt(&bench).args(own).args(role)), session[1]);
    // Profiles.
    fs::create_dir(bench.path(".aws")).expect("a folder");
    let configured = format!(
        "[default]\nregion = eu-west-1\n[profile made]\ncredential_process = sh -c \"cat 'made.json'\"\n[profile tpm]\ncredential_process = {CLIENT} aws process --cache \
         --aws-access-key-id {ID} --key aws.pem --aws-arn {}\n[profile other]\nrole_arn = x\n",
        role[1]
    );
    fs::write(bench.path(".aws/config"), configured).expect("writing");
    let written = format!("[default]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n");
    fs::write(bench.path(".aws/credentials"), written).expect("writing");
    let made = serde_json::json!({ "Version": 1, "AccessKeyId": session[1], "SecretAccessKey": session[2], "SessionToken": session[3] });
    fs::write(bench.path("made.json"), made.to_string()).expect("writing");
    assert_eq!(asked(&mut decrypt(&bench)), ID);
    assert_eq!(asked(decrypt(&bench).env("AWS_PROFILE", "made")), session[1]);
    assert_eq!(asked(decrypt(&bench).env("AWS_PROFILE", "default").args(["--profile", "made"])), session[1]);
    let refused = |command: &mut Command| failed(&output(command.args(["--key-id", APP, "--endpoint", &there])));
    let (code, told) = refused(decrypt(&bench).env("AWS_PROFILE", "other"));
    assert!(code == Some(64) && told.contains("role_arn") && told.contains("export-credentials"), "{told}");
    let (code, told) = refused(decrypt(&bench).env("AWS_PROFILE", "none"));
    assert!(code == Some(64) && told.contains("no profile none"), "{told}");
    // The environment goes before a profile that it names.
    let of_session = [("AWS_ACCESS_KEY_ID", session[1]), ("AWS_SECRET_ACCESS_KEY", session[2]), ("AWS_SESSION_TOKEN", session[3])];
    assert_eq!(asked(decrypt(&bench).envs(of_session).env("AWS_PROFILE", "none")), session[1]);
    let (code, told) = refused(decrypt(&bench).env("AWS_ACCESS_KEY_ID", ID));
    assert!(code == Some(64) && told.contains("AWS_SECRET_ACCESS_KEY"), "{told}");
    // None at all.
    fs::remove_dir_all(bench.path(".aws")).expect("removing");
    let (code, told) = refused(&mut decrypt(&bench));
    assert!(code == Some(64) && told.contains("no credentials") && told.contains("--profile"), "{told}");
    // What `aws serve` hands out: as a container's, and as an instance's. The STS begins anew, so that its first session is the one that is known.
    let sts = Peer::start("aws/sts.py", &[], bench.swtpm.dir());
    let mut serving = client(&bench);
    serving.args(["aws", "serve", "--port", "0", "--token-file", "token", "--endpoint", &sts.url("http")]).args(own).args(role);
    let serving = Running::start(&mut serving, 3);
    let (instance, container): (Vec<_>, Vec<_>) = serving.variables().into_iter().partition(|(name, _)| name.starts_with("AWS_EC2"));
    assert_eq!(asked(decrypt(&bench).envs(container).env("AWS_REGION", "eu-west-1")), session[1]);
    assert_eq!(asked(decrypt(&bench).env_remove("AWS_EC2_METADATA_DISABLED").envs(instance)), session[1]);
}

#[test]
fn refusals_say_what_to_do() {
    let bench = Bench::new();
    let kms = kms(&bench, &[]);
    encrypt(&bench, &kms, PLAINTEXT.as_bytes());
    let with = |flags: &[&str]| {
        let flags: Vec<_> = ["kms", "decrypt", "--ciphertext", "secret.kms"].iter().chain(flags).copied().collect();
        failed(&output(user(&bench, &kms).args(flags)))
    };
    let right = ["--context", "app=web"];
    for (flags, code, words) in [
        (&["--context", "app=other"][..], 77, &["InvalidCiphertextException", "--context"][..]),
        (&[], 77, &["InvalidCiphertextException", "--context"]),
        (&["--context", "app=web", "--key-id", "alias/other"], 77, &["IncorrectKeyException", "another key"]),
        (&["--context", "app=web", "--key-id", "alias/none"], 77, &["NotFoundException", "--aws-region"]),
        (&["--context", "app=web", "--context", "app=x"], 64, &["twice"]),
        (&["--context", "web"], 64, &["NAME=VALUE"]),
        (&["--key-id", APP, "--aws-region", "us-east-1"], 64, &["eu-west-1", "us-east-1"]),
        (&["--endpoint", "http://kms.example.test"], 64, &["only https"]),
    ] {
        let made = output(user(&bench, &kms).args(["kms", "decrypt", "--ciphertext", "secret.kms"]).args(flags));
        let told = text(&made.stderr);
        assert!(made.status.code() == Some(code) && words.iter().all(|word| told.contains(word)), "{flags:?}: {told}");
    }
    // Nobody is there: that is told at once, and not as a time that was too short.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (code, told) = with(&[&right[..], &["--endpoint", &format!("http://{nobody}")]].concat());
    assert!(code == Some(69) && told.contains("Connection refused") && !told.contains("within"), "{told}");
    // Whose signature it is.
    let mut other = user(&bench, &kms);
    other.args(["kms", "decrypt", "--ciphertext", "secret.kms"]).args(right);
    let (code, told) = failed(&output(other.env("AWS_SECRET_ACCESS_KEY", "another")));
    assert!(code == Some(77) && told.contains("InvalidSignatureException") && told.contains("another secret"), "{told}");
    let (code, told) = failed(&output(other.env("AWS_ACCESS_KEY_ID", "AKIAUNKNOWNUNKNOWN00")));
    assert!(code == Some(77) && told.contains("UnrecognizedClientException") && told.contains("no such access key"), "{told}");
    // What passes is tried again; what does not is told.
    let fail = |answers: &str| control(&kms, &format!(r#"{{"fail": [{answers}]}}"#));
    fail(r#"[400, "{\"__type\": \"ThrottlingException\"}", {}], [503, "{\"__type\": \"DependencyTimeoutException\"}", {}]"#);
    assert_eq!(succeeds(&output(user(&bench, &kms).args(DECRYPT))), PLAINTEXT);
    for (answer, code, word) in [
        (r#"[400, "{\"__type\": \"com.amazonaws.kms#DisabledException\", \"message\": \"off\"}", {}]"#, 77, "enable-key"),
        (r#"[400, "", {"x-amzn-ErrorType": "KMSInvalidStateException:http://x/"}]"#, 77, "about to be deleted"),
        (r#"[400, "nonsense", {}]"#, 77, "400 Bad Request"),
        (r#"[302, "{\"Plaintext\": \"b3Blbg==\"}", {}]"#, 77, "neither an answer nor a refusal"),
        (r#"[200, "nonsense", {}]"#, 1, "something else"),
        (r#"[200, "{}", {}]"#, 1, "something else than a plaintext"),
        (r#"[200, "{\"Plaintext\": \"b3Blbg\"}", {}]"#, 1, "not base64"),
        (r#"[200, "{\"Plaintext\": 1}", {}]"#, 1, "something else"),
    ] {
        fail(answer);
        let (told_code, told) = with(&right);
        assert!(told_code == Some(code) && told.contains(word) && !told.contains("b3Blbg"), "{answer}: {told}");
    }
    // What is advised is to be had: an encryption has no recipient.
    fail(r#"[400, "{\"__type\": \"AccessDeniedException\"}", {}]"#);
    write_private(&bench.path("plain"), "x");
    let (code, told) = failed(&output(user(&bench, &kms).args(["kms", "encrypt", "--key-id", "alias/app", "--plaintext", "plain"])));
    assert!(code == Some(77) && told.contains("kms:Encrypt") && !told.contains("--recipient"), "{told}");
    // Another key than the one that is named has made it.
    let answer = r#"[200, "{\"Plaintext\": \"b3Blbg==\", \"KeyId\": \"arn:aws:kms:eu-west-1:123456789012:key/22222222\"}", {}]"#;
    for key in [APP, "11111111-1111-1111-1111-111111111111"] {
        fail(answer);
        let (code, told) = with(&[&right[..], &["--key-id", key]].concat());
        assert!(code == Some(1) && told.contains("it has used"), "{told}");
    }
}

#[test]
fn what_kms_does_not_take_is_not_sent() {
    let bench = Bench::new();
    let kms = kms(&bench, &[]);
    for (length, word) in [(0, "1 to 4096"), (4097, "more than 4096")] {
        write_private(&bench.path("plain"), &"x".repeat(length));
        let (code, told) = failed(&output(user(&bench, &kms).args(["kms", "encrypt", "--key-id", "alias/app", "--plaintext", "plain"])));
        assert!(code == Some(64) && told.contains(word), "{told}");
    }
    for length in [0, 6145, 20000] {
        fs::write(bench.path("secret.kms"), vec![1; length]).expect("writing");
        let (code, told) = failed(&output(user(&bench, &kms).args(DECRYPT)));
        assert!(code == Some(64), "{told}");
    }
    assert!(kms.told().is_empty());
    // A secret that others can read is one no more.
    write_private(&bench.path("plain"), "x");
    fs::set_permissions(bench.path("plain"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let (code, told) = failed(&output(user(&bench, &kms).args(["kms", "encrypt", "--key-id", "alias/app", "--plaintext", "plain"])));
    assert!(code == Some(77) && told.contains("others can read"), "{told}");
}

#[test]
fn a_kms_that_ignores_the_recipient_is_refused_and_its_plaintext_never_shown() {
    let bench = Bench::new();
    let moto = Peer::start("aws/moto_server.py", &[], bench.swtpm.dir());
    let user: Value = serde_json::from_str(&moto.first).expect("JSON");
    let there = format!("http://127.0.0.1:{}", user["port"]);
    let (id, secret) = (user["id"].as_str().expect("an id"), user["secret"].as_str().expect("a secret"));
    let code = "
import boto3, sys
kms = boto3.client('kms', 'eu-west-1', endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])
key = kms.create_key()['KeyMetadata']['Arn']
open('secret.kms', 'wb').write(kms.encrypt(KeyId=key, Plaintext=sys.argv[4].encode())['CiphertextBlob'])
print(key)
";
    let made = python(code, &[&there, id, secret, PLAINTEXT], &[], bench.swtpm.dir());
    assert!(made.status.success(), "{}", text(&made.stderr));
    let (made, mut decrypt) = (text(&made.stdout), client(&bench));
    decrypt.args(["kms", "decrypt", "--ciphertext", "secret.kms", "--endpoint", &there, "--key-id", made.trim()]);
    decrypt.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret).env("RUST_LOG", "trace");
    assert_eq!(succeeds(&output(&mut decrypt)), PLAINTEXT, "moto verifies the signature, and decrypts");
    fs::write(bench.path("document"), "whatever").expect("writing");
    let (code, told) = failed(&output(decrypt.args(["--attestation-document", "document"])));
    assert!(code == Some(1) && told.contains("it sent the plaintext as it is"), "{told}");
    assert!(!told.contains(PLAINTEXT) && !told.contains("b3BlbiBz"), "{told}");
}
