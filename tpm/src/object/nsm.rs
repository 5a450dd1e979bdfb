//! What the Nitro Security Module is asked and answers, in CBOR (RFC 8949), as AWS's `aws-nitro-enclaves-nsm-api` writes and reads it.

/// What an attestation document is to carry, beside what the TPM knows itself. AWS takes at most 1 KiB of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NitroRequest {
    /// The public key that an answer is to be encrypted to: SubjectPublicKeyInfo in DER for KMS.
    pub public_key: Option<Vec<u8>>,
    /// Whatever its reader is to know.
    pub user_data: Option<Vec<u8>>,
    /// What its reader chose, so that no older document will do.
    pub nonce: Option<Vec<u8>>,
}

/// Why a NitroTPM gave no attestation document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NitroError {
    /// It is another TPM.
    #[error(
        "this TPM makes no attestation documents: only the NitroTPM of an EC2 instance whose image was registered with `--tpm-support v2.0` does \
         [0x{0:x}]"
    )]
    NotNitro(u32),
    /// What was asked for is refused, with the reason as the service names it.
    #[error("the NitroTPM refuses: {0}{hint}", hint = hint(.0))]
    Refused(String),
    /// What is asked for does not fit.
    #[error("public key, user data and nonce are too long for an attestation document: AWS takes at most 1 KiB of each")]
    TooLong,
    /// The answer is no answer.
    #[error("the NitroTPM's answer is not of the form that is known here")]
    Answer,
}

fn hint(reason: &str) -> &'static str {
    match reason {
        "InputTooLarge" => ": public key, user data and nonce may have 1 KiB each",
        "InvalidArgument" => ": one of public key, user data and nonce is not what it takes",
        "BufferTooSmall" => ": its document does not fit",
        _ => "",
    }
}

