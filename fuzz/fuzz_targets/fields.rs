//! The field codec: an input is the fields of one header section, a line each, given to all three readers.
#![no_main]

use std::sync::LazyLock;

use ekm_otp::field::{AuthenticationInfo, Challenge, Credential, CredentialError, Presented};
use ekm_otp::{Derivation, Ekm, KeyId, Otp, Secret, ServerName, ServerProof};
use libfuzzer_sys::fuzz_target;

/// The longest field that a reader takes (docs/protocol.md, section 8), and the longest credential with a password.
const MAX_FIELD_LEN: usize = 4096;
const MAX_OTP_CREDENTIAL_LEN: usize = 227;

/// Password and proof of the vector `base`, which most seeds hold.
static BASE: LazyLock<(Otp, ServerProof)> = LazyLock::new(|| {
    let ekm = Ekm::from_bytes(std::array::from_fn(|i| i as u8));
    let kid = KeyId::new("client1").expect("a key id");
    let derivation = Derivation::new(&ekm, &kid, &ServerName::from_host("server.example").expect("a name"));
    let secret = Secret::new((0xa0..0xc0).collect()).expect("a secret");
    let tag = secret.mac(derivation.mac_input());
    let prk = derivation.finish(tag);
    assert_eq!(*prk.otp().encode(), "Fb34j8Q3xCxCH3UEDg3AsHGxDd7BH370jfH_MRf14D4", "testdata/v1/vectors.json");
    (prk.otp(), prk.server_proof())
});

fuzz_target!(init: LazyLock::force(&BASE), |input: &[u8]| {
    let fields: Vec<&[u8]> = if input.is_empty() { Vec::new() } else { input.split(|b| *b == b'\n').collect() };
    credential(&fields);
    authentication_info(&fields);
    challenge(&fields);
});

fn credential(fields: &[&[u8]]) {
    fn read(field: &[u8]) -> Result<Credential<'_>, CredentialError> {
        Credential::read([field])
    }
    let Ok(credential) = Credential::read(fields.iter().copied()) else {
        // Nothing that a longer field could heal.
        assert!(fields.len() != 1 || read(&padded(fields[0], fields[0].len() + 1)).is_err());
        return;
    };
    let [field] = *fields else { panic!("{} fields were read as one credential", fields.len()) };
    in_bounds(field);

    // It is what the field says.
    let text = unescaped(field);
    assert!(contains(&text, credential.kid.as_str()) && contains(&text, &credential.channel.encode()));
    if let Presented::Otp(presented) = &credential.presented
        && BASE.0.verify(presented)
    {
        assert!(contains(&text, &BASE.0.encode()));
    }

    // It can be written again, and says the same.
    let written = Credential::write(&credential.kid, &credential.channel, &BASE.0);
    assert!(written.len() <= MAX_OTP_CREDENTIAL_LEN);
    let again = read(written.as_bytes()).expect("what we write ourselves");
    assert!(again.kid == credential.kid && again.channel.matches(&credential.channel));
    assert!(matches!(&again.presented, Presented::Otp(otp) if BASE.0.verify(otp)));

    // White space and empty elements change nothing, up to the limit.
    let long = padded(field, MAX_FIELD_LEN);
    let longest = read(&long).expect("a field of 4096 bytes");
    assert!(longest.kid == credential.kid && longest.channel.matches(&credential.channel));
    assert_eq!(format!("{:?}", longest.presented), format!("{:?}", credential.presented));
    assert!(read(&padded(field, MAX_FIELD_LEN + 1)).is_err(), "a field of 4097 bytes was read");

    assert!(Credential::read([field, field]).is_err(), "two fields were read");
    for more in [", Kid=client1", ", otp=x", ", jws=x", ", jwe=x", ", x", ", x=\"", ", x=\"\x07\"", ", x=y z=y"] {
        assert!(read(&[field, more.as_bytes()].concat()).is_err(), "with {more:?} behind it, it was read");
    }
}

fn authentication_info(fields: &[&[u8]]) {
    #[derive(Debug, PartialEq)]
    enum Is {
        Absent,
        Base,
        Other,
        Malformed,
    }
    let read = |fields: &[&[u8]]| match AuthenticationInfo::read(fields.iter().copied()) {
        AuthenticationInfo::Absent => Is::Absent,
        AuthenticationInfo::Proof(proof) if BASE.1.verify(&proof) => Is::Base,
        AuthenticationInfo::Proof(_) => Is::Other,
        _ => Is::Malformed,
    };
    let is = read(fields);

    // The order of fields says nothing, nor does a field without a proof. A malformed one spoils all.
    let reversed: Vec<&[u8]> = fields.iter().rev().copied().collect();
    assert_eq!(read(&reversed), is);
    let with = |field: &[u8]| read(&[fields, &[field]].concat());
    assert_eq!(with(b"nextnonce=x"), is);
    assert_eq!(with(b"proof"), Is::Malformed);
    assert_eq!(with(&padded(b"", MAX_FIELD_LEN + 1)), Is::Malformed);
    // Exactly one proof: ours is read where there was none, and is one too many where there was one.
    let ours = AuthenticationInfo::write(&BASE.1);
    assert_eq!(with(ours.as_bytes()), if is == Is::Absent { Is::Base } else { Is::Malformed });

    if is != Is::Malformed {
        fields.iter().for_each(|field| in_bounds(field));
    }
    if is == Is::Base {
        assert!(fields.iter().any(|field| contains(&unescaped(field), &BASE.1.encode())));
    }
}

fn challenge(fields: &[&[u8]]) {
    let read = |field: &[u8]| Challenge::read([field]);
    let challenge = Challenge::read(fields.iter().copied());
    // The first field that holds one counts: neither what is malformed before it nor what comes behind it.
    assert_eq!(challenge, fields.iter().find_map(|field| read(field)));
    if let Some(challenge) = &challenge {
        written_is_read(challenge);
        let field = fields.iter().find(|field| read(field).is_some()).expect("one of them");
        assert_eq!(read(&padded(field, MAX_FIELD_LEN)).as_ref(), Some(challenge));
        assert_eq!(read(&padded(field, MAX_FIELD_LEN + 1)), None, "a field of 4097 bytes was read");
    }
    // Any text as realm and error.
    let text = |i: usize| fields.get(i).map(|field| String::from_utf8_lossy(field).into_owned());
    written_is_read(&Challenge { realm: text(0).unwrap_or_default(), error: text(1) });
}

fn written_is_read(challenge: &Challenge) {
    let texts = [Some(&challenge.realm), challenge.error.as_ref()];
    let is_printable = texts.into_iter().flatten().all(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    let written = challenge.write();
    assert_eq!(written.is_ok(), is_printable);
    // A realm that just fits as a token is too long as a quoted-string.
    if let Ok(written) = written
        && written.len() <= MAX_FIELD_LEN
    {
        assert_eq!(Challenge::read([written.as_bytes()]).as_ref(), Some(challenge));
    }
}

/// What holds for each field of which every byte was read.
fn in_bounds(field: &[u8]) {
    assert!(field.len() <= MAX_FIELD_LEN, "a field of {} bytes was read", field.len());
    assert!(field.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)), "a control character was read");
}

/// With commas and white space behind it, `len` bytes in all.
fn padded(field: &[u8], len: usize) -> Vec<u8> {
    let padding = b" \t,".iter().cycle().take(len - field.len());
    field.iter().chain(padding).copied().collect()
}

/// Without the backslashes of quoted-pairs: values stand in it as they are read.
fn unescaped(field: &[u8]) -> Vec<u8> {
    field.iter().copied().filter(|b| *b != b'\\').collect()
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}
