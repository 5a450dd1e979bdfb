//! The reader of key files: an input is the file's text, or the DER inside it, so that mutations need not get through base64.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ekm_otp_tpm::{KeyFile, Parent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let is_text = input.starts_with(b"-----BEGIN");
    let text = if is_text { String::from_utf8_lossy(input).into_owned() } else { pem(input) };
    let Ok(file) = KeyFile::from_pem(&text) else { return };

    assert_eq!(text.matches("-----BEGIN TSS2 PRIVATE KEY-----").count(), 1, "one key was read of several");

    // What is read can be written, and reads back as the same.
    let written = file.to_pem().expect("a file that was read can be written");
    let again = KeyFile::from_pem(&written).expect("what we write ourselves");
    assert_eq!(again.parent(), file.parent());
    assert_eq!(again.description(), file.description());
    assert_eq!(again.describe(), file.describe());
    assert_eq!(again.private_blob(), file.private_blob());
    assert_eq!(again.public_blob(), file.public_blob());
    assert_eq!(again.to_pem().expect("as before"), written);

    if let Parent::Persistent(handle) = file.parent() {
        assert_eq!(handle >> 24, 0x81, "0x{handle:08x} is no persistent handle");
    }
    if !is_text {
        // Both blobs stand in the file as they are read, and so does the text.
        let holds = |part: &[u8]| part.is_empty() || input.windows(part.len()).any(|window| window == part);
        assert!(holds(&file.private_blob()), "another private area");
        assert!(holds(&file.public_blob().expect("a public area")), "another public area");
        assert!(holds(file.description().unwrap_or_default().as_bytes()), "another description");
    }
});

fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN TSS2 PRIVATE KEY-----\n".to_owned();
    for line in der.chunks(48) {
        text += &STANDARD.encode(line);
        text.push('\n');
    }
    text + "-----END TSS2 PRIVATE KEY-----\n"
}