impl NitroRequest {
    /// `{"Attestation": {"user_data": …, "nonce": …, "public_key": …}}`, null for what is not there.
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = head(5, 1);
        text(&mut bytes, "Attestation");
        bytes.extend(head(5, 3));
        for (name, value) in [("user_data", &self.user_data), ("nonce", &self.nonce), ("public_key", &self.public_key)] {
            text(&mut bytes, name);
            match value {
                None => bytes.push(0xf6),
                Some(value) => {
                    bytes.extend(head(2, value.len()));
                    bytes.extend_from_slice(value);
                }
            }
        }
        bytes
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(head(3, text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

/// A major type and its argument, in the shortest form (RFC 8949, 4.2.1).
fn head(major: u8, argument: usize) -> Vec<u8> {
    let major = major << 5;
    match (u8::try_from(argument), u16::try_from(argument)) {
        (Ok(small @ 0..24), _) => vec![major | small],
        (Ok(byte), _) => vec![major | 24, byte],
        (_, Ok(short)) => [&[major | 25][..], &short.to_be_bytes()].concat(),
        _ => [&[major | 27][..], &(argument as u64).to_be_bytes()].concat(),
    }
}

/// The document of `{"Attestation": {"document": …}}`, or the reason of `{"Error": …}`. What follows it in the buffer is not part of it.
pub(crate) fn document_in(answer: &[u8]) -> Result<Vec<u8>, NitroError> {
    let (Item::Map(answer), _) = item(answer, 0).ok_or(NitroError::Answer)? else { return Err(NitroError::Answer) };
    match answer.into_iter().next() {
        Some((Item::Text(name), Item::Map(members))) if name == "Attestation" => {
            let document = members.into_iter().find(|(name, _)| *name == Item::Text("document".to_owned()));
            match document.map(|(_, document)| document) {
                Some(Item::Bytes(document)) if !document.is_empty() => Ok(document),
                _ => Err(NitroError::Answer),
            }
        }
        Some((Item::Text(name), Item::Text(reason))) if name == "Error" && reason.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Err(NitroError::Refused(reason))
        }
        _ => Err(NitroError::Answer),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Item {
    Bytes(Vec<u8>),
    Text(String),
    Map(Vec<(Item, Item)>),
    /// A number, or nothing.
    Other,
}

/// An item and what follows it: the kinds that answers are made of, none deeper than they are.
fn item(bytes: &[u8], depth: u8) -> Option<(Item, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (major, short) = (first >> 5, first & 0x1f);
    let (argument, mut rest) = match short {
        0..24 => (Some(usize::from(short)), rest),
        24 => (Some(usize::from(*rest.first()?)), &rest[1..]),
        25 => rest.split_first_chunk().map(|(n, rest)| (Some(usize::from(u16::from_be_bytes(*n))), rest))?,
        26 => rest.split_first_chunk().map(|(n, rest)| (usize::try_from(u32::from_be_bytes(*n)).ok(), rest))?,
        27 => rest.split_first_chunk().map(|(n, rest)| (usize::try_from(u64::from_be_bytes(*n)).ok(), rest))?,
        31 if major == 5 => (None, rest),
        _ => return None,
    };
    match (major, argument) {
        (2, Some(len)) => rest.split_at_checked(len).map(|(these, rest)| (Item::Bytes(these.to_vec()), rest)),
        (3, Some(len)) => {
            let (these, rest) = rest.split_at_checked(len)?;
            Some((Item::Text(String::from_utf8(these.to_vec()).ok()?), rest))
        }
        (5, count) if depth < 3 => {
            let mut members = Vec::new();
            loop {
                if count == Some(members.len()) {
                    return Some((Item::Map(members), rest));
                }
                // "break", which ends a map of unknown length.
                if let (None, [0xff, after @ ..]) = (count, rest) {
                    return Some((Item::Map(members), after));
                }
                let (name, after) = item(rest, depth + 1)?;
                let (value, after) = item(after, depth + 1)?;
                members.push((name, value));
                rest = after;
            }
        }
        (0 | 1 | 7, Some(_)) => Some((Item::Other, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: cbor2.dumps({"Attestation": {"user_data": None, "nonce": b"n" * 24, "public_key": b"k" * 256}})
    #[test]
    fn a_request_is_what_cbor2_makes_of_it() {
        let request = NitroRequest { public_key: Some(vec![b'k'; 256]), nonce: Some(vec![b'n'; 24]), user_data: None };
        let expected =
            [&b"\xa1\x6bAttestation\xa3\x69user_data\xf6\x65nonce\x58\x18"[..], &[b'n'; 24], b"\x6apublic_key\x59\x01\x00", &[b'k'; 256]];
        assert_eq!(request.to_cbor(), expected.concat());
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        let document = [&b"\xa1\x6bAttestation\xa1\x68document\x44abcd"[..], &[0xff; 100]].concat();
        assert_eq!(document_in(&document), Ok(b"abcd".to_vec()));
        assert_eq!(document_in(b"\xbf\x6bAttestation\xbf\x68document\x44abcd\xff\xff"), Ok(b"abcd".to_vec()));
        assert_eq!(document_in(b"\xa1\x65Error\x6dInputTooLarge"), Err(NitroError::Refused("InputTooLarge".into())));
    }

    #[test]
    fn what_is_no_answer_is_refused_and_takes_no_memory() {
        let faulty: [&[u8]; 10] = [
            b"",
            &[0xff; 64],
            b"\xa1\x6bAttestation\xa1\x68document\x45abcd",
            b"\xa1\x6bAttestation\xa1\x68document\x40",
            b"\xa1\x6bAttestation\xa1\x68document\x64abcd",
            b"\xa1\x6bAttestation\xa1\x68document\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x00",
            b"\xa1\x65Error\x64\x1b[0m",
            b"\xa1\x6aDescribeNS\xa0",
            b"\xa1\xa1\xa1\xa1\xa1\xa1\xa1\x00",
        ];
        for answer in faulty {
            assert_eq!(document_in(answer), Err(NitroError::Answer), "{answer:x?}");
        }
    }
}
